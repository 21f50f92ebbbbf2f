"""Files that are there whole or not at all, written aside and renamed into place; and what caches of data need."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout

from unite_mm.errors import UsageError
from unite_mm_schemas.card import SourceFile

if TYPE_CHECKING:
    from unite_mm.progress import Progress


class SampleWriter(Protocol):
    """What can write native samples: a modality, as far as this module needs to know it."""

    def write(self, samples: Sequence[Any], path: Path) -> None:
        """Write native samples to a file or folder."""
        ...


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


def write_samples(modality: SampleWriter, samples: Sequence[Any], path: Path) -> None:
    """Write native samples to a file or folder, whole or not at all."""
    write_aside(path, lambda aside: modality.write(samples, aside))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""

    def write(aside: Path) -> None:
        aside.write_text(text, encoding="utf-8")

    write_aside(path, write)


@contextmanager
def locked(path: Path, progress: "Progress") -> Iterator[None]:
    """Hold a lock file while data are prepared; say so if another process holds it for long."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=2)
    except Timeout:
        progress.say("waiting for another process that is preparing the same data")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_file(path: Path) -> SourceFile:
    """Name, size and hash of an input file, for the data-set card.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return SourceFile(name=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def folder_name(name: str) -> str:
    """The name of a source as (part of) the name of a folder."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)[:60]
