"""Molecules: QM9 and molecules of your own. Import nothing here: discovery must stay free of implementations."""
