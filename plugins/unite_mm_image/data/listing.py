"""What lies in a folder or zip file of images, and what its folders say: splits and classes. Opens no image."""

import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import SPLITS
from unite_mm.errors import UsageError
from unite_mm.kit.messages import first_line
from unite_mm_image.data.image_files import CONVERT, SUFFIXES, unread_format
from unite_mm_image.data.limits import Unreadable, check_bytes, need_file
from unite_mm_image.data.splits import LEFT_OUT, UNDECIDED

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Folders (in any case) that stand for splits."""

_LARGE_MEMBER = 1 << 26
"""Bytes of a file in a zip file from which on only one is read at a time."""

_one_at_a_time = threading.Lock()

OUTSIDE_ARCHIVE = "has a name that leads out of the archive"
OUTSIDE_SPLITS = "lies beside the folders of the splits"


@dataclass(frozen=True)
class Listing:
    """The image files of a folder or zip file.

    Attributes:
        paths: names relative to the root, with `/`, in plain order.
        stamps: of each file, something that changes with its content: size and time, or size and checksum.
        members: index of each in the zip file's directory; empty for folders.
        unsafe: names that lead out of the archive.
        others: names of files that are no images by their names.
    """

    paths: tuple[str, ...]
    stamps: tuple[tuple[int, int], ...]
    members: tuple[int, ...] = ()
    unsafe: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """A hash over names and stamps."""
        digest = hashlib.sha256()
        for path, stamp in zip(self.paths, self.stamps, strict=True):
            digest.update(f"{path}\0{stamp[0]}\0{stamp[1]}\n".encode(errors="surrogateescape"))
        digest.update("\n".join(self.unsafe).encode(errors="surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Layout:
    """What the folders say of N images.

    Attributes:
        labels: (N,) int32, index into `classes`; -1 for images that lie in no class folder.
        splits: (N,) uint8, index into `SPLITS`, `UNDECIDED`, or `LEFT_OUT`.
        classes: names of the class folders, in plain order (that of torchvision's ImageFolder).
    """

    labels: NDArray[np.int32]
    splits: NDArray[np.uint8]
    classes: tuple[str, ...] = field(default=())


def list_folder(root: Path) -> Listing:
    """The images under a folder, links followed.

    Raises:
        UsageError: there is none, or the folder cannot be read.
    """
    found: list[tuple[str, tuple[int, int]]] = []
    others: list[str] = []
    try:
        for path, entry in _walk(root, "", frozenset()):
            if path.lower().endswith(SUFFIXES):
                facts = entry.stat(follow_symlinks=entry.is_file())
                found.append((path, (facts.st_size, facts.st_mtime_ns)))
            else:
                others.append(path)
    except OSError as error:
        raise UsageError(f"{root}: cannot be read: {error.strerror or error}") from error
    found.sort()
    _need_images(root, found, others)
    return Listing(tuple(p for p, _ in found), tuple(s for _, s in found), others=tuple(sorted(others)))


def _walk(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Files below a folder; hidden ones, and folders that contain themselves by a link, are passed over."""
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", above | {real})
            else:  # a link that leads nowhere, a pipe or a device of an image's name is an unreadable image
                yield prefix + entry.name, entry


def list_zip(path: Path) -> Listing:
    """The images in a zip file.

    Raises:
        UsageError: it is no readable zip file, or holds no image.
    """
    with open_zip(path) as archive:
        infos = archive.infolist()
    found: list[tuple[str, tuple[int, int], int]] = []
    unsafe: list[str] = []
    others: list[str] = []
    for index, info in enumerate(infos):
        name = info.filename.replace("\\", "/")
        parts = name.split("/")
        if info.is_dir() or any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts):
            continue
        if not name.lower().endswith(SUFFIXES):
            others.append(name)
        elif name.startswith("/") or ".." in parts or ":" in parts[0]:
            unsafe.append(info.filename)
        else:
            found.append((name, (info.file_size, info.CRC), index))
    found.sort()
    _need_images(path, found, others, unsafe)
    names, stamps, members = zip(*found, strict=True)
    return Listing(names, stamps, members, tuple(unsafe), tuple(sorted(others)))


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip file, open for reading.

    Raises:
        UsageError: it is no readable zip file.
    """
    need_file(path)
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory makes zipfile raise nearly anything
        hint = "Get the file again; it may be incomplete."
        raise UsageError(f"{path}: not a readable zip file: {first_line(error)}", hint) from error


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BytesIO:
    """A file in a zip file; large ones one at a time, whatever the number of threads.

    Raises:
        Unreadable: it is too large, damaged, or encrypted.
    """
    check_bytes(info.file_size)
    try:
        with _one_at_a_time if info.file_size > _LARGE_MEMBER else nullcontext():
            return BytesIO(archive.read(info))
    except Exception as error:  # encrypted, cut off, wrong checksum, unknown compression
        raise Unreadable("cannot be read", first_line(error)) from error


def _need_images(root: Path, found: Sequence[object], others: Sequence[str], unsafe: Sequence[str] = ()) -> None:
    if found:
        return
    if unsafe:
        raise UsageError(f"{root}: all {len(unsafe)} images have names that lead out of the archive ({unsafe[0]})")
    instead = f"; it holds {len(others)} other files ({min(others)})" if others else ""
    formats = sorted({unread_format(name) for name in others} - {""})
    hint = f"{' and '.join(formats)} files are not read; {CONVERT}." if formats else ""
    raise UsageError(f"{root}: holds no image{instead}", hint or f"Images end in {', '.join(SUFFIXES)}.")


def arrange(root: Path, paths: Sequence[str]) -> Layout:
    """What the folders of images say: `train/`, `val/`, `test/`, and below or instead a folder for each class.

    Folders around everything are passed over. The class of an image is the first folder below the root or the split.

    Raises:
        UsageError: the folders can be read in two ways, or there are held-out images only.
    """
    parts = [path.split("/") for path in paths]
    while all(len(part) > 2 for part in parts) and len({part[0] for part in parts}) == 1:
        if parts[0][0].lower() in SPLIT_FOLDERS:
            break
        parts = [part[1:] for part in parts]
    splits = np.full(len(parts), UNDECIDED, dtype=np.uint8)
    if _has_splits(root, {part[0] for part in parts if len(part) > 1}):
        for index, part in enumerate(parts):
            given = SPLIT_FOLDERS[part[0].lower()] if len(part) > 1 else None
            splits[index] = LEFT_OUT if given is None else SPLITS.index(given)
        parts = [part[1:] for part in parts]
    folders = [part[0] if len(part) > 1 else None for part in parts]
    classes = tuple(sorted({folder for folder in folders if folder is not None}))
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([-1 if folder is None else number[folder] for folder in folders], dtype=np.int32)
    return Layout(labels, splits, classes)


def _has_splits(root: Path, tops: set[str]) -> bool:
    named = {top for top in tops if top.lower() in SPLIT_FOLDERS}
    kinds = {SPLIT_FOLDERS[top.lower()] for top in named}
    if not named or (len(kinds) == 1 and tops != named):  # one class may well be called `train`
        return False
    if tops != named:
        other = min(tops - named)
        raise UsageError(
            f"{root}: {min(named)}/ looks like a split, {other}/ like a class",
            "Use train/, val/ and test/ alone, with class folders inside, or class folders alone.",
        )
    if "train" not in kinds:
        raise UsageError(
            f"{root}: holds {', '.join(sorted(named))} but no train folder", "Name the training set train/."
        )
    return True
