"""From an image file to the square of pixels a model sees, as the reference does it.

Crop of the reference (and of ADM before it): the image is halved with a BOX filter while its short side is at least
twice the target, then resized with a BICUBIC filter so that the short side is the target, then cropped at the centre.
Files are not trusted: only known formats are opened, and what would need absurd memory is refused.
"""

from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from unite_mm.errors import UsageError
from unite_mm.kit.messages import first_line

Colours = Literal["rgb", "grey"]
COLOURS: dict[str, int] = {"rgb": 3, "grey": 1}
"""Channels of the pixels by the configuration's word."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Files taken for images."""

MAX_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded (a quarter of a gigabyte): where Pillow too suspects an attack."""

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_ORIENTATION = 0x0112


class Unreadable(Exception):
    """An image that cannot be used.

    Args:
        reason: why, in words shared by all such images.
        detail: what is wrong with this one.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def decode(source: Path | IO[bytes]) -> Image.Image:
    """The image of a file, decoded to its end, as it is stored: no rotation by EXIF, first frame of several.

    Returns:
        An image in mode RGB or L. Its `info` holds the file's notes, among them `noted`: a tuple of words for what
        the conversion lost (`transparency`, `16 bits`, `orientation`).

    Raises:
        Unreadable: the file is damaged, of an unknown kind, or too large.
    """
    try:
        with Image.open(source, formats=_FORMATS) as image:
            _check_extent(image)
            image.load()
            return _plain(image)
    except Unreadable:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("is too large", f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # damaged files make Pillow raise nearly anything
        unknown = isinstance(error, UnidentifiedImageError)
        raise Unreadable("cannot be read", "not an image of a known kind" if unknown else first_line(error)) from error


def _check_extent(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable("is too large", f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")


def _plain(image: Image.Image) -> Image.Image:
    """The image in mode RGB or L, with what was lost noted."""
    noted = ["orientation"] if _asks_for_rotation(image) else []
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        noted.append("transparency")
    if image.mode.startswith("I;16"):
        noted.append("16 bits")
    plain = to_mode(image)
    plain.info = {**image.info, "noted": tuple(noted)}
    return plain


def _asks_for_rotation(image: Image.Image) -> bool:
    try:
        return bool(image.info.get("exif")) and image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # damaged notes beside sound pixels
        return False


def to_mode(image: Image.Image) -> Image.Image:
    """An image in mode L if it has no colours, else RGB.

    Raises:
        Unreadable: its pixels have no known range.
    """
    if image.mode in ("RGB", "L"):
        return image.copy()
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image) / 257.0).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise Unreadable("has pixels without a known range", f"mode {image.mode}")
    return image.convert("RGB")


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
