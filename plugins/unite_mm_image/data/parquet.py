"""Parquet files with a column of encoded images, as Hugging Face's `datasets` writes them, read in place.

A row holds the bytes of an image file: in a binary column, or in the field `bytes` of a struct. A class is a number or
a name in another column. Row groups are the blocks that training visits a few at a time, so that each is read once in
an epoch and kept while it is visited. The name of a file says its split, as that of a tar shard does.

Dimensions: N rows of all files, G row groups of all files.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.messages import first_line
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.limits import Unreadable, need_file
from unite_mm_image.data.shards import COPY_AGAIN, Index, key_of_name, label_classes, split_of

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes")
"""Columns that are taken for images, the first that is there."""

LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label")
"""Columns that are taken for classes, the first that is there."""

_LARGEST_GROUP = 1 << 29
"""Bytes of images in the largest row group that is read: some thirty are in memory at a time."""

_HELD = 32
"""Row groups that are kept: twice as many as training visits at a time, as a batch may lie between two parts."""


def pyarrow_parquet() -> Any:
    """The library's module.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "parquet files need pyarrow, which is not installed", "run `pip install 'unite-mm[parquet]'`"
        ) from error
    return pyarrow.parquet


class RowGroups:
    """Reads rows of files by their row group; safe for several threads.

    Args:
        paths: the files.
        groups: (G, 2) file and row group there.
        column: of the images, as `image` or `image.bytes`.
    """

    def __init__(self, paths: Sequence[Path], groups: NDArray[np.int64], column: str) -> None:
        self._paths, self._groups, self._column = paths, groups, column
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._reading: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()

    def read(self, group: int, row: int) -> bytes:
        """The image file in a row of a row group.

        Raises:
            Unreadable: the row has none.
            UniteError: the row group cannot be read, or is shorter than it was.
        """
        column = self._column_of(group)
        if row >= len(column):
            raise UniteError(f"{self._told(group)}: is shorter than when it was indexed", COPY_AGAIN)
        content = column[row].as_py()
        if not content:
            raise Unreadable("cannot be read", "the row holds no image")
        return bytes(content)

    def _column_of(self, group: int) -> Any:
        with self._lock:
            lock = self._reading.setdefault(group, threading.Lock())
        with lock:  # one thread reads a row group, others wait for it
            with self._lock:
                if group in self._kept:
                    self._kept.move_to_end(group)
                    return self._kept[group]
            file, number = (int(value) for value in self._groups[group])
            with _one_line(self._told(group)), pyarrow_parquet().ParquetFile(self._paths[file]) as opened:
                column = _values(opened.read_row_group(number, columns=[self._column]), self._column)
            with self._lock:
                self._kept[group] = column
                while len(self._kept) > _HELD:
                    self._kept.popitem(last=False)
            return column

    def _told(self, group: int) -> str:
        file, number = self._groups[group]
        return f"{self._paths[int(file)]}: row group {number}"


def index_parquet(
    paths: Sequence[Path], config: ImageConfig, advance: Callable[[int], None]
) -> tuple[Index, NDArray[np.int64], str]:
    """Where all rows lie, by the footers of the files and the column of classes alone.

    Args:
        paths: the files.
        config: may name the columns.
        advance: called with the number of files done.

    Returns:
        The index, whose shards are row groups and whose offsets are rows in them; (G, 2) file and row group; and the
        column of the images.

    Raises:
        UsageError: a file is torn or no parquet file, lacks the column of images, has row groups that are too large,
            or none has a row.
    """
    found = _Rows()
    empty = []
    for number, path in enumerate(paths):
        need_file(path)
        with _one_line(f"{path}: not a whole parquet file"), pyarrow_parquet().ParquetFile(path) as opened:
            found.add(number, path, opened, config)
            empty += [] if opened.metadata.num_rows else [path.name]
        advance(1)
    if not found.labels:
        raise UsageError(f"{paths[0].parent}: {len(paths)} parquet files hold no row", "name other files")
    groups, counts = np.array(found.groups, dtype=np.int64), np.array(found.counts)
    block = np.repeat(np.arange(len(counts)), counts)
    file = groups[block, 0]
    places = np.concatenate([np.arange(count) for count in np.bincount(file, minlength=len(paths))])
    names = tuple(f"{paths[number].name}:{row}" for number, row in zip(file.tolist(), places.tolist(), strict=True))
    labels, classes = label_classes(found.labels, found.classes, paths[0].parent)
    notes = [f"{len(empty)} parquet files hold no row ({empty[0]})."] if empty else []
    notes.append("Splits of parquet files follow from their names, and the files have no recorded hashes.")
    index = Index(
        shard=block.astype(np.int32),
        offset=np.concatenate([np.arange(count, dtype=np.int64) for count in counts]),
        size=np.zeros(len(block), dtype=np.int64),
        labels=labels,
        splits=np.array([split_of(path.name) for path in paths], dtype=np.uint8)[file],
        keys=np.stack([key_of_name(name) for name in names]),
        names=names,
        classes=classes,
        notes=tuple(notes),
    )
    return index, groups, found.column


@dataclass
class _Rows:
    """What files hold, one after the other.

    Attributes:
        groups: file and number of every row group.
        counts: its rows.
        labels: number or name of every row's class, or None.
        classes: names of the classes by number, where a file notes them.
        column: of the images.
    """

    groups: list[tuple[int, int]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    labels: list[int | str | None] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    column: str = ""

    def add(self, number: int, path: Path, opened: Any, config: ImageConfig) -> None:
        """Take the next file.

        Raises:
            UsageError: it lacks a column, or has row groups that are too large.
        """
        column, label = _columns(path, opened.schema_arrow, config)
        if self.column and column != self.column:
            raise UsageError(
                f"{path}: its images are in {column}, those of other files in {self.column}", "sort the files"
            )
        self.column = column
        self.classes = self.classes or _class_names(opened.schema_arrow, label)
        for group in range(opened.num_row_groups):
            _check_group(path, opened.metadata.row_group(group), group, column)
            self.groups.append((number, group))
            self.counts.append(opened.metadata.row_group(group).num_rows)
            self.labels += _labels(path, opened, group, label, self.counts[-1])


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Errors of the library in one line that names the file; a file that disappears is told by the same."""
    try:
        yield
    except (UniteError, UsageError):
        raise
    except Exception as error:  # ArrowInvalid, OSError, and what damaged pages make decoders raise
        raise UsageError(f"{what}: {first_line(error)}", COPY_AGAIN) from error


def _columns(path: Path, schema: Any, config: ImageConfig) -> tuple[str, str | None]:
    """The column of images and that of classes, None without.

    Raises:
        UsageError: there is no column of images, or none as it is named.
    """
    there = list(schema.names)
    hint = f"name it with --set image.parquet_image=NAME; there are {', '.join(there)[:200] or 'none'}"
    wanted: tuple[str, ...] = IMAGE_COLUMNS if config.parquet_image is None else (config.parquet_image,)
    image = next((name for name in wanted if name in there), None)
    if image is None:
        raise UsageError(f"{path}: no column {' or '.join(wanted)} of images", hint)
    kind = schema.field(image).type
    if _is_struct(kind):
        if kind.get_field_index("bytes") < 0:
            raise UsageError(f"{path}: the column {image} has no field bytes", hint)
        image, kind = f"{image}.bytes", kind.field("bytes").type
    if not _is_binary(kind):
        raise UsageError(f"{path}: the column {image} holds {kind}, not the bytes of image files", hint)
    wanted = LABEL_COLUMNS if config.parquet_label is None else (config.parquet_label,)
    label = next((name for name in wanted if name in there), None)
    if label is None and config.parquet_label is not None:
        raise UsageError(f"{path}: no column {config.parquet_label} of classes", f"there are {', '.join(there)[:200]}")
    return image, label


def _is_struct(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind))


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _values(table: Any, column: str) -> Any:
    """A column of a table, or of a struct in it, as one array."""
    name, _, field = column.partition(".")
    values = table.column(name).combine_chunks()
    return values.field(field) if field else values


def _check_group(path: Path, group: Any, number: int, column: str) -> None:
    """Refuse row groups that do not fit memory beside others."""
    sizes = (group.column(index) for index in range(group.num_columns))
    size = sum(one.total_uncompressed_size for one in sizes if one.path_in_schema == column)
    if size > _LARGEST_GROUP:
        raise UsageError(
            f"{path}: row group {number} has {size / 1e6:,.0f} MB of images, more than {_LARGEST_GROUP / 1e6:,.0f}",
            "write the file again with smaller row groups, some hundred images each",
        )


def _class_names(schema: Any, label: str | None) -> tuple[str, ...]:
    """Names of the classes as `datasets` notes them in the file; empty where it does not."""
    import json

    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, told)) if isinstance(told, list) else ()


def _labels(path: Path, opened: Any, group: int, label: str | None, count: int) -> list[int | str | None]:
    """The class of every row of a row group; negative numbers are none.

    Raises:
        UsageError: they are neither numbers nor names.
    """
    if label is None:
        return [None] * count
    found = opened.read_row_group(group, columns=[label]).column(label).to_pylist()
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int | str | None):
            raise UsageError(
                f"{path}: the column {label} holds {type(value).__name__}, neither numbers nor names of classes",
                "name another with --set image.parquet_label=NAME",
            )
    return [None if isinstance(value, int) and value < 0 else value for value in found]
