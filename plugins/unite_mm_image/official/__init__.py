"""Checkpoints of the official UNITE image code, read into models of ours."""
