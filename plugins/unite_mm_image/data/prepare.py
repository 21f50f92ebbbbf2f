"""From a source to prepared squares of pixels: decoded once on all cores, then kept as one array in the cache.

Pixels go from the decoder to the file piece by piece, so that neither preparing nor opening a set needs memory for it.
The cache folder of a source is named by a hash of its content and of everything that decides the result.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import SPLITS, DataRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.arrays import ArraySpec, read_npz
from unite_mm.kit.cache import PluginCache
from unite_mm.kit.messages import first_line
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.decoding import Decoded, check_limit, decode_all
from unite_mm_image.data.find import find
from unite_mm_image.data.listing import OUTSIDE_SPLITS
from unite_mm_image.data.preprocessing import COLOURS
from unite_mm_image.data.sources import EXAMPLES, Items, Source
from unite_mm_image.data.splits import Keys, complete, count_splits, shared, split_hash
from unite_mm_schemas.card import DataCard, Exclusion

FORMAT = 1
"""Version of the cache's layout and of the preprocessing; raising it prepares everything anew."""

IN_MEMORY = 1 << 31
"""Bytes up to which a prepared set is read into memory; larger ones are mapped."""

_INDEX = {
    "labels": ArraySpec(np.int32, (("N",),)),
    "splits": ArraySpec(np.uint8, (("N",),)),
    "keys": ArraySpec(np.uint64, (("N", 2),)),
    "names": ArraySpec(np.uint8, (("bytes",),)),
}
"""Arrays of a prepared set beside its pixels."""


class Pixels(Protocol):
    """Something to index with rows (B,) int64 that gives pixels (B, S, S, C) uint8."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Prepared:
    """A prepared source of N images.

    Attributes:
        pixels: (N, S, S, C) uint8, in memory, mapped, or made when asked for; rows of images that were left out hold
            zeros.
        labels: (N,) int32, index into `classes`, or -1.
        splits: (N,) index into `SPLITS`, or `LEFT_OUT`.
        keys: (N, 2) see `splits.Keys`.
        names: newline-joined names as UTF-8 bytes.
        classes: names of the classes.
        card: where they came from and what was left out.
    """

    pixels: Pixels
    labels: NDArray[np.int32]
    splits: NDArray[np.uint8]
    keys: Keys
    names: bytes
    classes: tuple[str, ...]
    card: DataCard

    def names_of(self, indices: list[int]) -> list[str]:
        """The names of the given images."""
        lines = self.names.split(b"\n")
        return [lines[index].decode() for index in indices]


def open_prepared(request: DataRequest, config: ImageConfig) -> Prepared:
    """The prepared source, from the cache or made now. Two processes that ask at once prepare it once.

    Raises:
        UsageError: the source does not exist, cannot be read, holds no usable image or too many unreadable ones.
        UniteError: it cannot be downloaded, or the cache cannot be written.
    """
    cache = PluginCache(request, "image")
    source = find(request.source, cache.downloads)
    facts = [FORMAT, source.name, source.fingerprint(), config.size, config.colours]
    folder = cache.folder(source.name, facts, config.size, config.colours)
    prepared = cache.open(folder, lambda aside: _prepare(source, config, aside, request), _load)
    _check_unreadable(prepared.card, config)
    return prepared


def _check_unreadable(card: DataCard, config: ImageConfig) -> None:
    """Refuse a set from the cache that was prepared under a laxer limit of unreadable images."""
    unreadable = [entry for entry in card.excluded if entry.reason != OUTSIDE_SPLITS]
    counts = {entry.reason: entry.count for entry in unreadable}
    check_limit(card.name, counts, {e.reason: e.examples[0] for e in unreadable}, card.read, config.max_unreadable)


def _prepare(source: Source, config: ImageConfig, folder: Path, request: DataRequest) -> None:
    """Fill an empty folder with the prepared source."""
    items = source.items(request.progress)
    shape = (len(items.names), config.size, config.size, COLOURS[config.colours])
    _check_space(source.name, shape, folder.parent)
    decoded = decode_all(source.name, items, shape, folder / "pixels.npy", config, request)
    splits = complete(decoded.keys, decoded.splits)
    card = _card(source, items, decoded, splits, config)
    names = np.frombuffer("\n".join(items.names).encode(), dtype=np.uint8)
    np.savez(folder / "index.npz", labels=items.layout.labels, splits=splits, keys=decoded.keys, names=names)
    (folder / "classes.json").write_text(json.dumps(items.layout.classes) + "\n", encoding="utf-8")
    (folder / "card.json").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _check_space(name: str, shape: tuple[int, ...], cache: Path) -> None:
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(cache).free
    if needed > free:
        raise UniteError(
            f"{cache}: preparing {name} needs {needed / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free",
            "Free space, name another cache folder, or choose a smaller image.size.",
        )


def _card(source: Source, items: Items, decoded: Decoded, splits: NDArray[np.uint8], config: ImageConfig) -> DataCard:
    unreadable = decoded.failures
    reasons = sorted(unreadable, key=lambda reason: (-len(unreadable[reason]), reason))
    excluded = [_exclusion(reason, unreadable[reason]) for reason in reasons]
    excluded += items.excluded
    counts = count_splits(splits)
    read = len(items.names) + len(items.refused)
    if not sum(counts.values()):
        raise UsageError(f"{source.name}: none of its {read} images is usable: {excluded[0].examples[0]}")
    twice = shared(decoded.keys, splits)
    held = [f"{twice} held-out images stand in another split too, as the folders give them."] if twice else []
    colours = "RGB" if config.colours == "rgb" else "grey"
    return DataCard(
        modality="image",
        name=source.name,
        description=f"{source.title}, {config.size} x {config.size} {colours}",
        files=items.files,
        read=read,
        kept=sum(counts.values()),
        excluded=tuple(excluded),
        splits=counts,
        split_hash=split_hash(decoded.keys, splits),
        notes=(*items.notes, *decoded.notes, *_split_notes(items, counts), *held),
        settings={"format": FORMAT, "size": config.size, "colours": config.colours},
    )


def _exclusion(reason: str, names: list[str]) -> Exclusion:
    return Exclusion(reason=reason, count=len(names), examples=tuple(names[:EXAMPLES]))


def _split_notes(items: Items, counts: dict[str, int]) -> list[str]:
    """Which splits the source does not give."""
    given = {split for index, split in enumerate(SPLITS) if (items.layout.splits == index).any()}
    taken = [f"{split} ({counts[split]})" for split in SPLITS[1:] if given and split not in given and counts[split]]
    return [f"Taken from the training images by a hash of their content: {', '.join(taken)}."] if taken else []


def _load(folder: Path) -> Prepared:
    """The content of a prepared folder; raises as `PluginCache.open` asks where there is none, or a damaged one."""
    try:
        return _read(folder)
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged files make their readers raise nearly anything
        raise ValueError(first_line(error)) from error


def _read(folder: Path) -> Prepared:
    card = DataCard.model_validate_json((folder / "card.json").read_bytes())
    classes = json.loads((folder / "classes.json").read_bytes())
    path = folder / "pixels.npy"
    large = path.stat().st_size > IN_MEMORY
    index = read_npz(folder / "index.npz", _INDEX)
    labels, splits, keys = index["labels"], index["splits"], index["keys"]
    pixels = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 4
        or len(pixels) != len(labels)
        or count_splits(splits) != card.splits
    ):
        raise ValueError("counts disagree")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes.json is no list of names")
    if labels.max(initial=-1) >= len(classes):
        raise ValueError("an image has a class without a name")
    return Prepared(pixels, labels, splits, keys, index["names"].tobytes(), tuple(classes), card)
