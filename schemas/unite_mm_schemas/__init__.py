"""Pydantic models of everything unite-mm reads and writes. Imports neither torch nor unite_mm."""
