"""Files that are there whole or not at all: written aside and renamed into place; small inputs; hashes of files."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from unite_mm.errors import UsageError


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
    except OSError as error:
        if error.errno is not None and error.filename in (None, aside, str(aside)):
            # Say the name that was asked for; the hidden one means nothing to a user.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
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


def read_regular_text(path: Path, most: int, name: str = "") -> str:
    """The text of a small file that somebody names; never waits, and never reads more than `most` bytes.

    Args:
        path: the file.
        most: bytes that such a file may have.
        name: what messages call it; empty: its path.

    Raises:
        UsageError: it does not exist, cannot be read, is a pipe, device or folder, too large, or no UTF-8 text.
    """
    name = name or str(path)
    try:
        # Opening a named pipe would wait for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UsageError(f"cannot read {name}: not a regular file", "write its content to a file first")
            content = stream.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise UsageError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > most:
        raise UsageError(f"cannot read {name}: it has more than {most:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text") from error


def check_writable(folder: Path) -> None:
    """Find out whether files can be written to a folder, before any work; missing folders are not made.

    Raises:
        OSError: they cannot.
    """
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    probe = folder / f".{os.getpid()}-probe"
    try:
        probe.touch()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    probe.unlink()


def files_in(folder: Path) -> list[Path]:
    """All files of a folder and its subfolders but hidden ones, sorted by their paths."""
    found = (path for path in folder.rglob("*") if path.is_file())
    visible = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


def folder_sha256(folder: Path) -> str:
    """SHA-256 over the names and contents of `files_in` a folder."""
    digest = hashlib.sha256()
    for path in files_in(folder):
        name = path.relative_to(folder).as_posix()
        digest.update(f"{file_sha256(path)} {name}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
