"""Decodes all images of a source over threads, into one file of pixels.

Threads serve: Pillow decodes and resamples, and hashlib hashes, without holding Python's lock.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import DataRequest
from unite_mm.errors import UsageError
from unite_mm.kit.parallel import map_threads
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.image_files import notes_of, quiet
from unite_mm_image.data.limits import Unreadable
from unite_mm_image.data.preprocessing import square
from unite_mm_image.data.sources import Items
from unite_mm_image.data.splits import LEFT_OUT, Keys, key_of

_PIECE = 64
"""Images that a thread decodes and writes at once, where they are small."""

_PIECE_BYTES = 1 << 25
"""Bytes of the squares that a thread holds at once."""

_CONVERSIONS = {
    "grey": "{count} grey images were converted to RGB.",
    "colour": "{count} images in colour were converted to grey.",
}


@dataclass(frozen=True)
class Decoded:
    """What became of N images.

    Attributes:
        keys: (N, 2) see `splits.Keys`; zeros for unreadable ones.
        splits: (N,) as the layout gave them, `LEFT_OUT` for unreadable ones.
        failures: reason -> `name: detail` of each unreadable image.
        notes: what was converted.
    """

    keys: Keys
    splits: NDArray[np.uint8]
    failures: dict[str, list[str]]
    notes: tuple[str, ...]


@dataclass
class _Piece:
    """What one thread found in a run of images."""

    failed: list[tuple[int, str, str]] = field(default_factory=list)
    noted: Counter[str] = field(default_factory=Counter)


def decode_all(
    title: str, items: Items, shape: tuple[int, int, int, int], path: Path, config: ImageConfig, request: DataRequest
) -> Decoded:
    """Decode every image into the array file `path` of uint8 (N, S, S, C).

    Args:
        title: name of the source.
        items: the images.
        shape: (N, S, S, C).
        path: .npy file to write.
        config: size, colours and the limit of unreadable images.
        request: progress and workers.

    Raises:
        UsageError: more images are unreadable than the configuration allows.
        OSError: the file cannot be written.
    """
    count = shape[0]
    splits, keys = items.layout.splits.copy(), np.zeros((count, 2), dtype=np.uint64)
    step = max(1, min(_PIECE, _PIECE_BYTES // int(np.prod(shape[1:]))))
    todo = [range(start, min(start + step, count)) for start in range(0, count, step)]
    failures: dict[str, list[str]] = defaultdict(list)
    noted: Counter[str] = Counter()
    for reason, name in items.refused:
        failures[reason].append(name)
    with path.open("wb") as file, quiet(), request.progress.task(f"Preparing {title}", count) as bar:
        np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.flush()
        start = file.tell()
        os.ftruncate(file.fileno(), start + int(np.prod(shape, dtype=np.int64)))
        work = _Work(items, keys, splits, file.fileno(), start, shape, config)
        # Closed before the file is: no thread may write to it afterwards.
        with closing(map_threads(work.piece, todo, request.workers)) as pieces:
            for rows, piece in zip(todo, pieces, strict=True):
                for index, reason, detail in piece.failed:
                    failures[reason].append(f"{items.names[index]}: {detail}")
                noted.update(piece.noted)
                _check(title, failures, count + len(items.refused), config.max_unreadable)
                bar(len(rows))
    _check(title, failures, count + len(items.refused), config.max_unreadable)
    converted = [text.format(count=f"{noted[word]:,}") for word, text in _CONVERSIONS.items() if noted[word]]
    notes = (*converted, *notes_of(noted))
    return Decoded(keys, splits, {reason: sorted(names) for reason, names in failures.items()}, notes)


def check_limit(title: str, counts: Mapping[str, int], example: Mapping[str, str], read: int, limit: float) -> None:
    """Stop if too many images are unreadable.

    Args:
        title: name of the source.
        counts: reason -> unreadable images.
        example: reason -> one of them.
        read: images in the source.
        limit: share that is allowed.

    Raises:
        UsageError: there are more.
    """
    failed = sum(counts.values())
    if failed > limit * read:
        reason = max(counts, key=lambda reason: counts[reason])
        raise UsageError(
            f"{title}: {failed} of {read} images cannot be used, more than max_unreadable={limit:g} allows; one "
            f"{reason}: {example[reason]}",
            "Fix or remove them, or allow a larger share: --set image.max_unreadable=0.1",
        )


def _check(title: str, failures: Mapping[str, list[str]], read: int, limit: float) -> None:
    counts = {reason: len(names) for reason, names in failures.items()}
    check_limit(title, counts, {reason: names[0] for reason, names in failures.items()}, read, limit)


@dataclass(frozen=True)
class _Work:
    """What the threads share; each writes to rows of its own."""

    items: Items
    keys: Keys
    splits: NDArray[np.uint8]
    file: int
    start: int
    shape: tuple[int, int, int, int]
    config: ImageConfig

    def piece(self, rows: range) -> _Piece:
        """Decode the images of `rows` and write their pixels."""
        found = _Piece()
        block = np.zeros((len(rows), *self.shape[1:]), dtype=np.uint8)
        for place, index in enumerate(rows):
            if self.splits[index] == LEFT_OUT:
                continue
            try:
                with ExitStack() as held:
                    block[place] = self._one(index, held, found)
            except Unreadable as error:
                self.splits[index] = LEFT_OUT
                found.failed.append((index, error.reason, error.detail))
        self._write(block.tobytes(), self.start + rows.start * int(np.prod(self.shape[1:])))
        return found

    def _one(self, index: int, held: ExitStack, found: _Piece) -> NDArray[np.uint8]:
        """The square of an image, (S, S, C); its own pixels are given up before the next is opened."""
        image = self.items.open(index, held)
        self.keys[index] = key_of(image)
        pixels = square(image, self.config.size, self.config.colours)
        found.noted.update(image.info.get("noted", ()))
        if (image.mode == "L") != (self.config.colours == "grey"):
            found.noted["grey" if image.mode == "L" else "colour"] += 1
        return pixels

    def _write(self, content: bytes, offset: int) -> None:
        # Written, not mapped: a full disk is then an error and not the end of the process.
        while content:
            written = os.pwrite(self.file, content, offset)
            content, offset = content[written:], offset + written
