"""Sample files and pictures of images."""
