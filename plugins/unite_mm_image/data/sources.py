"""Sources of images: folders, zip files and arrays of the user's own, and what all sources have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unite_mm.kit.cache import describe_file
from unite_mm.progress import Progress
from unite_mm_image.data.array_files import read_arrays
from unite_mm_image.data.image_files import CONVERT, decode, unread_format
from unite_mm_image.data.limits import need_file
from unite_mm_image.data.listing import (
    OUTSIDE_ARCHIVE,
    OUTSIDE_SPLITS,
    Layout,
    Listing,
    arrange,
    list_folder,
    list_zip,
    open_zip,
    read_member,
)
from unite_mm_image.data.splits import LEFT_OUT, UNDECIDED
from unite_mm_schemas.card import Exclusion, SourceFile

EXAMPLES = 20
"""Names of left-out images that the card tells, for each reason."""


OpenImage = Callable[[int, ExitStack], Image.Image]


@dataclass(frozen=True)
class Items:
    """N images of a source, not yet opened.

    Attributes:
        names: for messages.
        layout: splits and classes.
        open: decodes image i in mode RGB or L; raises `Unreadable`. Called from several threads, with what is closed
            when the image is not needed any more.
        refused: (reason, name) of images that were not even listed; they count as unreadable.
        excluded: other images that are left out; they are among the N, with split `LEFT_OUT`.
        files: input files.
        notes: what a user must know.
        raw: suffix and bytes of the file of image i, as it is; None: they have no files.
    """

    names: Sequence[str]
    layout: Layout
    open: OpenImage
    refused: tuple[tuple[str, str], ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    files: tuple[SourceFile, ...] = ()
    notes: tuple[str, ...] = ()
    raw: Callable[[int], tuple[str, bytes]] | None = None

    def content(self, index: int) -> tuple[str, bytes]:
        """Suffix and bytes of a file that holds image i: its own, or a PNG."""
        if self.raw is not None:
            return self.raw(index)
        with ExitStack() as held:
            file = BytesIO()
            self.open(index, held).save(file, "PNG")
            return ".png", file.getvalue()


class Source(ABC):
    """A recognised source.

    Attributes:
        name: short name for the card.
        title: what the images are, for the line that tables of results repeat.
    """

    name: str
    title: str

    @abstractmethod
    def fingerprint(self) -> str:
        """Something that changes when the content does; cheap.

        Raises:
            UsageError: the source cannot be read or holds no image.
        """

    @abstractmethod
    def items(self, progress: Progress) -> Items:
        """The images; downloads them if need be.

        Raises:
            UsageError: the source cannot be read.
            UniteError: it cannot be downloaded.
        """


class FolderSource(Source):
    """A folder of image files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.resolve().name
        self.title = f"images of {self.name}"

    @cached_property
    def _listing(self) -> Listing:
        return list_folder(self.root)

    def fingerprint(self) -> str:
        return f"{self.root.resolve()} {self._listing.fingerprint()}"

    def items(self, progress: Progress) -> Items:
        del progress
        paths = self._listing.paths

        def open_image(index: int, held: ExitStack) -> Image.Image:
            return decode(self.root / paths[index], held=held)

        def raw(index: int) -> tuple[str, bytes]:
            return raw_file(self.root / paths[index])

        return listed_items(self.root, self._listing, open_image, raw=raw)


class ZipSource(Source):
    """A zip file of image files, read without unpacking it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.title = f"images of {self.name}"

    @cached_property
    def _listing(self) -> Listing:
        return list_zip(self.path)

    def fingerprint(self) -> str:
        return self._listing.fingerprint()  # names, sizes and checksums, as the directory of the archive holds them

    def items(self, progress: Progress) -> Items:
        del progress
        archive = open_zip(self.path)  # stays open while there are images to read; safe for several threads
        infos = archive.infolist()
        members = self._listing.members

        def open_image(index: int, held: ExitStack) -> Image.Image:
            return decode(read_member(archive, infos[members[index]]), held=held)

        def raw(index: int) -> tuple[str, bytes]:
            info = infos[members[index]]
            return _suffix(info.filename), read_member(archive, info).getvalue()

        return listed_items(self.path, self._listing, open_image, (describe_file(self.path),), raw)


class ArraySource(Source):
    """An array `arr_0` (N, H, W, 3 or 1) uint8 in a .npz file, with classes (N,) in `arr_1` if it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.title = f"images of {self.name}"
        need_file(path)
        self._file = describe_file(path)

    def fingerprint(self) -> str:
        return self._file.sha256

    def items(self, progress: Progress) -> Items:
        del progress
        rows, labels = read_arrays(self.path)
        classes = () if labels is None else tuple(str(label) for label in range(int(labels.max()) + 1))
        return array_items(rows, labels, None, classes, files=(self._file,))


def raw_file(path: Path) -> tuple[str, bytes]:
    """Suffix and bytes of an image file."""
    return _suffix(path.name), path.read_bytes()


def _suffix(name: str) -> str:
    return "." + name.lower().rpartition(".")[2]


def listed_items(
    root: Path,
    listing: Listing,
    open_image: OpenImage,
    files: tuple[SourceFile, ...] = (),
    raw: Callable[[int], tuple[str, bytes]] | None = None,
) -> Items:
    """Items of listed files."""
    layout = arrange(root, listing.paths)
    names = [_legible(path) for path in listing.paths]
    beside = np.flatnonzero(layout.splits == LEFT_OUT)
    excluded: tuple[Exclusion, ...] = ()
    if len(beside):
        examples = tuple(names[i] for i in beside[:EXAMPLES])
        excluded = (Exclusion(reason=OUTSIDE_SPLITS, count=len(beside), examples=examples),)
    notes = _passed_over(listing.others)
    refused = tuple((OUTSIDE_ARCHIVE, _legible(name)) for name in listing.unsafe)
    return Items(names, layout, open_image, refused, excluded, files, tuple(notes), raw)


def array_items(
    rows: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    splits: NDArray[np.uint8] | None,
    classes: tuple[str, ...],
    files: tuple[SourceFile, ...] = (),
) -> Items:
    """Items of decoded pixels (N, H, W, C)."""
    layout = Layout(
        np.full(len(rows), -1, dtype=np.int32) if labels is None else labels.astype(np.int32),
        np.full(len(rows), UNDECIDED, dtype=np.uint8) if splits is None else splits,
        classes,
    )

    def open_image(index: int, held: ExitStack) -> Image.Image:
        del held  # all rows are in memory
        row = rows[index]
        return Image.fromarray(row[..., 0] if row.shape[-1] == 1 else row)

    return Items([str(index) for index in range(len(rows))], layout, open_image, files=files)


def _passed_over(names: Sequence[str]) -> list[str]:
    """What files beside the images are: images in formats that are not read, each by itself, and the rest."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unread_format(name), []).append(name)
    rest = groups.pop("", [])
    notes = [
        f"{len(found)} {kind} files, which are not read; {CONVERT} ({_legible(found[0])})."
        for kind, found in sorted(groups.items())
    ]
    if rest:
        notes.append(f"{len(rest)} files that are no images by their names ({_legible(rest[0])}).")
    return notes


def _legible(name: str) -> str:
    """A file's name on one line, of characters that can be written anywhere."""
    return " ".join(name.encode("utf-8", errors="backslashreplace").decode().split("\n"))
