"""Sound files of every kind that the image plugin reads, and seeded damage to them."""

import io
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.image_files import encoded, noise
from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError
from unite_mm.progress import Silent
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.find import find
from unite_mm_image.data.image_files import SUFFIXES
from unite_mm_image.data.limits import Unreadable
from unite_mm_image.data.preprocessing import square
from unite_mm_image.files.formats import read, read_squares
from unite_mm_image.metrics.references import open_reference


def arrays(compressed: bool = False, **content: Any) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **content)
    return stream.getvalue()


def sound_files() -> dict[str, bytes]:
    """Small valid files by name; the suffix is that of the format."""
    pages = [noise(i, 9, 7) for i in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "rgb.png": encoded(pages[0]),
        "label.png": encoded(pages[0].convert("P")),
        "deep.png": encoded(Image.fromarray(np.arange(63, dtype=np.uint16).reshape(7, 9) * 1000)),
        "frames.png": encoded(pages[0], save_all=True, append_images=pages[1:]),
        "plain.jpg": encoded(noise(1, 16, 16), "JPEG", exif=exif),
        "steps.jpeg": encoded(noise(1, 24, 16), "JPEG", progressive=True),
        "plain.bmp": encoded(pages[0], "BMP"),
        "plain.gif": encoded(pages[0].convert("P"), "GIF"),
        "frames.gif": encoded(pages[0].convert("P"), "GIF", save_all=True, append_images=pages[1:]),
        "plain.webp": encoded(pages[0], "WEBP"),
        "frames.webp": encoded(pages[0], "WEBP", save_all=True, append_images=pages[1:]),
        "plain.tif": encoded(pages[0], "TIFF"),
        "pages.tif": encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw"),
        "plain.ppm": encoded(pages[0], "PPM"),
        "plain.pgm": encoded(pages[0].convert("L"), "PPM"),
    }
    if ".avif" in SUFFIXES:
        files["plain.avif"] = encoded(pages[0], "AVIF")
    pixels = np.stack([np.asarray(page) for page in pages])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, name in enumerate(("a/0.png", "b/1.jpg", "b/2.gif")):
            archive.writestr(name, encoded(pages[index], {"png": "PNG", "jpg": "JPEG", "gif": "GIF"}[name[-3:]]))
    return files | {
        "images.npz": arrays(arr_0=pixels, arr_1=np.arange(3)),
        "packed.npz": arrays(compressed=True, arr_0=pixels, arr_1=np.arange(3)),
        "statistics.npz": arrays(mu=np.ones(4), sigma=np.eye(4)),
        "features.npz": arrays(feats=np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)),
        "images.zip": stream.getvalue(),
    }


def damaged(content: bytes, seed: int) -> bytes:
    """The content with one to four changes: bits flipped, bytes set, cut off, left out, repeated, or put in."""
    rng = random.Random(seed)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        place, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 16))
        kind = rng.randrange(6)
        if kind in (0, 1):  # headers are short, and most of what can go wrong lies there
            data[place if kind else rng.randrange(min(len(data), 200))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[place : place + length] = rng.choice((b"\0", b"\xff", b"9", b"(")) * length
        elif kind == 3:
            del data[place if rng.random() < 0.3 else max(0, len(data) - length) :]
        elif kind == 4:
            del data[place : place + length]
        else:
            data[place:place] = rng.randbytes(length)
    return bytes(data)


def readers(path: Path) -> Iterator[Callable[[], object]]:
    """All that the plugin does with a file of the user's."""
    config = ImageConfig(size=8, patch=4, lpips_weight=0)
    yield lambda: read(path)
    yield lambda: read_squares(path, 8, "grey")
    if path.suffix == ".npz":
        yield lambda: open_reference(DataRequest(str(path), path.parent / "cache", Silent()), config)
    if path.suffix in (".npz", ".zip"):
        yield lambda: _prepared(path)


def _prepared(path: Path) -> None:
    """Decode every image of a source as a preparation does; unreadable ones are counted there."""
    source = find(str(path), path.parent)
    source.fingerprint()
    items = source.items(Silent())
    for index in range(len(items.names)):
        try:
            with ExitStack() as held:
                square(items.open(index, held), 8, "rgb")
        except Unreadable:
            pass


def surprises(path: Path) -> list[str]:
    """Errors that no user's file may cause: all but our own, whose messages have one line."""
    found = []
    for reader in readers(path):
        try:
            reader()
        except UniteError as error:
            if "\n" in error.message or len(error.message) > 2000:
                found.append(f"message of several lines or too long: {error.message[:200]}")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return found
