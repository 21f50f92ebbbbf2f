"""Images decoded from their shards, tar or parquet files, while training goes on: nothing but an index is prepared.

A set too large to be kept as pixels is read where it lies. The order of training is a function of seed and step as for
any data, but visits shards in blocks (`ModalityData.blocks`), so that files are read nearly in turn.

Dimensions: B images asked for, S pixels of a side, C colours.
"""

import json
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError, UniteWarning, UsageError
from unite_mm.kit.arrays import ArraySpec, read_npz
from unite_mm.kit.cache import PluginCache
from unite_mm.kit.messages import first_line
from unite_mm.kit.parallel import cores
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.image_files import decode, quiet
from unite_mm_image.data.limits import Unreadable, check_bytes
from unite_mm_image.data.parquet import RowGroups, index_parquet
from unite_mm_image.data.prepare import Prepared
from unite_mm_image.data.preprocessing import square
from unite_mm_image.data.remote import Shards
from unite_mm_image.data.shards import Index, index_shards
from unite_mm_image.data.splits import complete, count_splits, shared, split_hash
from unite_mm_schemas.card import DataCard, Exclusion, SourceFile

FORMAT = 1
"""Version of the index in the cache."""

_OPEN = 64
"""Shards that are kept open."""

_INDEX = {
    "shard": ArraySpec(np.int32, (("N",),), least=0),
    "offset": ArraySpec(np.int64, (("N",),), least=0),
    "size": ArraySpec(np.int64, (("N",),), least=0),
    "labels": ArraySpec(np.int32, (("N",),), least=-1),
    "splits": ArraySpec(np.uint8, (("N",),)),
    "keys": ArraySpec(np.uint64, (("N", 2),)),
    "names": ArraySpec(np.uint8, (("bytes",),)),
}


_Loaded = tuple[dict[str, NDArray[Any]], tuple[str, ...], tuple[str, ...], Callable[[int], bytes]]
"""Arrays as `_INDEX` says, names of the classes, notes, and what reads the image file of a row."""


class ShardPixels:
    """The images of N rows, decoded when they are asked for, on threads.

    An image that cannot be decoded gives its place to the next of its split and class that can. It is counted once, the
    first is told, and more than `max_unreadable` of all are an error.

    Args:
        read: gives the image file of a row; raises `Unreadable` where there is none.
        index: arrays as `_INDEX` says, but for `keys` and `names`.
        names: of the rows.
        config: size, colours, and the share of unreadable images that is allowed.
        workers: threads; 0: as many as there are cores.

    Attributes:
        blocks: (N,) int32, the shard of each row.
        unreadable: what is wrong with rows that were found unreadable so far.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        index: dict[str, NDArray[Any]],
        names: Sequence[str],
        config: ImageConfig,
        workers: int = 0,
    ) -> None:
        self.blocks = index["shard"]
        self.unreadable: dict[int, str] = {}
        self._read, self._names = read, names
        self._splits, self._labels = index["splits"], index["labels"]
        self._instead: dict[int, int] = {}
        self._config = config
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(workers or cores(), thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels (B, S, S, C) of rows (B,).

        Raises:
            UniteError: a shard is unavailable, or too many images are unreadable.
        """
        with quiet():
            return np.stack(list(self._threads.map(self._one, rows.tolist())))

    def _one(self, row: int) -> NDArray[np.uint8]:
        """The square (S, S, C) of a row, or of what stands in for it."""
        while True:
            seen = self._instead.get(row, row)
            try:
                return self._decoded(seen)
            except Unreadable as error:
                self._note(seen, f"{error.reason}: {error.detail}")
                self._instead[row] = self._next(row)

    def _next(self, row: int) -> int:
        """The next row of the same split and class that is not known to be unreadable.

        Raises:
            UniteError: there is none.
        """
        alike = np.flatnonzero((self._splits == self._splits[row]) & (self._labels == self._labels[row]))
        alike = np.roll(alike, -int(np.searchsorted(alike, row)))
        found = next((other for other in alike.tolist() if other not in self.unreadable), None)
        if found is None:
            raise UniteError(
                f"{self._names[row]}: no image of its split and class can be read", "make the shards again"
            )
        return found

    def _decoded(self, row: int) -> NDArray[np.uint8]:
        return square(decode(BytesIO(self._read(row))), self._config.size, self._config.colours)

    def _note(self, row: int, reason: str) -> None:
        with self._lock:
            first = not self.unreadable
            self.unreadable[row] = reason
            count = len(self.unreadable)
        told = f"{self._names[row]} {reason}"
        if count > self._config.max_unreadable * len(self.blocks):
            raise UsageError(
                f"{count} of {len(self.blocks):,} images cannot be used, more than "
                f"max_unreadable={self._config.max_unreadable:g} allows; one: {told}",
                "Fix or remove them, or allow a larger share: --set image.max_unreadable=0.1",
            )
        if first:
            warnings.warn(f"{told}; the next image of its split and class takes its place", UniteWarning, stacklevel=2)


class _Members:
    """Reads members of tar files at the places that an index tells."""

    def __init__(self, paths: Sequence[Path], index: dict[str, NDArray[Any]]) -> None:
        self._paths, self._index, self._files = paths, index, _OpenFiles()

    def read(self, row: int) -> bytes:
        """The image file of a row.

        Raises:
            Unreadable: it is too large.
            UniteError: the shard cannot be read, or is shorter than it was.
        """
        shard, offset, size = (int(self._index[name][row]) for name in ("shard", "offset", "size"))
        check_bytes(size)
        content = self._files.read(self._paths[shard], offset, size)
        if len(content) < size:
            raise UniteError(f"{self._paths[shard]}: is shorter than when it was indexed", "copy it again")
        return content


class _OpenFiles:
    """A bounded number of files that are kept open, read at any place by any thread."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._busy: dict[int, int] = {}
        self._lock = threading.Lock()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Bytes of a file; fewer where it ends.

        Raises:
            UniteError: it cannot be read.
        """
        try:
            with self._lock:
                file = self._take(path)
            try:
                return os.pread(file, size, offset)
            finally:
                with self._lock:
                    self._busy[file] -= 1
                    self._close_some()
        except OSError as error:
            raise UniteError(f"{path}: {error.strerror or error}", "the shards must stay where they are") from error

    def _take(self, path: Path) -> int:
        if path not in self._open:
            file = os.open(path, os.O_RDONLY)
            self._open[path], self._busy[file] = file, 0
        self._open.move_to_end(path)
        file = self._open[path]
        self._busy[file] += 1
        return file

    def _close_some(self) -> None:
        for path, file in list(self._open.items()):
            if len(self._open) <= _OPEN:
                return
            if not self._busy[file]:
                del self._open[path], self._busy[file]
                os.close(file)


def open_streamed(request: DataRequest, shards: Shards, config: ImageConfig) -> Prepared:
    """The images of shards: an index from the cache or made now, and pixels that are decoded on demand.

    Raises:
        UsageError: a shard is torn, missing, or not what the manifest says, or no image is there.
        UniteError: the cache cannot be written.
    """
    paths, manifest = shards.paths, shards.manifest
    cache = PluginCache(request, "image")
    stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    told = None if manifest is None else manifest.model_dump(mode="json")
    facts = [FORMAT, stamps, told]
    if shards.parquet:
        facts += [config.parquet_image, config.parquet_label]
    kept = cache.folder(f"shards-{shards.name}", facts)

    def prepare(aside: Path) -> None:
        with request.progress.task("Indexing shards", len(paths)) as advance:
            if not shards.parquet:
                return _write(aside, index_shards(paths, manifest, advance))
            index, groups, column = index_parquet(paths, config, advance)
            _write(aside, index, {"groups": groups.tolist(), "column": column})

    def load(folder: Path) -> _Loaded:
        return _read(folder, shards)

    index, classes, notes, read = cache.open(kept, prepare, load)
    names = index.pop("names").tobytes().decode().split("\n")
    keys, splits, labels = index["keys"], index["splits"], index["labels"]
    card = _card(shards, len(names), splits, keys, notes, config)
    pixels = ShardPixels(read, index, names, config, request.workers)
    return Prepared(pixels, labels, splits, keys, "\n".join(names).encode(), classes, card)


def _write(folder: Path, index: Index, more: Mapping[str, Any] | None = None) -> None:
    splits = complete(index.keys, index.splits)
    names = np.frombuffer("\n".join(index.names).encode(errors="backslashreplace"), dtype=np.uint8)
    arrays = {name: getattr(index, name) for name in ("shard", "offset", "size", "labels", "keys")}
    np.savez(folder / "index.npz", splits=splits, names=names, **arrays)
    notes = list(index.notes)
    if twice := shared(index.keys, splits):
        notes.append(f"{twice} held-out images stand in another split too, as the shards give them.")
    told = {"classes": index.classes, "notes": notes, **(more or {})}
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


def _read(folder: Path, shards: Shards) -> _Loaded:
    try:
        index = dict(read_npz(folder / "index.npz", _INDEX))
        told = json.loads((folder / "told.json").read_bytes())
        classes, notes = tuple(map(str, told["classes"])), tuple(map(str, told["notes"]))
        if not shards.parquet:
            return index, classes, notes, _Members(shards.paths, index).read
        groups = np.array(told["groups"], dtype=np.int64).reshape(-1, 2)
        if index["shard"].max() >= len(groups) or groups.min() < 0 or groups[:, 0].max() >= len(shards.paths):
            raise ValueError("row groups that are not there")
        rows = RowGroups(shards.paths, groups, str(told["column"]))
        return index, classes, notes, lambda row: rows.read(int(index["shard"][row]), int(index["offset"][row]))
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged files make their readers raise nearly anything
        raise ValueError(first_line(error)) from error


def _card(
    shards: Shards,
    count: int,
    splits: NDArray[np.uint8],
    keys: NDArray[np.uint64],
    notes: tuple[str, ...],
    config: ImageConfig,
) -> DataCard:
    files: tuple[SourceFile, ...] = ()
    left_out: dict[str, int] = {}
    manifest = shards.manifest
    if manifest is not None:
        files = tuple(SourceFile(name=s.name, bytes=s.bytes, sha256=s.sha256) for s in manifest.shards)
        left_out = manifest.left_out
    counts = count_splits(splits)
    colours = "RGB" if config.colours == "rgb" else "grey"
    title = shards.name if manifest is None else manifest.source
    return DataCard(
        modality="image",
        name=shards.name,
        description=f"images of {title} in shards, {config.size} x {config.size} {colours}",
        files=files,
        read=count + sum(left_out.values()),
        kept=sum(counts.values()),
        excluded=tuple(Exclusion(reason=reason, count=number) for reason, number in left_out.items()),
        splits=counts,
        split_hash=split_hash(keys, splits),
        notes=(*notes, "Images are decoded during training; what cannot be is skipped, and told."),
        settings={"size": config.size, "colours": config.colours},
    )
