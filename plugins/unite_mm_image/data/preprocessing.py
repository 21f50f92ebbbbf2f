"""From an image file to the square of pixels a model sees, as the reference does it.

Crop of the reference (and of ADM before it): the image is halved with a BOX filter while its short side is at least
twice the target, then resized with a BICUBIC filter so that the short side is the target, then cropped at the centre.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unite_mm.errors import UsageError
from unite_mm_image.data.image_files import to_mode
from unite_mm_image.data.limits import MAX_PIXELS, Unreadable

Colours = Literal["rgb", "grey"]
COLOURS: dict[str, int] = {"rgb": 3, "grey": 1}
"""Channels of the pixels by the configuration's word."""


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The central square of an image at `size` pixels, resampled as the reference does.

    Raises:
        Unreadable: the image is so elongated that its resized form would not fit memory.
    """
    short, long = sorted(image.size)
    if short < 1 or size * size * (long / short) > MAX_PIXELS:
        raise Unreadable("is too elongated", f"{image.width} x {image.height} pixels")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    extent = (round(image.width * scale), round(image.height * scale))
    image = image.resize(extent, Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def square(image: Image.Image, size: int, colours: Colours) -> NDArray[np.uint8]:
    """The pixels (S, S, C) of an image as a model sees it.

    Args:
        image: mode RGB or L.
        size: S.
        colours: an image of the other kind is converted.

    Raises:
        Unreadable: the image is far too elongated.
    """
    mode = "RGB" if colours == "rgb" else "L"
    cropped = centre_crop(image if image.mode == mode else image.convert(mode), size)
    return np.asarray(cropped).reshape(size, size, COLOURS[colours])


def prepare(image: Image.Image, size: int, colours: Colours) -> NDArray[np.uint8]:
    """The pixels (S, S, C) of a native sample of any mode and extent.

    Raises:
        UsageError: the image cannot be used.
    """
    try:
        return square(to_mode(image), size, colours)
    except Unreadable as error:
        name = image.info.get("name") or "an image"
        raise UsageError(f"{name} {error.reason}: {error.detail}", "Leave it out, or crop and convert it.") from error
