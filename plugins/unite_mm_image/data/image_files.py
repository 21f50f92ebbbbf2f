"""Image files, decoded to their ends. They are not trusted: only known formats are opened, and in bounds.

What an image loses on the way is noted in its `info` under `noted`, as words for which `notes_of` has the sentences.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from unite_mm.errors import UniteError
from unite_mm.kit.messages import first_line
from unite_mm_image.data.limits import MAX_PIXELS, Unreadable, check_bytes, check_extent, in_memory, is_special

_AVIF = importlib.util.find_spec("PIL._avif") is not None

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif", ".jpe") + (
    (".avif",) if _AVIF else ()
)
"""Files taken for images; AVIF where the installed Pillow reads it."""

UNREAD = {
    ".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".avif": "AVIF", ".avifs": "AVIF", ".jxl": "JPEG XL",
    ".jp2": "JPEG 2000", ".j2k": "JPEG 2000", ".svg": "SVG", ".psd": "Photoshop", ".dng": "raw", ".cr2": "raw",
    ".cr3": "raw", ".nef": "raw", ".arw": "raw", ".tga": "TGA", ".exr": "OpenEXR", ".pdf": "PDF", ".qoi": "QOI",
}  # fmt: skip
"""Images in formats that are not read: the name of the format by the suffix, unless it is among `SUFFIXES`."""

CONVERT = "convert them to JPEG or PNG"

NOTES = {
    "transparency": "{count} images lost their transparency.",
    "16 bits": "{count} images of 16 bits a pixel were reduced to 8.",
    "orientation": "{count} images ask in EXIF to be rotated; as in the reference, they are taken as they are stored.",
    "frames": "{count} images have further pages or frames; the first of each is taken.",
}
"""Sentences for the words in `noted`."""

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM") + (("AVIF",) if _AVIF else ())
_ORIENTATION = 0x0112
_WEBP_SIDE = 16_383
"""Pixels of the longest side that WebP can encode; damaged headers claim more, and its decoder holds four copies."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_SHORT_TEXT = 1024
"""Bytes of plain text in a PNG file that are always kept: the class of an image may be among them."""

_SIGNATURES = (
    (b"ftyphei", "HEIC"), (b"ftyphev", "HEIC"), (b"ftypmif1", "HEIC"), (b"ftypmsf1", "HEIC"), (b"ftypavif", "AVIF"),
    (b"ftypavis", "AVIF"), (b"JXL \r\n", "JPEG XL"), (b"\xff\x0a", "JPEG XL"), (b"jP  \r\n", "JPEG 2000"),
    (b"%PDF", "PDF"), (b"8BPS", "Photoshop"), (b"<svg", "SVG"),
)  # fmt: skip


Admit = Callable[[Image.Image], None]
"""Called with an opened image, of which only the header was read; may refuse it."""


def decode(source: Path | IO[bytes], admit: Admit | None = None, held: ExitStack | None = None) -> Image.Image:
    """The image of a file, decoded to its end, as it is stored: no rotation by EXIF, first page or frame of several.

    Args:
        source: the file.
        admit: may refuse the image by its header.
        held: closed when the caller is done with the image, so that all threads together hold a bounded number of
            pixels; None: when the image is decoded.

    Returns:
        An image in mode RGB or L. Its `info` holds the file's notes, among them `noted`: a tuple of words for what
        was lost, the keys of `NOTES`.

    Raises:
        Unreadable: the file is damaged, of an unknown kind, too large, or no file.
        Exception: what `admit` raises.
    """
    if isinstance(source, Path):
        _check_file(source)
    own = ExitStack() if held is None else held
    try:
        return _decoded(source, admit, own)
    except (Unreadable, UniteError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("is too large", f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # damaged files make Pillow raise nearly anything
        again = _without_notes(source)
        if again is not None:
            own.close()
            try:
                return _decoded(again, admit, own)
            except UniteError:
                raise
            except Exception:
                pass
        unknown = isinstance(error, UnidentifiedImageError)
        raise Unreadable("cannot be read", _kind(source) if unknown else first_line(error)) from error
    finally:
        if held is None:
            own.close()


def notes_of(noted: Mapping[str, int]) -> list[str]:
    """Sentences for counted words, in the order of `NOTES`."""
    return [text.format(count=f"{noted[word]:,}") for word, text in NOTES.items() if noted.get(word)]


def unread_format(name: str) -> str:
    """The format of an image that is not read, by the file's name; empty for what is read, or no image."""
    suffix = "." + name.lower().rpartition(".")[2]
    return "" if suffix in SUFFIXES else UNREAD.get(suffix, "")


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings of harmless faults in the notes of files; images too large are errors of ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


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
        return _of_16_bits(image)
    if image.mode in ("I", "F"):
        raise Unreadable("has pixels without a known range", f"mode {image.mode}")
    return image.convert("RGB")


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Strip by strip: the exact quotients take eight bytes of a pixel."""
    deep = np.asarray(image)
    pixels = np.empty(deep.shape, dtype=np.uint8)
    step = max(1, (1 << 20) // max(1, image.width))
    for top in range(0, len(deep), step):
        pixels[top : top + step] = np.rint(deep[top : top + step] / 257.0)
    return Image.fromarray(pixels)


def _check_file(path: Path) -> None:
    if is_special(path):
        raise Unreadable("cannot be read", "a device or a pipe, not a file")
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise Unreadable("cannot be read", first_line(error)) from error
    check_bytes(size)


def _decoded(source: Path | IO[bytes], admit: Admit | None, held: ExitStack) -> Image.Image:
    with Image.open(source, formats=_FORMATS) as image:
        check_extent(image)
        if image.format == "WEBP" and max(image.size) > _WEBP_SIDE:
            raise Unreadable("cannot be read", f"a WebP canvas of {image.width} x {image.height} pixels")
        if admit is not None:
            admit(image)
        held.enter_context(in_memory(image.width * image.height))
        image.load()
        check_extent(image)
        return _plain(image)


def _plain(image: Image.Image) -> Image.Image:
    """The image in mode RGB or L, with what was lost noted."""
    noted = ["orientation"] if _asks_for_rotation(image) else []
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        noted.append("transparency")
    if image.mode.startswith("I;16"):
        noted.append("16 bits")
    plain = to_mode(image)
    info = dict(image.info)
    if _has_more(image):  # asked last: it may move to the next frame
        noted.append("frames")
    plain.info = {**info, "noted": tuple(noted)}
    return plain


def _asks_for_rotation(image: Image.Image) -> bool:
    try:
        return bool(image.info.get("exif")) and image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # damaged notes beside sound pixels
        return False


def _has_more(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # something follows, though damaged
        return True


def _kind(source: Path | IO[bytes]) -> str:
    """What a file that Pillow does not know seems to be."""
    head = _head(source, 64)
    for signature, name in _SIGNATURES:
        if signature in (head if signature.startswith((b"ftyp", b"<svg")) else head[:12]):
            return f"not an image of a known kind but {name}, which is not read here; {CONVERT}"
    return "not an image of a known kind"


def _head(source: Path | IO[bytes], count: int) -> bytes:
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                return file.read(count)
        source.seek(0)
        return source.read(count)
    except (OSError, ValueError):
        return b""


def _without_notes(source: Path | IO[bytes]) -> BytesIO | None:
    """A PNG file without its texts and colour profile, whose size Pillow bounds; None where there are none to leave."""
    if _head(source, len(_PNG)) != _PNG:
        return None
    content = _head(source, -1)
    kept, place, dropped = [_PNG], len(_PNG), False
    while place + 8 <= len(content):
        length, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        end = min(place + 12 + length, len(content))
        if kind in _PNG_NOTES and (kind != b"tEXt" or length > _SHORT_TEXT):
            dropped = True
        else:
            kept.append(content[place:end])
        place = end
    return BytesIO(b"".join([*kept, content[place:]])) if dropped else None
