"""Shards: tar files of images as WebDataset lays them out, indexed once and then read in place, a member at a time.

Members of one sample share the name up to its first dot: `000017.jpg` and, for its class, `000017.cls` (a number or a
name) or `000017.json` (`label` or `class`). Without either, the folder of the member is its class. The name of a shard
says its split: `train-000003.tar`, `imagenet-val-000.tar`. Tar files are not packed, so a sample lies at a known offset
and is read without what stands before it.

Dimensions: N samples of all shards.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from unite_mm.contract import SPLITS
from unite_mm.errors import UsageError
from unite_mm.kit.messages import first_line
from unite_mm_image.data.image_files import SUFFIXES
from unite_mm_image.data.limits import MOST_CLASSES, need_file
from unite_mm_image.data.listing import SPLIT_FOLDERS
from unite_mm_image.data.splits import UNDECIDED
from unite_mm_schemas.base import Schema

KINDS = (".tar", ".parquet")
"""Suffixes of shards."""

MANIFEST = "shards.json"
"""File beside shards that says what they hold; `unite-mm data shard` writes it."""

COPY_AGAIN = "copy it again, or make it again"
"""What to do about a damaged file."""

_KEY = re.compile(r"([0-9a-f]{32})(-\d+)?$")
"""Names that `unite-mm data shard` gives: the key of the image, and a number where several are equal."""

_LARGEST_NOTE = 1 << 16
"""Bytes of a member that tells the class."""


class Shard(Schema):
    """One shard."""

    name: str = Field(pattern=r"^[^/\\\x00-\x1f]+\.tar$")
    """File name, in the folder of the manifest."""
    bytes: int = Field(ge=0)
    """Size."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the content."""
    samples: int = Field(ge=0)
    """Images."""


class Manifest(Schema):
    """What a folder of shards holds."""

    format: int = Field(1, ge=1, le=1)
    """Version of this file."""
    source: str
    """What the shards were made of."""
    classes: tuple[str, ...] = Field(max_length=MOST_CLASSES)
    """Names of the classes, by number; empty: none."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Images of the source that are in no shard: how many, by the reason."""
    shards: tuple[Shard, ...] = Field(min_length=1)
    """The shards."""


@dataclass(frozen=True)
class Index:
    """Where the N samples of some shards lie.

    Attributes:
        shard: (N,) int32, number of the shard of each.
        offset: (N,) int64, where its image starts there.
        size: (N,) int64, bytes of the image.
        labels: (N,) int32, index into `classes`, or -1.
        splits: (N,) index into `SPLITS`, or `UNDECIDED`.
        keys: (N, 2) see `splits.Keys`; of a name where it is not that of an image.
        names: of the samples.
        classes: names of the classes.
        notes: what a user must know.
    """

    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    labels: NDArray[np.int32]
    splits: NDArray[np.uint8]
    keys: NDArray[np.uint64]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Sample:
    """A sample as its shard names it; `label` is a number, a name, or None."""

    name: str
    offset: int
    size: int
    label: int | str | None


def shards_in(folder: Path) -> list[Path]:
    """Tar or parquet files of a folder in the order of their names; none where images or folders lie beside them.

    Raises:
        UsageError: there are files of both kinds.
    """
    found = []
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.suffix.lower() in SUFFIXES or entry.is_dir():
            return []
        found += [entry] if entry.suffix in KINDS else []
    kind_of(found, folder)
    return sorted(found)


def kind_of(paths: Sequence[Path], where: Path) -> str:
    """The suffix that all shards have; empty without any.

    Raises:
        UsageError: they are of both kinds.
    """
    kinds = {path.suffix for path in paths}
    if len(kinds) > 1:
        raise UsageError(f"{where}: both .tar and .parquet files", "keep one kind, or list the files in a .txt file")
    return kinds.pop() if kinds else ""


def read_manifest(path: Path) -> Manifest:
    """The manifest of a folder of shards.

    Raises:
        UsageError: it is none, or damaged.
    """
    need_file(path)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as error:
        raise UsageError(f"{path}: not a manifest of shards: {first_line(error)}", "make the shards again") from error


def find_shards(folder: Path) -> tuple[list[Path], Manifest]:
    """The shards that the manifest of a folder names, and the manifest.

    Raises:
        UsageError: it names others than are there, or of other sizes.
    """
    manifest = read_manifest(folder / MANIFEST)
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            raise UsageError(f"{folder}: {shard.name} is missing, which {MANIFEST} names", "copy it again")
        if path.stat().st_size != shard.bytes:
            raise UsageError(
                f"{path}: {path.stat().st_size:,} bytes in place of the {shard.bytes:,} that {MANIFEST} names",
                "copy it again",
            )
    return [folder / shard.name for shard in manifest.shards], manifest


def index_shards(paths: Sequence[Path], manifest: Manifest | None, advance: Callable[[int], None]) -> Index:
    """Where all samples lie, by the headers of the tar files alone and the members that tell classes.

    Args:
        paths: the shards.
        manifest: what they hold, where it is known.
        advance: called with the number of shards done.

    Raises:
        UsageError: a shard is torn or no tar file, holds other than the manifest says, or none holds an image.
    """
    samples: list[_Sample] = []
    shards: list[int] = []
    empty: list[str] = []
    for number, path in enumerate(paths):
        found = list(_samples(path))
        if manifest is not None and len(found) != manifest.shards[number].samples:
            raise UsageError(
                f"{path}: {len(found)} images in place of the {manifest.shards[number].samples} that {MANIFEST} names",
                "copy it again, or make the shards again",
            )
        samples += found
        shards += [number] * len(found)
        empty += [] if found else [path.name]
        advance(1)
    if not samples:
        raise UsageError(
            f"{paths[0].parent}: {len(paths)} shards hold no image", f"images end in {', '.join(SUFFIXES)}"
        )
    known = () if manifest is None else manifest.classes
    labels, classes = label_classes([sample.label for sample in samples], known, paths[0].parent)
    notes = [f"{len(empty)} shards hold no image ({empty[0]})."] if empty else []
    if manifest is None:
        notes.append("Shards without a manifest: splits follow from names, and the files have no recorded hashes.")
    splits = np.array([split_of(path.name) for path in paths], dtype=np.uint8)
    return Index(
        shard=np.array(shards, dtype=np.int32),
        offset=np.array([sample.offset for sample in samples], dtype=np.int64),
        size=np.array([sample.size for sample in samples], dtype=np.int64),
        labels=labels,
        splits=splits[np.array(shards, dtype=np.int64)],
        keys=np.stack([key_of_name(sample.name) for sample in samples]),
        names=tuple(f"{paths[number].name}:{sample.name}" for number, sample in zip(shards, samples, strict=True)),
        classes=classes,
        notes=tuple(notes),
    )


def _samples(path: Path) -> Iterator[_Sample]:
    """The samples of one shard, in its order.

    Raises:
        UsageError: it is torn, or no tar file.
    """
    need_file(path)
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int | str | None] = {}
    with path.open("rb") as file:
        for name, offset, size in _members(path):
            folder, _, base = name.rpartition("/")
            stem, _, suffix = base.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            suffix = f".{suffix.lower()}"
            if suffix in SUFFIXES:
                images[key] = (offset, size)
            elif suffix in (".cls", ".json") and size <= _LARGEST_NOTE:
                file.seek(offset)
                labels[key] = _label(file.read(size), suffix)
    for key, (offset, size) in images.items():
        folder = key.rpartition("/")[0].partition("/")[0]
        yield _Sample(key, offset, size, labels.get(key, folder or None))


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of the files in a tar file."""
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps them all
                if member.offset_data + member.size > length:
                    raise UsageError(f"{path}: ends within {member.name[:80]!r}", COPY_AGAIN)
                if member.isreg():
                    yield member.name.removeprefix("./"), member.offset_data, member.size
    except (tarfile.TarError, OSError, ValueError) as error:
        with path.open("rb") as file:
            packed = file.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7")
        unpack = "unpack it: images are packed already, and a packed tar file cannot be read in place"
        hint = unpack if packed else COPY_AGAIN
        raise UsageError(f"{path}: not a whole tar file: {first_line(error)}", hint) from error


def _label(content: bytes, suffix: str) -> int | str | None:
    """The class that a member tells: a number or a name; None where it tells none."""
    text = content.decode("utf-8", errors="replace").strip()
    if suffix == ".cls":
        return int(text) if re.fullmatch(r"\d{1,9}", text) else text[:200] or None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = next((value[key] for key in ("label", "cls", "class") if key in value), None)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return value if isinstance(value, str) or 0 <= value < 10**9 else None


def label_classes(
    found: Sequence[int | str | None], known: tuple[str, ...], folder: Path
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """(N,) index of each sample's class, -1 without; and the names of the classes.

    Args:
        found: number or name of each sample's class, or None.
        known: names of the classes by number, where they are declared.
        folder: of the samples, for messages.

    Raises:
        UsageError: numbers and names are mixed, or a number is too large.
    """
    names = sorted({label for label in found if isinstance(label, str)})
    numbers = [label for label in found if isinstance(label, int)]
    if known:
        classes = known
    elif numbers and names:
        raise UsageError(f"{folder}: some classes are numbers, others names ({numbers[0]}, {names[0][:80]!r})")
    else:
        classes = tuple(names) if names else tuple(str(number) for number in range(max(numbers, default=-1) + 1))
    largest = max([*numbers, len(classes) - 1])
    if largest >= MOST_CLASSES:
        raise UsageError(f"{folder}: a class {largest:,}; at most {MOST_CLASSES:,} can be")
    place = {name: index for index, name in enumerate(classes)}
    labels = [label if isinstance(label, int) else place.get(label or "", -1) for label in found]
    if max(labels, default=-1) >= len(classes):
        raise UsageError(f"{folder}: class {max(labels)}, but {len(classes)} classes are named", COPY_AGAIN)
    return np.array(labels, dtype=np.int32), classes


def split_of(name: str) -> int:
    """The split that a shard's name says."""
    words = re.split("[^a-z]+", name.lower())
    found = {SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS}
    if len(found) > 1:
        raise UsageError(f"{name}: its name says several splits ({', '.join(sorted(found))})", "rename it")
    return SPLITS.index(found.pop()) if found else UNDECIDED


def key_of_name(name: str) -> NDArray[np.uint64]:
    """The key (2,) of a sample: of its image where the name holds it, else of the name."""
    match = _KEY.search(name)
    digest = bytes.fromhex(match[1]) if match else hashlib.sha256(name.encode(errors="replace")).digest()[:16]
    return np.frombuffer(digest, dtype=">u8").astype(np.uint64)
