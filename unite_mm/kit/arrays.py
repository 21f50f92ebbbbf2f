"""Arrays of `.npz` files, checked as they are read: names, types, shapes, and whether they belong together.

Nothing in a file is ever unpickled, so an array of Python objects counts as damage. What an array would take is known
before it is read: a small file that would fill the memory is refused (`most_bytes`).
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.messages import first_line

Shape = tuple[int | str, ...]
"""Sizes of an array. A letter stands for any size, the same wherever it occurs in the arrays of a file."""

_ALWAYS = 256 << 20
"""Bytes that the content of any file may have."""

_EXPANSION = 100
"""Beyond `_ALWAYS`: how many times the size of its file a content may have; ordinary data have 2 to 20 times."""


def most_bytes(compressed: int) -> int:
    """The most bytes that a compressed file of this size is unpacked to: a guard against files made to fill memory."""
    return max(_ALWAYS, _EXPANSION * compressed)


def too_large(path: Path, size: int | None = None) -> UsageError:
    """The error for a compressed file whose content is beyond `most_bytes`; `size`: bytes of it, where known."""
    most = most_bytes(path.stat().st_size)
    found = "more than" if size is None else f"{size / 1e6:,.0f} MB, more than"
    return UsageError(
        f"{path}: unpacks to {found} the {most / 1e6:,.0f} MB that are read of a file of its size",
        "If its content is what you need, unpack it, or cut it into several files.",
    )


@dataclass(frozen=True)
class ArraySpec:
    """What an array of a file must be.

    Attributes:
        dtype: a numpy type, or one of its kinds: `np.uint8`, `np.integer`, `np.floating`, `np.bool_`.
        shapes: the shapes it may have; none: any.
        required: whether the file must hold it.
        empty: whether a size of 0 is allowed.
        finite: whether infinities and NaN are refused.
        least: smallest value allowed.
        most: largest value allowed.
    """

    dtype: type[Any]
    shapes: tuple[Shape, ...] = ()
    required: bool = True
    empty: bool = True
    finite: bool = False
    least: int | None = None
    most: int | None = None

    def __str__(self) -> str:
        """Such as `uint8 (N, H, W, 3) or (N, H, W)`."""
        shapes = " or ".join(f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})" for shape in self.shapes)
        return f"{self.dtype.__name__.rstrip('_')} {shapes}".strip()


def npz_names(path: Path) -> tuple[str, ...]:
    """Names of the arrays in a `.npz` file, in its order.

    Raises:
        UsageError: it cannot be read.
    """
    with _opened(path) as file:
        return tuple(file.files)


def read_npz(path: Path, specs: Mapping[str, ArraySpec], hint: str = "") -> dict[str, NDArray[Any]]:
    """Some arrays of a `.npz` file, each as its specification demands; what else the file holds is not read.

    Args:
        path: the file.
        specs: name of an array -> what it must be.
        hint: what the file should be, for the message where an array is missing or another one.

    Returns:
        Name -> array; without optional arrays that the file lacks.

    Raises:
        UsageError: the file cannot be read or unpacks to more than `most_bytes`, or an array is missing or not as
            specified; the message names file and array.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with _opened(path) as file:
        missing = [name for name, spec in specs.items() if spec.required and name not in file.files]
        names = [name for name in specs if name in file.files]
        if not missing:
            _check_sizes(path, file, names)
            arrays = {name: file[name] for name in names}
    if missing:
        raise UsageError(f"{path}: holds no array {missing[0]}", hint)
    sizes: dict[str, int] = {}
    for name in names:
        problem = _problem(arrays[name], specs[name], sizes)
        if problem:
            raise UsageError(f"{path}: {name} {problem}", hint)
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    """The file, open; errors of whatever is read from it name it."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a regular file")
        with warnings.catch_warnings(), path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            warnings.simplefilter("ignore")  # on damaged headers numpy warns, then raises
            if not isinstance(file, NpzFile):
                raise ValueError("a single array, not an .npz file")
            yield file
    except UniteError:
        raise
    except Exception as error:  # what numpy, zipfile and ast raise on damaged, encrypted or made-up files is open-ended
        raise UsageError(
            f"{path}: cannot be read: {first_line(error)[:200]}", "The file is damaged or incomplete."
        ) from error


def _check_sizes(path: Path, file: NpzFile, names: Sequence[str]) -> None:
    """Check, before anything is allocated, that each array is as long as its header says, and all are not too long.

    Raises:
        UsageError: they would take more than `most_bytes`.
        ValueError: a header and its content disagree.
    """
    archive = file.zip
    assert archive is not None  # the file is open
    infos = {info.filename: info for info in archive.infolist()}
    chosen = [infos[name if name in infos else f"{name}.npy"] for name in names]
    total = sum(info.file_size for info in chosen)
    if total > most_bytes(path.stat().st_size):
        raise too_large(path, total)
    for name, info in zip(names, chosen, strict=True):
        with archive.open(info) as member:
            if member.read(6) != b"\x93NUMPY":
                continue  # not an array at all, which its specification refuses
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            version = member.read(2)[0]
            if version not in read:
                raise ValueError(f"{name}: an array of an unknown version")
            shape, _, kind = read[version](member)
            held = info.file_size - member.tell()
            if not kind.hasobject and math.prod(shape) * kind.itemsize != held:
                raise ValueError(f"{name}: its header says {kind} {shape}, which its {held} bytes are not")


def _problem(array: Any, spec: ArraySpec, sizes: dict[str, int]) -> str:
    """What is wrong with an array; `sizes` (extended here) holds the letters bound by earlier arrays."""
    if not isinstance(array, np.ndarray):  # numpy gives the bytes of what is no array
        return "is no array: the file is damaged"
    found = f"is {array.dtype} {array.shape}"
    if not np.issubdtype(array.dtype, spec.dtype):
        return f"{found}, not {spec}"
    if spec.shapes and not any(_fits(array.shape, shape, sizes) for shape in spec.shapes):
        known = {letter for shape in spec.shapes for letter in shape if isinstance(letter, str)} & sizes.keys()
        bound = ", ".join(f"{letter} = {sizes[letter]}" for letter in sorted(known))
        return f"{found}, not {spec}{f' with {bound}' if bound else ''}"
    if not spec.empty and 0 in array.shape:
        return f"{found}: it holds nothing"
    if spec.finite and not np.isfinite(array).all():
        return "holds values that are not finite"
    if spec.least is not None and array.size and array.min() < spec.least:
        return f"holds values below {spec.least}"
    if spec.most is not None and array.size and array.max() > spec.most:
        return f"holds values above {spec.most}"
    return ""


def _fits(found: tuple[int, ...], wanted: Shape, sizes: dict[str, int]) -> bool:
    """Whether a shape is the wanted one; if so, its letters are bound."""
    if len(found) != len(wanted):
        return False
    bound = dict(sizes)
    for size, entry in zip(found, wanted, strict=True):
        if (bound.setdefault(entry, size) if isinstance(entry, str) else entry) != size:
            return False
    sizes.update(bound)
    return True
