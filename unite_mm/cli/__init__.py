"""The command line. Modules import what is heavy inside their commands, so that help appears at once."""
