"""Sample files and pictures of molecules."""
