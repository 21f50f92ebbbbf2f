"""Checkpoint folders, exports and foreign checkpoints."""
