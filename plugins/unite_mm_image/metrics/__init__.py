"""How images are scored: features, distances, references."""
