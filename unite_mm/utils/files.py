"""Files that are there whole or not at all: written aside and renamed into place; hashes of files."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_aside(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a hidden file (or folder) beside `path`, then rename it into place; missing folders are made.

    An existing file is replaced; an existing folder only if it is empty.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The end of the name stays: it tells the format.
    aside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""

    def write(aside: Path) -> None:
        aside.write_text(text, encoding="utf-8")

    write_aside(path, write)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
