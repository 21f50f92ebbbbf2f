"""Prepared data sets in the cache: made once, by one process, whole or not at all, and made anew when damaged.

A plugin says where a set lies (`PluginCache.folder`), how to write it and how to read it; `PluginCache.open` does the
rest::

    cache = PluginCache(request, "points")
    folder = cache.folder("mine.csv", [FORMAT, file.sha256, config.size])
    return cache.open(folder, prepare=write_points, load=read_points)
"""

import glob
import hashlib
import json
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.messages import first_line
from unite_mm.progress import Progress
from unite_mm.utils.files import file_sha256, files_in, folder_sha256
from unite_mm_schemas.card import SourceFile

if TYPE_CHECKING:
    from unite_mm.contract import DataRequest

Content = TypeVar("Content")

_KEY = 16
"""Hexadecimal digits of a folder's key."""

_DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, UsageError)
"""What reading a damaged folder raises; Pydantic's errors are ValueErrors."""


class PluginCache:
    """The part of the cache that belongs to one plugin.

    Args:
        request: where the cache lies, whether to prepare anew, and where to show progress.
        name: name of the plugin's folder in the cache.

    Attributes:
        root: the plugin's folder.
        downloads: where its downloads are kept.
    """

    def __init__(self, request: "DataRequest", name: str) -> None:
        self.root: Path = request.cache.expanduser() / name
        self.downloads: Path = self.root / "downloads"
        self._progress: Progress = request.progress
        self._refresh: bool = request.refresh

    def folder(self, source: str, facts: Sequence[Any], *labels: object) -> Path:
        """The folder of a prepared source: `SOURCE-LABEL-...-KEY`, where the key is a hash of the facts.

        Args:
            source: name of the source.
            facts: JSON-able; all that decides what is prepared: version of the layout, content, settings.
            *labels: settings that a reader of the folder's name should see.
        """
        key = hashlib.sha256(json.dumps(list(facts)).encode()).hexdigest()
        return self.root / "-".join((folder_name(source), *map(str, labels), key[:_KEY]))

    def holds(self, source: str) -> bool:
        """Whether a prepared folder of a source is there that has no labels in its name, whatever its facts."""
        pattern = f"{glob.escape(folder_name(source))}-{'[0-9a-f]' * _KEY}"
        return any(folder.is_dir() for folder in self.root.glob(pattern))

    def open(self, folder: Path, prepare: Callable[[Path], None], load: Callable[[Path], Content]) -> Content:
        """The content of a prepared folder, which is made now unless it is there. Two processes at once make it once.

        Args:
            folder: a folder that `folder` named.
            prepare: fills an empty folder beside it, which is then renamed; what it leaves behind when it raises
                is removed.
            load: reads the folder. FileNotFoundError says that there is none. OSError, EOFError, ValueError, KeyError,
                BadZipFile and UsageError say that it is damaged, which is reported.

        Raises:
            UniteError: the cache cannot be written, or what was written cannot be read back.
            Exception: what `prepare` raises, but for OSErrors.
        """
        if not self._refresh and (found := self._load(folder, load)) is not None:
            return found
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_name(f"{folder.name}.lock"), self._progress):
                # Another process may have made it while this one waited.
                if not self._refresh and (found := self._load(folder, load)) is not None:
                    return found
                _make(folder, prepare)
        except OSError as error:
            hint = "Free space, or name another cache folder; nothing was left there."
            raise UniteError(f"cannot write to {self.root}: {error.strerror or error}", hint) from error
        try:
            return load(folder)
        except _DAMAGED as error:
            raise UniteError(
                f"{folder}: cannot be read after it was written: {first_line(error)}", "Check the disk of the cache."
            ) from error

    def _load(self, folder: Path, load: Callable[[Path], Content]) -> Content | None:
        """The content; None where there is none, or a damaged one, which is reported."""
        try:
            return load(folder)
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            self._progress.say(f"{folder}: damaged ({first_line(error)}); preparing again")
            return None


def _make(folder: Path, prepare: Callable[[Path], None]) -> None:
    """Fill a folder aside, then rename it; with the lock held, other leftovers belong to processes that were killed."""
    for leftover in folder.parent.glob(f"{folder.name}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    aside = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex}")
    try:
        aside.mkdir()
        prepare(aside)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold a lock file while data are prepared; say so if another process holds it for more than two seconds.

    Raises:
        OSError: the lock file cannot be made.
    """
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


def describe_file(path: Path) -> SourceFile:
    """Name, size in bytes and SHA-256 of an input file, for the data-set card.

    A folder counts as one file, whose name ends in `/`: its size is that of all its files, and its hash one of their
    names and contents. Hidden files do not count.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        if path.is_dir():
            size = sum(one.stat().st_size for one in files_in(path))
            return SourceFile(name=f"{path.resolve().name}/", bytes=size, sha256=folder_sha256(path))
        return SourceFile(name=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def folder_name(name: str) -> str:
    """The name of a source as part of a folder's name: letters, digits and `._-`, at most 60 of them."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)[:60]
