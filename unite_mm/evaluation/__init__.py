"""Scores of models and files, sweeps, checks of data."""
