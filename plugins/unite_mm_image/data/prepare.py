"""From a source to prepared squares of pixels: decoded once on all cores, then kept as one array in the cache.

Pixels go from the decoder to the file piece by piece, so that neither preparing nor opening a set needs memory for it.
The cache folder of a source is named by a hash of its content and of everything that decides the result.
"""

import hashlib
import json
import os
import shutil
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import SPLITS, DataRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm.progress import Progress
from unite_mm.utils.files import folder_name, locked
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.decoding import Decoded, check_limit, decode_all
from unite_mm_image.data.listing import OUTSIDE_SPLITS
from unite_mm_image.data.preprocessing import COLOURS
from unite_mm_image.data.sources import EXAMPLES, Items, Source, find
from unite_mm_image.data.splits import Keys, complete, count_splits, shared, split_hash
from unite_mm_schemas.card import DataCard, Exclusion

FORMAT = 1
"""Version of the cache's layout and of the preprocessing; raising it prepares everything anew."""

IN_MEMORY = 1 << 31
"""Bytes up to which a prepared set is read into memory; larger ones are mapped."""


@dataclass(frozen=True)
class Prepared:
    """A prepared source of N images.

    Attributes:
        pixels: (N, S, S, C) uint8, in memory or mapped; rows of images that were left out hold zeros.
        labels: (N,) int32, index into `classes`, or -1.
        splits: (N,) index into `SPLITS`, or `LEFT_OUT`.
        keys: (N, 2) see `splits.Keys`.
        names: newline-joined names as UTF-8 bytes.
        classes: names of the classes.
        card: where they came from and what was left out.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int32]
    splits: NDArray[np.uint8]
    keys: Keys
    names: bytes
    classes: tuple[str, ...]
    card: DataCard

    def names_of(self, indices: list[int]) -> list[str]:
        """The names of some images."""
        lines = self.names.split(b"\n")
        return [lines[index].decode() for index in indices]


def open_prepared(request: DataRequest, config: ImageConfig) -> Prepared:
    """The prepared source, from the cache or made now. Two processes that ask at once prepare it once.

    Raises:
        UsageError: the source does not exist, cannot be read, holds no usable image or too many unreadable ones.
        UniteError: it cannot be downloaded, or the cache cannot be written.
    """
    cache = request.cache.expanduser() / "image"
    source = find(request.source, cache / "downloads")
    folder = cache / f"{folder_name(source.name)}-{config.size}-{config.colours}-{_key(source, config)[:16]}"
    if not request.refresh and (found := _load(folder, request.progress)):
        return _checked(found, config)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f"{folder.name}.lock"), request.progress):
            if not request.refresh and (found := _load(folder, request.progress)):  # by another process meanwhile
                return _checked(found, config)
            _prepare(source, config, folder, request)
    except OSError as error:
        hint = "Free space, or name another cache folder; nothing was left there."
        raise UniteError(f"cannot write to {cache}: {error.strerror or error}", hint) from error
    prepared = _load(folder, request.progress)
    if prepared is None:
        raise UniteError(f"{folder}: what was just written cannot be read back", "Check the disk of the cache.")
    return prepared


def _checked(prepared: Prepared, config: ImageConfig) -> Prepared:
    """A set from the cache, which may have been prepared under a laxer limit."""
    card = prepared.card
    unreadable = [entry for entry in card.excluded if entry.reason != OUTSIDE_SPLITS]
    counts = {entry.reason: entry.count for entry in unreadable}
    check_limit(card.name, counts, {e.reason: e.examples[0] for e in unreadable}, card.read, config.max_unreadable)
    return prepared


def _prepare(source: Source, config: ImageConfig, folder: Path, request: DataRequest) -> None:
    """Write aside, then rename; called with the lock held, so other leftovers belong to processes that were killed."""
    items = source.items(request.progress)
    for leftover in folder.parent.glob(f"{folder.name}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    shape = (len(items.names), config.size, config.size, COLOURS[config.colours])
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise UniteError(
            f"{folder.parent}: preparing {source.name} needs {needed / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free",
            "Free space, name another cache folder, or choose a smaller image.size.",
        )
    aside = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex}")
    try:
        aside.mkdir()
        decoded = decode_all(source.name, items, shape, aside / "pixels.npy", config, request)
        splits = complete(decoded.keys, decoded.splits)
        card = _card(source, items, decoded, splits, config)
        names = "\n".join(items.names).encode()
        np.savez(
            aside / "index.npz",
            labels=items.layout.labels,
            splits=splits,
            keys=decoded.keys,
            names=np.frombuffer(names, dtype=np.uint8),
        )
        (aside / "classes.json").write_text(json.dumps(items.layout.classes) + "\n", encoding="utf-8")
        (aside / "card.json").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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


def _key(source: Source, config: ImageConfig) -> str:
    facts = [FORMAT, source.name, source.fingerprint(), config.size, config.colours]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _load(folder: Path, progress: Progress) -> Prepared | None:
    """The content of a cache folder; None where there is none, or (said aloud) a damaged one."""
    try:
        card = DataCard.model_validate_json((folder / "card.json").read_bytes())
        classes = tuple(json.loads((folder / "classes.json").read_bytes()))
        with (folder / "index.npz").open("rb") as file, np.load(file, allow_pickle=False) as index:
            labels, splits, keys, names = (index[key] for key in ("labels", "splits", "keys", "names"))
        path = folder / "pixels.npy"
        large = path.stat().st_size > IN_MEMORY
        pixels = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
        if not len(pixels) == len(labels) == len(splits) == len(keys) or count_splits(splits) != card.splits:
            raise ValueError("counts disagree")
        return Prepared(pixels, labels, splits, keys, names.tobytes(), classes, card)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        progress.say(f"{folder}: damaged ({str(error).splitlines()[0]}); preparing again")
        return None
