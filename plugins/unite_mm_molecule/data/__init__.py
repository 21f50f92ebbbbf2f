"""Molecules as data sets: sources, checks, the prepared cache, batches."""
