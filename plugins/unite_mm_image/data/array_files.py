"""Arrays of images in `.npz` files, named as ADM's evaluation suite names them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unite_mm.kit.arrays import ArraySpec, read_npz

ARRAYS = {
    "arr_0": ArraySpec(np.uint8, (("N", "H", "W", 3), ("N", "H", "W", 1), ("N", "H", "W")), empty=False),
    "arr_1": ArraySpec(np.integer, (("N",),), required=False, least=0),
}
"""Images and classes in a .npz file."""


def read_arrays(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Pixels (N, H, W, C) uint8, C 3 or 1, and classes (N,) where there are any, of a .npz file.

    Raises:
        UsageError: the file is damaged, or its arrays are something else.
    """
    arrays = read_npz(path, ARRAYS, "Images are arr_0 (N, H, W, 3) or (N, H, W) uint8, classes arr_1 (N,) from 0.")
    rows, labels = arrays["arr_0"], arrays.get("arr_1")
    return rows[..., None] if rows.ndim == 3 else rows, None if labels is None else labels.astype(np.int64)
