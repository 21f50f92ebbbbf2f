"""Images to be measured, whatever they come from, as batches of bytes: no more than a batch is ever decoded at once.

Dimensions: B batch, H height, W width.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unite_mm.errors import UsageError
from unite_mm.kit.parallel import map_threads
from unite_mm_image.data.image_files import decode, notes_of, quiet
from unite_mm_image.data.limits import MAX_PIXELS, MOST_SCORED, Unreadable, check_extent
from unite_mm_image.data.preprocessing import Colours, centre_crop

if TYPE_CHECKING:
    from unite_mm_image.data.dataset import ImageData

EXAMPLES = 3

_AT_ONCE = 16
"""Images that are decoded before the first is used."""

_BATCH_BYTES = 3 << 24
"""Bytes of the images of a batch, 64 of 512 x 512; a batch holds fewer where they are larger."""


class ImageSet(ABC):
    """A number of images in a fixed order."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        """Pixels (H, W, 3) of the images start .. stop - 1, unreadable ones left out."""

    def batches(self, size: int) -> Iterator[Tensor]:
        """RGB pixels (B, 3, H, W) uint8 in order, at most `size` at once; a batch holds images of one extent."""
        for start in range(0, len(self), size):
            run: list[NDArray[np.uint8]] = []
            for row in self._some(start, min(start + size, len(self))):
                full = run and (len(run) + 1) * row.nbytes > _BATCH_BYTES
                if run and (full or row.shape != run[0].shape):
                    yield _stacked(run)
                    run = []
                run.append(row)
            if run:
                yield _stacked(run)

    def _some(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        """Rows start .. stop - 1, a few at once: they may be large."""
        for first in range(start, stop, _AT_ONCE):
            yield from self.rows(first, min(first + _AT_ONCE, stop))

    def check(self) -> list[str]:
        """What a reader must know once all images were seen.

        Raises:
            UsageError: too many images could not be read.
        """
        return []


def _stacked(rows: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) of an image in mode RGB or L; grey values three times."""
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


class PictureSet(ImageSet):
    """Native samples."""

    def __init__(self, pictures: Sequence[Image.Image]) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def rows(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        return [rgb(picture) for picture in self.pictures[start:stop]]

    def check(self) -> list[str]:
        return notes_of(Counter(word for picture in self.pictures for word in picture.info.get("noted", ())))


class ArraySet(ImageSet):
    """Pixels (N, H, W, 3) or (N, H, W, 1) uint8."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        part = self.pixels[start:stop]
        return list(np.broadcast_to(part, (*part.shape[:3], 3)))


class SplitSet(ImageSet):
    """One split of a prepared data set."""

    def __init__(self, data: "ImageData", split: str) -> None:
        self.data = data
        self.split = split

    def __len__(self) -> int:
        return self.data.size(self.split)

    def rows(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        pixels = self.data.pixels(self.split, torch.arange(start, stop))
        return list(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())


class FolderSet(ImageSet):
    """Image files, decoded when they are needed.

    Args:
        root: their folder.
        paths: relative to it.
        size: images of another extent are scaled and cut to this square, as training data are; None: as they are.
        colours: `grey` takes the colours away; None: as they are.
        most_unreadable: share of unreadable images above which `check` refuses the set.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        size: int | None = None,
        colours: Colours | None = None,
        most_unreadable: float = 0.01,
    ) -> None:
        self.root, self.paths, self.size, self.colours = root, paths, size, colours
        self.most_unreadable = most_unreadable
        self.unreadable: dict[str, str] = {}
        self.cropped: set[str] = set()
        self.noted: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        with quiet():
            return [row for row in map_threads(self._row, self.paths[start:stop]) if row is not None]

    def check(self) -> list[str]:
        notes = []
        if self.unreadable:
            named = "; ".join(f"{name} {why}" for name, why in sorted(self.unreadable.items())[:EXAMPLES])
            what = f"{len(self.unreadable)} of {len(self)} images of {self.root} cannot be used ({named})"
            if len(self.unreadable) > self.most_unreadable * len(self):
                raise UsageError(what, "fix or remove them, or raise image.max_unreadable")
            notes.append(f"{what} and are left out")
        if self.cropped:
            notes.append(
                f"{len(self.cropped)} of {len(self)} images of {self.root} were scaled and cut to {self.size} pixels"
            )
        notes += [f"{self.root}: {note}" for note in notes_of(Counter(word for word, _ in self.noted))]
        return notes

    def _admit(self, image: Image.Image) -> None:
        check_extent(image, MOST_SCORED if self.size is None else MAX_PIXELS)

    def _row(self, name: str) -> NDArray[np.uint8] | None:
        try:
            with ExitStack() as held:
                return self._finished(name, decode(self.root / name, self._admit, held))
        except Unreadable as error:
            self.unreadable[name] = f"{error.reason}: {error}"
            return None

    def _finished(self, name: str, image: Image.Image) -> NDArray[np.uint8]:
        self.noted.update((word, name) for word in image.info.get("noted", ()))
        if self.size is not None and image.size != (self.size, self.size):
            image = centre_crop(image, self.size)
            self.cropped.add(name)
        return rgb(image.convert("L") if self.colours == "grey" else image)
