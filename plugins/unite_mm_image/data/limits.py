"""What is read of files that are not trusted: regular files only, and no more than a task can need.

Small files can hold huge images and arrays. Every limit here is checked from names, sizes and headers, before anything
is decoded or allocated.
"""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from unite_mm.errors import UsageError

MAX_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded (a quarter of a gigabyte): where Pillow too suspects an attack."""

MOST_SCORED = 1 << 22
"""Pixels of the largest image that is scored at its own extent, 2048 x 2048: networks of features see all of them."""

LARGEST_FILE = 1 << 29
"""Bytes of the largest image file that is read."""

MOST_CLASSES = 100_000
"""Classes that images in a file may be numbered by; there is a counter, and in a model a row of weights, for each."""

ALWAYS_HELD = 1 << 30
"""Bytes of images that a file may hold however small it is."""

MOST_TIMES = 200
"""Bytes of images that each byte of a file may stand for; real images have 100 at most."""

AT_ONCE = 1 << 27
"""Pixels that all threads together decode at a time: half a gigabyte in colour, twice that while they are converted."""

_changed = threading.Condition()
_decoding = 0


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


def is_special(path: Path) -> bool:
    """Whether a path leads to a device, a pipe or a socket, which have no end or make their reader wait."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # what is missing is told by whoever opens it
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def in_memory(pixels: int) -> Iterator[None]:
    """Hold a share of the pixels that all threads together decode; waits until others have left enough.

    An image larger than the whole waits until there is no other. No thread may hold two shares.
    """
    global _decoding
    with _changed:
        _changed.wait_for(lambda: _decoding == 0 or _decoding + pixels <= AT_ONCE)
        _decoding += pixels
    try:
        yield
    finally:
        with _changed:
            _decoding -= pixels
            _changed.notify_all()


def need_file(path: Path, named: str = "") -> None:
    """Refuse devices, pipes and sockets before they are opened.

    Args:
        path: the file; may be missing.
        named: what messages call it; empty: the path.

    Raises:
        UsageError: it is one.
    """
    if is_special(path):
        raise UsageError(f"{named or path}: is a device or a pipe, not a file", "Save the images to a file first.")


def check_bytes(size: int) -> None:
    """Refuse an image file by its size.

    Raises:
        Unreadable: it is too large.
    """
    if size > LARGEST_FILE:
        raise Unreadable("is too large", f"a file of {size:,} bytes, more than {LARGEST_FILE:,}")


def check_extent(image: Image.Image, most: int = MAX_PIXELS) -> None:
    """Refuse an image by its header.

    Raises:
        Unreadable: it is too large.
    """
    if image.width * image.height > most:
        raise Unreadable("is too large", f"{image.width} x {image.height} pixels, more than {most:,}")


def most_held(stored: int) -> int:
    """Bytes that the images of files of `stored` bytes may take in memory."""
    return max(ALWAYS_HELD, MOST_TIMES * stored)


class Budget:
    """Admits the images of one folder or file, which are all held in memory at once, by their headers.

    Args:
        path: for messages.
        stored: bytes of the files.
        most: pixels of the largest image.
    """

    def __init__(self, path: Path, stored: int, most: int = MOST_SCORED) -> None:
        self.path, self.stored, self.most = path, stored, most
        self._left = most_held(stored)
        self._lock = threading.Lock()

    def __call__(self, image: Image.Image) -> None:
        """Count an image that is about to be decoded; called from several threads.

        Raises:
            Unreadable: it is too large to be scored.
            UsageError: all images together are.
        """
        check_extent(image, self.most)
        grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")
        with self._lock:  # Pillow holds four bytes of a pixel in colour
            self._left -= image.width * image.height * (1 if grey else 4)
            if self._left < 0:
                raise too_much(self.path, self.stored)


def too_much(path: Path, stored: int) -> UsageError:
    """The refusal of small files that hold too much."""
    return UsageError(
        f"{path}: {stored:,} bytes hold images of more than {most_held(stored) / 1e9:,.1f} GB",
        f"What is read takes at most {MOST_TIMES} times the bytes of its files, or {ALWAYS_HELD / 1e9:.1f} GB.",
    )
