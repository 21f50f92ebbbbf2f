"""Native samples: PIL images in mode RGB or L, their class in `info["label"]`, and pixel tensors made of them.

Dimensions: N images, C colours (3 RGB, 1 grey), S pixels of a side.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unite_mm_image.config import ImageConfig
from unite_mm_image.data.preprocessing import COLOURS, prepare

LABEL = "label"
"""Key of an image's `info` under which its class stands."""


def label_of(image: Image.Image) -> int | None:
    """The class of an image, or None where it is not known."""
    value = image.info.get(LABEL)
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):  # some other program's use of the word
        return None


def labels_of(images: Sequence[Image.Image]) -> Tensor | None:
    """The classes (N,) int64 of images; None unless each has one."""
    labels = [label_of(image) for image in images]
    known = [label for label in labels if label is not None]
    return torch.tensor(known, dtype=torch.int64) if known and len(known) == len(labels) else None


def to_pixels(images: Sequence[Image.Image], config: ImageConfig) -> Tensor:
    """Images of any mode and extent as a model sees them: (N, C, S, S) float32 in [0, 1].

    Raises:
        UsageError: an image has pixels without a known range, or is far too elongated.
    """
    rows = [prepare(image, config.size, config.colours) for image in images]
    shape = (0, config.size, config.size, COLOURS[config.colours])
    return from_rows(np.stack(rows) if rows else np.empty(shape, dtype=np.uint8))


def from_rows(rows: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> Tensor:
    """Pixels (N, S, S, C) uint8 as (N, C, S, S) float32 in [0, 1]."""
    # Moved before the conversion: a fourth of the bytes.
    return torch.from_numpy(rows).permute(0, 3, 1, 2).contiguous().float().div_(255)


def to_pictures(pixels: Tensor, labels: Tensor | None = None) -> list[Image.Image]:
    """Native images of pixels (N, C, H, W) meant for [0, 1]: clamped and rounded to 8 bits.

    Args:
        pixels: C = 3 gives RGB images, C = 1 grey ones. Numbers that are not finite become black.
        labels: classes (N,), set in each image's `info`.
    """
    clean = pixels.detach().float().nan_to_num(0.0, 1.0, 0.0).clamp(0, 1).mul(255).round()
    rows = clean.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return rows_to_pictures(rows, None if labels is None else labels.tolist())


def rows_to_pictures(
    rows: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", labels: Sequence[int] | None = None
) -> list[Image.Image]:
    """Native images of pixels (N, H, W, C) uint8, C 1 or 3."""
    pictures = [Image.fromarray(row[..., 0] if row.shape[-1] == 1 else row) for row in rows]
    for picture, label in zip(pictures, labels or (), strict=False):
        picture.info[LABEL] = int(label)
    return pictures
