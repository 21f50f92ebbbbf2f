"""Molecules that grow around a given part: what the part is, and the makeshift molecules that it is tokenized in."""
