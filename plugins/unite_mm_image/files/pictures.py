"""Pictures (PNG): grids of images, and inputs beside their reconstructions with the difference between the two."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unite_mm.errors import UniteError
from unite_mm_image.data.image_files import to_mode
from unite_mm_image.data.preprocessing import Colours, prepare

MOST_IMAGES = 100
MOST_PAIRS = 24
AMPLIFICATION = 4
"""Factor by which differences are made visible."""

_GAP = 2
_WIDE_GAP = 14
_VISIBLE = 64
"""Pixels that an image should cover at least; smaller ones are enlarged by a whole factor."""

_WHITE = (255, 255, 255)
_BLACK = (40, 40, 40)


def save_picture(samples: Sequence[Image.Image], path: Path, most: int = MOST_IMAGES, columns: int = 10) -> None:
    """A grid of the first samples, row by row, in their order.

    Args:
        samples: at least one; of any mode and extent, each scaled into a cell of the size of the largest.
        path: PNG file.
        most: images shown.
        columns: of the grid.

    Raises:
        ValueError: there is no sample.
        UniteError: the file cannot be written.
    """
    if not samples:
        raise ValueError("no images to show")
    shown = [to_mode(sample).convert("RGB") for sample in samples[:most]]
    width, height = (max(image.size[axis] for image in shown) for axis in (0, 1))
    factor = _factor(width, height)
    columns = min(columns, len(shown))
    lines = -(-len(shown) // columns)
    cell = (width * factor, height * factor)
    canvas = Image.new("RGB", (columns * (cell[0] + _GAP) - _GAP, lines * (cell[1] + _GAP) - _GAP), _WHITE)
    for index, image in enumerate(shown):
        line, column = divmod(index, columns)
        canvas.paste(_enlarged(image, factor), (column * (cell[0] + _GAP), line * (cell[1] + _GAP)))
    _save(canvas, path)


def save_pairs_picture(
    inputs: Sequence[Image.Image], outputs: Sequence[Image.Image], path: Path, most: int = MOST_PAIRS, columns: int = 3
) -> None:
    """Each input, its reconstruction and their absolute difference, amplified, side by side.

    Inputs are cut and resized to the extent of their reconstructions, as the model saw them.

    Args:
        inputs: at least one.
        outputs: square, in the same order.
        path: PNG file.
        most: pairs shown.
        columns: pairs in a row.

    Raises:
        ValueError: there is no input, or not as many outputs as inputs.
        UniteError: the file cannot be written.
    """
    if not inputs or len(inputs) != len(outputs):
        raise ValueError(f"cannot show {len(inputs)} inputs beside {len(outputs)} reconstructions")
    triples = [_triple(*pair) for pair in list(zip(inputs, outputs, strict=True))[:most]]
    side = max(image.width for triple in triples for image in triple)
    factor = _factor(side, side)
    cell = side * factor
    columns = min(columns, len(triples))
    lines = -(-len(triples) // columns)
    wide = 3 * (cell + _GAP) - _GAP + _WIDE_GAP
    font = ImageFont.load_default(max(9, min(16, cell // 7)))
    head = round(font.size * 1.6) if isinstance(font, ImageFont.FreeTypeFont) else 14
    canvas = Image.new("RGB", (columns * wide - _WIDE_GAP, head + lines * (cell + _GAP) - _GAP), _WHITE)
    pen = ImageDraw.Draw(canvas)
    for column in range(columns):
        for place, title in enumerate(("input", "output", f"diff. x {AMPLIFICATION}")):
            pen.text((column * wide + place * (cell + _GAP), 1), title, fill=_BLACK, font=font)
    for index, triple in enumerate(triples):
        line, column = divmod(index, columns)
        for place, image in enumerate(triple):
            corner = (column * wide + place * (cell + _GAP), head + line * (cell + _GAP))
            canvas.paste(_enlarged(image, factor), corner)
    _save(canvas, path)


def difference(first: Image.Image, second: Image.Image) -> Image.Image:
    """The absolute difference of two RGB images of one extent, amplified and cut off at white."""
    gap = np.abs(np.asarray(first, dtype=np.int32) - np.asarray(second, dtype=np.int32))
    return Image.fromarray(np.minimum(AMPLIFICATION * gap, 255).astype(np.uint8))


def seen_by_model(original: Image.Image, copy: Image.Image) -> tuple[Image.Image, Image.Image]:
    """An input, cut and resized to the extent of its reconstruction, and that reconstruction; both RGB."""
    colours: Colours = "grey" if copy.mode == "L" else "rgb"
    pixels = prepare(original, copy.width, colours)
    seen = Image.fromarray(pixels[..., 0] if colours == "grey" else pixels).convert("RGB")
    return seen, to_mode(copy).convert("RGB")


def _triple(original: Image.Image, copy: Image.Image) -> tuple[Image.Image, Image.Image, Image.Image]:
    seen, back = seen_by_model(original, copy)
    return seen, back, difference(seen, back)


def _factor(width: int, height: int) -> int:
    return max(1, -(-_VISIBLE // max(width, height)))


def _enlarged(image: Image.Image, factor: int) -> Image.Image:
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _save(canvas: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.save(path, format="PNG")
    except OSError as error:
        raise UniteError(f"{path}: cannot be written: {error.strerror or error}", "Check the folder.") from error
