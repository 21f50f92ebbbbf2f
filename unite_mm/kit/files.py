"""Files that are there whole or not at all: written aside, then renamed into place."""

from unite_mm.utils.files import file_sha256, write_aside, write_text

__all__ = ["file_sha256", "write_aside", "write_text"]
