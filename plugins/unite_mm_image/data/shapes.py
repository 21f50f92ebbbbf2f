"""The embedded set: ten classes of shapes, rendered when they are asked for, the same on every machine.

Image i of a split is a pure function of split, i and size; its class is i modulo ten. Place, size, tilt, colours and
background vary; shape and background always differ in brightness, so that the set serves in grey as well. Sizes share
their layout: image i shows the same scene at 32 and at 64 pixels.
"""

import colorsys
import hashlib
import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unite_mm.contract import SPLITS
from unite_mm_image.data.preprocessing import Colours
from unite_mm_schemas.card import DataCard

CLASSES = ("circle", "square", "triangle", "diamond", "star", "plus", "ring", "heart", "crescent", "arrow")
SIZES = {"train": 50_000, "validation": 5_000, "test": 5_000}
"""Images of each split."""

VERSION = 1
"""Raised when the shapes change."""

_OVERSAMPLING = 4
_CONTRAST = 0.3
"""Least difference in brightness between the shape and any place of the background, of 1."""

Colour = tuple[float, float, float]
Outline = list[tuple[float, float]]


@dataclass(frozen=True)
class Scene:
    """What an image shows, in units of its side.

    Attributes:
        shape: class.
        x: centre of the shape, from the left.
        y: centre of the shape, from the top.
        radius: half of the shape's extent.
        tilt: rotation in radians.
        colour: RGB of the shape, in [0, 1].
        background: RGB where the background begins.
        fading: RGB where it ends.
        direction: in which it fades, in radians.
    """

    shape: int
    x: float
    y: float
    radius: float
    tilt: float
    colour: Colour
    background: Colour
    fading: Colour
    direction: float


def scene(split: str, index: int) -> Scene:
    """The scene of image `index` of a split."""
    # Of Python's random numbers, those of `random()` from an integer seed are promised never to change.
    draw = random.Random((VERSION * len(SPLITS) + SPLITS.index(split)) * 10_000_019 + index).random
    radius = 0.22 + 0.20 * draw()
    x, y = (radius + (1 - 2 * radius) * draw() for _ in range(2))
    tilt, direction = 0.4 * (draw() - 0.5), 2 * math.pi * draw()
    while True:
        colour, background = (colorsys.hsv_to_rgb(draw(), draw(), 0.1 + 0.9 * draw()) for _ in range(2))
        shade = 0.6 + 0.4 * draw()
        fading = (background[0] * shade, background[1] * shade, background[2] * shade)
        bright, first, second = _brightness(colour), _brightness(background), _brightness(fading)
        if bright - max(first, second) >= _CONTRAST or min(first, second) - bright >= _CONTRAST:
            return Scene(index % len(CLASSES), x, y, radius, tilt, colour, background, fading, direction)


def _brightness(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def render_shape(split: str, index: int, size: int, colours: Colours) -> NDArray[np.uint8]:
    """Pixels (S, S, C) of image `index` of a split."""
    what = scene(split, index)
    cover = _cover(what, size)[..., None]
    place = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    along = math.cos(what.direction) * place[None, :] + math.sin(what.direction) * place[:, None]
    share = (along[..., None] + 0.75) / 1.5  # 0 where the background begins, 1 where it ends
    begin, end, front = (np.array(c, dtype=np.float32) for c in (what.background, what.fading, what.colour))
    pixels = (1 - cover) * ((1 - share) * begin + share * end) + cover * front
    rounded: NDArray[np.uint8] = np.rint(pixels * 255).astype(np.uint8)
    if colours == "grey":
        return np.asarray(Image.fromarray(rounded).convert("L"))[..., None]
    return rounded


def _cover(what: Scene, size: int) -> NDArray[np.float32]:
    """(S, S) share of each pixel that the shape covers."""
    large = size * _OVERSAMPLING
    canvas = Image.new("L", (large, large), 0)
    pen = ImageDraw.Draw(canvas)
    cos, sin = math.cos(what.tilt) * what.radius * large, math.sin(what.tilt) * what.radius * large
    left, top = what.x * large, what.y * large
    for fill, outline in _OUTLINES[what.shape]:
        pen.polygon([(left + x * cos - y * sin, top + x * sin + y * cos) for x, y in outline], fill=fill)
    cover = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32)
    return cover / np.float32(255)


def _disc(radius: float, x: float = 0.0) -> Outline:
    turns = [2 * math.pi * i / 64 for i in range(64)]
    return [(x + radius * math.cos(turn), radius * math.sin(turn)) for turn in turns]


def _star() -> Outline:
    turns = [(math.pi * i / 5, 1.0 if i % 2 == 0 else 0.42) for i in range(10)]
    return [(radius * math.sin(turn), -radius * math.cos(turn)) for turn, radius in turns]


def _heart() -> Outline:
    turns = [2 * math.pi * i / 64 for i in range(64)]
    height = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
    return [(math.sin(t) ** 3 * 0.95, -(h + 2.5) / 15) for t, h in zip(turns, height, strict=True)]


def _plus(arm: float = 0.3) -> Outline:
    corners = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]  # of the upper arm; the others are quarter turns of it
    outline: Outline = []
    for _ in range(4):
        outline += corners
        corners = [(-y, x) for x, y in corners]
    return outline


_ARROW = [(-1.0, -0.25), (0.05, -0.25), (0.05, -0.75), (1.0, 0.0), (0.05, 0.75), (0.05, 0.25), (-1.0, 0.25)]
_OUTLINES: tuple[list[tuple[int, Outline]], ...] = (
    [(255, _disc(0.95))],
    [(255, [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)])],
    [(255, [(0.0, -0.95), (0.95, 0.75), (-0.95, 0.75)])],
    [(255, [(0.0, -1.0), (0.6, 0.0), (0.0, 1.0), (-0.6, 0.0)])],
    [(255, _star())],
    [(255, _plus())],
    [(255, _disc(0.95)), (0, _disc(0.5))],
    [(255, _heart())],
    [(255, _disc(0.95)), (0, _disc(0.8, 0.5))],
    [(255, _ARROW)],
)
"""For each class: outlines to fill one after the other, y downwards, in units of the radius."""


class ShapePixels:
    """Rows of rendered pixels; those of small sets are rendered once and kept.

    Rows count through the training, the validation and the test images.

    Args:
        size: S.
        colours: RGB or grey.
    """

    _KEPT = 1 << 29
    """Bytes of pixels that are kept."""

    def __init__(self, size: int, colours: Colours) -> None:
        self._size, self._colours = size, colours
        self.shape = (sum(SIZES.values()), size, size, 3 if colours == "rgb" else 1)
        keep = int(np.prod(self.shape)) <= self._KEPT
        # Zeros cost no memory until they are written to.
        self._pixels = np.zeros(self.shape, dtype=np.uint8) if keep else None
        self._rendered = np.zeros(len(self), dtype=bool)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels (B, S, S, C) of the rows (B,)."""
        if self._pixels is None:
            rendered = [self._render(row) for row in rows.tolist()]
            return np.stack(rendered) if rendered else np.empty((0, *self.shape[1:]), dtype=np.uint8)
        for row in rows[~self._rendered[rows]].tolist():
            self._pixels[row] = self._render(row)
        self._rendered[rows] = True
        chosen: NDArray[np.uint8] = self._pixels[rows]
        return chosen

    def _render(self, row: int) -> NDArray[np.uint8]:
        for split in SPLITS:
            if row < SIZES[split]:
                return render_shape(split, row, self._size, self._colours)
            row -= SIZES[split]
        raise IndexError(row)


def card(size: int, colours: Colours) -> DataCard:
    """The card of the set."""
    count = sum(SIZES.values())
    facts = f"unite-mm shapes {VERSION} {SIZES}"
    return DataCard(
        modality="image",
        name="shapes",
        description=f"rendered shapes, {size} x {size} {'RGB' if colours == 'rgb' else 'grey'}",
        read=count,
        kept=count,
        splits=dict(SIZES),
        split_hash=hashlib.sha256(facts.encode()).hexdigest(),
        settings={"version": VERSION, "size": size, "colours": colours},
    )
