"""How molecules are scored: validity, reconstruction, generation, distributions."""
