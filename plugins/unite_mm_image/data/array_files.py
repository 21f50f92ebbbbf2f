"""Arrays of images in `.npz` files, named as ADM's evaluation suite names them; checked by their headers, then read."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from unite_mm.errors import UsageError
from unite_mm.kit.arrays import ArraySpec, read_npz
from unite_mm.kit.messages import first_line
from unite_mm_image.data.limits import MAX_PIXELS, MOST_CLASSES, need_file

ARRAYS = {
    "arr_0": ArraySpec(np.uint8, (("N", "H", "W", 3), ("N", "H", "W", 1), ("N", "H", "W")), empty=False),
    "arr_1": ArraySpec(np.integer, (("N",),), required=False, least=0),
}
"""Images and classes in a .npz file."""

_HINT = "Images are arr_0 (N, H, W, 3) or (N, H, W) uint8, classes arr_1 (N,) from 0."
_DAMAGED = "The file is damaged or incomplete."


def read_arrays(path: Path, most: int = MAX_PIXELS) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Pixels (N, H, W, C) uint8, C 3 or 1, and classes (N,) where there are any, of a .npz file.

    Args:
        path: the file.
        most: pixels of the largest image.

    Raises:
        UsageError: the file is damaged, holds more than can be needed, or its arrays are something else.
    """
    shape = array_shapes(path, ARRAYS).get("arr_0", ())
    if len(shape) in (3, 4):
        height, width = shape[1:3]
        if height * width > most:
            raise UsageError(
                f"{path}: arr_0 holds images of {width:,} x {height:,} pixels, more than {most:,}", "Scale them down."
            )
    arrays = read_npz(path, ARRAYS, _HINT)
    rows, labels = arrays["arr_0"], arrays.get("arr_1")
    if labels is not None and int(labels.max()) >= MOST_CLASSES:
        raise UsageError(
            f"{path}: arr_1 holds the class {int(labels.max()):,}; classes are numbered from 0 to {MOST_CLASSES - 1:,}",
            "Number the classes in their order.",
        )
    return rows[..., None] if rows.ndim == 3 else rows, None if labels is None else labels.astype(np.int64)


def array_shapes(path: Path, names: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """The shapes of some arrays of a `.npz` file, of those that are there, by their headers; no array is read.

    Raises:
        UsageError: the file is no readable zip file, or an array is shorter than its header says.
    """
    need_file(path)
    found: dict[str, tuple[int, ...]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in names:
                    with archive.open(info) as stream:
                        found[name] = _shape(name, stream, info.file_size)
    except Exception as error:  # damaged files make zipfile and numpy raise nearly anything
        raise UsageError(f"{path}: cannot be read: {first_line(error)}", _DAMAGED) from error
    return found


def _shape(name: str, stream: IO[bytes], size: int) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"{name} has a header of version {version[0]}.{version[1]}")
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, not numbers")
    if any(length < 0 for length in shape):
        raise ValueError(f"{name} has a negative size")
    needed = math.prod(shape) * dtype.itemsize
    if needed > size - stream.tell():
        raise ValueError(f"{name} is cut off: {needed:,} bytes by its header, {size - stream.tell():,} are there")
    return tuple(shape)
