"""Sample files: folders of PNG files and arrays (.npz) are written and read; image files and zip files are read.

A folder keeps the class of an image in the PNG file itself (a text chunk `label`), so that names say nothing but the
order. The arrays are those of ADM's evaluation suite.
"""

import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.parallel import map_threads
from unite_mm_image.data.array_files import read_arrays
from unite_mm_image.data.listing import list_folder, list_zip
from unite_mm_image.data.native import LABEL, label_of, labels_of, rows_to_pictures
from unite_mm_image.data.preprocessing import SUFFIXES, Unreadable, decode, to_mode

READABLE = "a folder or .zip of images, an image file, or .npz"
WRITABLE = "a folder (no suffix), .png or .npz"

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
            f"{path}: images of {len(extents)} extents ({few}) do not fit an array"
            if samples
            else f"{path}: there is no image to write",
            "Write a folder instead.",
        )
    arrays: dict[str, Any] = {"arr_0": np.stack([np.asarray(to_mode(image).convert("RGB")) for image in samples])}
    labels = labels_of(samples)
    if labels is not None:
        arrays["arr_1"] = labels.numpy()
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read(path: Path) -> list[Image.Image]:
    """Read images, in the order of their names (of the array's rows), in mode RGB or L and at their own extent.

    `info` holds `name`, and the class as `label` where the file tells it. Folders are searched to their bottom; files
    that are no images by their names are passed over.

    Raises:
        UsageError: the file does not exist, holds no image or a damaged one, which the message names.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder", f"Known are {READABLE}.")
    suffix = path.suffix.lower()
    if path.is_dir():
        return list(map_threads(lambda name: _read_one(str(path / name), path / name), list_folder(path).paths))
    if suffix == ".npz":
        rows, labels = read_arrays(path)
        return rows_to_pictures(rows, None if labels is None else labels.tolist())
    if suffix == ".zip":
        return _read_zip(path)
    if suffix not in SUFFIXES:
        kind = f"{suffix} files" if suffix else "a file without suffix"
        raise UsageError(f"{path}: cannot read images from {kind}", f"Known are {READABLE}.")
    return [_read_one(str(path), path)]


def _read_zip(path: Path) -> list[Image.Image]:
    listing = list_zip(path)
    if listing.unsafe:
        raise UsageError(f"{path}: {listing.unsafe[0]!r} leads out of the archive", "Pack the images anew.")
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()

        def read_member(index: int) -> Image.Image:
            info = infos[index]
            name = f"{path}: {info.filename}"
            try:
                content = archive.read(info)
            except Exception as error:  # encrypted, cut off, wrong checksum, unknown compression
                raise UsageError(f"{name} cannot be read: {error}", "Pack the images anew.") from error
            return _read_one(name, BytesIO(content))

        return list(map_threads(read_member, listing.members))


def _read_one(name: str, source: Path | BytesIO) -> Image.Image:
    try:
        image = decode(source)
    except Unreadable as error:
        raise UsageError(f"{name} {error.reason}: {error.detail}", "Leave it out, or get it again.") from error
    label = label_of(image)
    image.info = {"name": name}
    if label is not None:
        image.info[LABEL] = label
    return image
