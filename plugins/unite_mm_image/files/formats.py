"""Sample files: folders of PNG files and arrays (.npz) are written and read; image files and zip files are read.

A folder keeps the class of an image in the PNG file itself (a text chunk `label`), so that names say nothing but the
order. The arrays are those of ADM's evaluation suite.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.parallel import map_threads
from unite_mm_image.data.array_files import read_arrays
from unite_mm_image.data.image_files import CONVERT, SUFFIXES, decode, quiet, to_mode, unread_format
from unite_mm_image.data.limits import MOST_CLASSES, MOST_SCORED, Budget, Unreadable, need_file
from unite_mm_image.data.listing import Listing, list_folder, list_zip, open_zip, read_member
from unite_mm_image.data.native import LABEL, label_of, labels_of, rows_to_pictures
from unite_mm_image.data.preprocessing import Colours, square

READABLE = "a folder or .zip of images, an image file, or .npz"
WRITABLE = "a folder (no suffix), .png or .npz"

NOTED = "noted"
"""Key of an image's `info` under which stands what it lost when it was read."""

_AGAIN = "Leave it out, or get it again."

LARGEST_GRID = 10_000
"""Images of a grid that is written as samples."""


def write(samples: Sequence[Image.Image], path: Path) -> None:
    """Write samples in the format that the suffix names.

    - no suffix: a folder of PNG files `000000.png`, ..., in order; created, or empty.
    - `.npz`: `arr_0` (N, H, W, 3) uint8 and, where every class is known, `arr_1` (N,) int64. Grey becomes RGB. All
      images must have one extent.
    - `.png`: a single image as it is; several as one grid.

    Raises:
        UsageError: the suffix names no known format, or the images do not fit it.
        UniteError: it cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in ("", ".png", ".npz"):
        raise UsageError(f"{path}: cannot write images as {suffix} files", f"Known formats are {WRITABLE}.")
    if suffix == ".png" and len(samples) > LARGEST_GRID:
        raise UsageError(f"{path}: a grid of {len(samples):,} images is too large", "Write a folder or .npz instead.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npz":
            _write_arrays(samples, path)
        elif suffix == "":
            _write_folder(samples, path)
        elif len(samples) == 1:
            _save(samples[0], path)
        else:
            from unite_mm_image.files.pictures import save_picture

            save_picture(samples, path, most=len(samples))
    except OSError as error:
        hint = "Check the folder and its space."
        raise UniteError(f"{path}: cannot be written: {error.strerror or error}", hint) from error


def _write_folder(samples: Sequence[Image.Image], path: Path) -> None:
    path.mkdir(exist_ok=True)
    if any(path.iterdir()):
        raise UsageError(f"{path}: folder is not empty")
    digits = max(6, len(str(len(samples) - 1)))

    def save(entry: tuple[int, Image.Image]) -> None:
        _save(entry[1], path / f"{entry[0]:0{digits}}.png")

    list(map_threads(save, enumerate(samples)))


def _save(image: Image.Image, path: Path) -> None:
    notes = PngInfo()
    label = label_of(image)
    if label is not None:
        notes.add_text(LABEL, str(label))
    to_mode(image).save(path, format="PNG", pnginfo=notes)


def _write_arrays(samples: Sequence[Image.Image], path: Path) -> None:
    extents = {image.size for image in samples}
    if len(extents) != 1:
        few = ", ".join(f"{width} x {height}" for width, height in sorted(extents)[:3])
        raise UsageError(
            f"{path}: images differ in size ({few})" if samples else f"{path}: no image to write",
            "Write a folder instead.",
        )
    arrays: dict[str, Any] = {"arr_0": np.stack([np.asarray(to_mode(image).convert("RGB")) for image in samples])}
    labels = labels_of(samples)
    if labels is not None:
        arrays["arr_1"] = labels.numpy()
    with path.open("wb") as file:
        np.savez(file, **arrays)


Finish = Callable[[Image.Image], Image.Image]
"""What becomes of an image in mode RGB or L as soon as it is decoded."""


def read(path: Path) -> list[Image.Image]:
    """Read images, in the order of their names (of the array's rows), in mode RGB or L and at their own extent.

    `info` holds `name`, the class as `label` where the file tells it, and `noted`, words for what was lost. Folders are
    searched to their bottom; files that are no images by their names are passed over.

    Raises:
        UsageError: the file does not exist, holds no image, a damaged one or one too large, which the message names,
            or more than can be needed.
    """
    suffix = _kind(path)
    if suffix == ".npz":
        rows, labels = read_arrays(path, MOST_SCORED)
        return rows_to_pictures(rows, None if labels is None else labels.tolist())
    return _read_files(path, suffix, None)


def read_squares(path: Path, size: int, colours: Colours) -> list[Image.Image]:
    """As `read`, but each image is scaled and cut to a model's square at once, and may be as large as training data.

    Raises:
        UsageError: as `read`.
    """
    suffix = _kind(path)
    if suffix == ".npz":
        rows, labels = read_arrays(path)
        return rows_to_pictures(rows, None if labels is None else labels.tolist())

    def finish(image: Image.Image) -> Image.Image:
        pixels = square(image, size, colours)
        return Image.fromarray(pixels[..., 0] if colours == "grey" else pixels)

    return _read_files(path, suffix, finish)


def _kind(path: Path) -> str:
    """The suffix in small letters, of a file that can be read; `/` for a folder."""
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder", f"Known are {READABLE}.")
    need_file(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        return "/"
    if suffix not in (".npz", ".zip", *SUFFIXES):
        kind = f"{suffix} files" if suffix else "a file without suffix"
        hint = f"; {CONVERT}" if unread_format(path.name) else ""
        raise UsageError(f"{path}: cannot read images from {kind}", f"Known are {READABLE}{hint}.")
    return suffix


def _read_files(path: Path, suffix: str, finish: Finish | None) -> list[Image.Image]:
    with quiet():
        if suffix == "/":
            listing = list_folder(path)
            reader = _Reader(_budget(path, listing, finish), finish)
            return list(map_threads(lambda name: reader(str(path / name), path / name), listing.paths))
        if suffix == ".zip":
            return _read_zip(path, finish)
        return [_Reader(None if finish else Budget(path, path.stat().st_size), finish)(str(path), path)]


def _budget(path: Path, listing: Listing, finish: Finish | None) -> Budget | None:
    return None if finish else Budget(path, sum(size for size, _ in listing.stamps))


def _read_zip(path: Path, finish: Finish | None) -> list[Image.Image]:
    listing = list_zip(path)
    if listing.unsafe:
        raise UsageError(f"{path}: {listing.unsafe[0]!r} leads out of the archive", "Pack the images anew.")
    reader = _Reader(None if finish else Budget(path, path.stat().st_size), finish)
    with open_zip(path) as archive:
        infos = archive.infolist()

        def read_one(index: int) -> Image.Image:
            name = f"{path}: {infos[index].filename}"
            try:
                content = read_member(archive, infos[index])
            except Unreadable as error:
                raise UsageError(f"{name} {error.reason}: {error.detail}", "Pack the images anew.") from error
            return reader(name, content)

        return list(map_threads(read_one, listing.members))


@dataclass(frozen=True)
class _Reader:
    """Reads one image of a file or folder."""

    budget: Budget | None
    finish: Finish | None

    def __call__(self, name: str, source: Path | BytesIO) -> Image.Image:
        try:
            with ExitStack() as held:
                image = decode(source, self.budget, held)
                finished = image if self.finish is None else self.finish(image)
        except Unreadable as error:
            hint = "Leave it out, or scale it down." if error.reason == "is too large" else _AGAIN
            raise UsageError(f"{name} {error.reason}: {error.detail}", hint) from error
        label = label_of(image)
        finished.info = {"name": name, NOTED: image.info.get(NOTED, ())}
        if label is not None and 0 <= label < MOST_CLASSES:  # other numbers are another program's
            finished.info[LABEL] = label
        return finished
