"""Makes shards of any source of images: the files as they are, in a fixed shuffled order, with a manifest of hashes.

A sample is named by the key of its image, so shards, folder and zip of the same images have the same splits.
"""

import hashlib
import io
import os
import tarfile
import tempfile
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import SPLITS, DataRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.parallel import map_threads
from unite_mm.progress import Progress
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.decoding import check_limit
from unite_mm_image.data.find import find
from unite_mm_image.data.image_files import quiet
from unite_mm_image.data.limits import Unreadable
from unite_mm_image.data.listing import OUTSIDE_SPLITS
from unite_mm_image.data.remote import shards_of
from unite_mm_image.data.shards import MANIFEST, Manifest, Shard
from unite_mm_image.data.sources import Items
from unite_mm_image.data.splits import LEFT_OUT, Keys, complete, key_of

_PIECE = 64
"""Images that a thread looks at in one go."""


@dataclass
class _Looked:
    """What became of N images.

    Attributes:
        keys: (N, 2) see `splits.Keys`.
        splits: (N,) as the source gives them; `LEFT_OUT` for what cannot be decoded.
        failures: how many, by the reason.
        examples: one of each.
    """

    keys: Keys
    splits: NDArray[np.uint8]
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


def write_shards(request: DataRequest, config: ImageConfig, folder: Path, most: int) -> Manifest:
    """Write the images of a source as shards, all of them or none.

    Args:
        request: the source, and where to show progress.
        config: the share of unreadable images that is allowed; extent and colours do not matter.
        folder: new, or empty.
        most: bytes after which the next shard begins.

    Raises:
        UsageError: the folder holds something, or the source cannot be read or already is shards.
        UniteError: the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not empty", "name a new folder")
    if request.source == "shapes" or shards_of(request) is not None:
        what = "is rendered on the fly" if request.source == "shapes" else "already is shards"
        raise UsageError(f"--data {request.source} {what}", "train on it as it is")
    source = find(request.source, request.cache.expanduser() / "image" / "downloads")
    items = source.items(request.progress)
    looked = _look(source.name, items, config, request)
    splits = complete(looked.keys, looked.splits)
    if not (splits < len(SPLITS)).any():
        raise UsageError(f"{source.name}: none of its {len(items.names)} images is usable")
    left_out = dict(looked.failures)
    if beside := sum(entry.count for entry in items.excluded):
        left_out[OUTSIDE_SPLITS] = beside
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.part-") as name:
            aside = Path(name) / "shards"
            aside.mkdir()
            shards = _write_all(items, looked.keys, splits, aside, most, request.progress)
            manifest = Manifest(
                source=source.name, classes=items.layout.classes, left_out=left_out, shards=tuple(shards)
            )
            (aside / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            os.replace(aside, folder)
    except OSError as error:
        raise UniteError(f"cannot write {folder}: {error.strerror or error}", "free space, or name another") from error
    return manifest


def _look(title: str, items: Items, config: ImageConfig, request: DataRequest) -> _Looked:
    """Decode every image once, for its key and to know that it can be."""
    count = len(items.names)
    looked = _Looked(np.zeros((count, 2), dtype=np.uint64), items.layout.splits.copy())
    for reason, name in items.refused:
        looked.failures[reason] += 1
        looked.examples.setdefault(reason, name)

    def piece(rows: range) -> list[tuple[int, str, str]]:
        failed = []
        for index in rows:
            if looked.splits[index] == LEFT_OUT:
                continue
            try:
                with ExitStack() as held:
                    looked.keys[index] = key_of(items.open(index, held))
            except Unreadable as error:
                looked.splits[index] = LEFT_OUT
                failed.append((index, error.reason, error.detail))
        return failed

    todo = [range(start, min(start + _PIECE, count)) for start in range(0, count, _PIECE)]
    read, limit = count + len(items.refused), config.max_unreadable
    bar = request.progress.task(f"Reading {title}", count)
    with quiet(), bar as advance, closing(map_threads(piece, todo, request.workers)) as pieces:
        for rows, failed in zip(todo, pieces, strict=True):
            for index, reason, detail in failed:
                looked.failures[reason] += 1
                looked.examples.setdefault(reason, f"{items.names[index]}: {detail}")
            check_limit(title, looked.failures, looked.examples, read, limit)
            advance(len(rows))
    return looked


def _write_all(
    items: Items, keys: Keys, splits: NDArray[np.uint8], folder: Path, most: int, progress: Progress
) -> list[Shard]:
    """The shards of all splits, written into a folder."""
    shards: list[Shard] = []
    with progress.task("Writing shards", int((splits < len(SPLITS)).sum())) as advance:
        for number, split in enumerate(SPLITS):
            rows = np.flatnonzero(splits == number)
            rows = rows[np.lexsort((rows, keys[rows, 1], keys[rows, 0]))]  # by a hash: a fixed shuffle
            seen: Counter[bytes] = Counter()
            writer: _ShardWriter | None = None
            for row in rows.tolist():
                if writer is None:
                    writer = _ShardWriter(folder / f"{split}-{len(shards):06d}.tar")
                digest = keys[row].astype(">u8").tobytes()
                repeat = f"-{seen[digest]}" if seen[digest] else ""
                seen[digest] += 1
                suffix, content = items.content(row)
                writer.add(f"{digest.hex()}{repeat}", suffix, content, int(items.layout.labels[row]))
                advance(1)
                if writer.written >= most:
                    shards.append(writer.close())
                    writer = None
            if writer is not None:
                shards.append(writer.close())
    return shards


class _ShardWriter:
    """One tar file, hashed while it is written; the same samples give the same bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples = 0
        self._file = _Hashed(path.open("wb"))
        self._archive = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # type: ignore[arg-type]

    @property
    def written(self) -> int:
        """Bytes so far."""
        return self._file.written

    def add(self, name: str, suffix: str, content: bytes, label: int) -> None:
        """Add a sample; a label below 0 is none."""
        self._member(f"{name}{suffix}", content)
        if label >= 0:
            self._member(f"{name}.cls", str(label).encode())
        self.samples += 1

    def close(self) -> Shard:
        """End the file."""
        self._archive.close()
        self._file.close()
        return Shard(
            name=self.path.name, bytes=self._file.written, sha256=self._file.digest.hexdigest(), samples=self.samples
        )

    def _member(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o644
        self._archive.addfile(info, io.BytesIO(content))


class _Hashed:
    """A file to write to that counts and hashes what it gets."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.written = 0

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self.written += len(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self.written

    def close(self) -> None:
        self._file.close()
