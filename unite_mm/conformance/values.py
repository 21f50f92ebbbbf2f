"""Comparing what a plugin returns without knowing what it is: the tensors, and all the content, of any object."""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unite_mm.errors import UniteError
from unite_mm.random_streams import Stream, stream_generator

DEPTH = 6
"""Levels of objects within objects that are searched for tensors."""


def tensors(value: Any, path: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Tensor]]:
    """Every tensor inside an object with its path: fields of dataclasses and objects, items of mappings and lists."""
    if isinstance(value, Tensor):
        yield path, value
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, f"{path}[{key!r}]", depth - 1)
    elif depth and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from tensors(item, f"{path}[{index}]", depth - 1)
    elif depth and dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name, None), f"{path}.{field.name}".strip("."), depth - 1)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, type):
        for name, item in vars(value).items():
            yield from tensors(item, f"{path}.{name}".strip("."), depth - 1)


def difference(left: Any, right: Any, tolerance: float = 0.0) -> str | None:
    """The path of the first tensor in which two objects of one kind differ; None: in none.

    Args:
        left: any object.
        right: another one.
        tolerance: relative to the largest number of the tensor; 0: they must be equal.
    """
    ours, theirs = dict(tensors(left)), dict(tensors(right))
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        if path not in ours or path not in theirs or not alike(ours[path], theirs[path], tolerance):
            return path or "the tensor"
    return None


def alike(left: Tensor, right: Tensor, tolerance: float = 0.0) -> bool:
    """Whether two tensors agree; see `difference`. Two NaN agree."""
    if left.shape != right.shape:
        return False
    if not (left.is_floating_point() and right.is_floating_point()):
        return torch.equal(left, right.to(left.dtype))
    scale = float(left.detach().nan_to_num(0, 0, 0).abs().max()) if left.numel() else 0.0
    return torch.allclose(left.double(), right.double(), rtol=0.0, atol=tolerance * max(scale, 1e-6), equal_nan=True)


def contents(value: Any, path: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Tensor | str]]:
    """All that an object holds, with the path of each part: arrays and numbers as tensors, the rest as text.

    Fields of dataclasses that their own comparison leaves out are left out here. Of an object that shows nothing of
    itself only the type is known.
    """
    if isinstance(value, Tensor):
        yield path, value.detach()
    elif isinstance(value, str | bytes | None):
        yield path, repr(value)
    elif isinstance(value, bool | int | float | complex | np.number | np.bool_):
        yield path, torch.as_tensor(value)
    elif hasattr(value, "__array_interface__"):
        array = np.asarray(value)
        known = array.dtype.kind in "biufc"
        plain = np.array(array, dtype=_SIGNED.get(array.dtype.name, array.dtype), order="C") if known else None
        yield path, repr(array.tolist()) if plain is None else torch.from_numpy(plain)
    elif not depth:
        yield path, type(value).__name__
    else:
        yield from _parts(value, path, depth - 1)


_SIGNED = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}
"""Kinds of numbers that torch cannot compare."""


def _parts(value: Any, path: str, depth: int) -> Iterator[tuple[str, Tensor | str]]:
    """The parts of an object that has some."""
    if isinstance(value, Mapping):
        yield path, f"{len(value)} entries"
        for key, item in value.items():
            yield from contents(item, f"{path}[{key!r}]", depth)
    elif isinstance(value, Sequence):
        yield path, f"{len(value)} items"
        for index, item in enumerate(value):
            yield from contents(item, f"{path}[{index}]", depth)
    elif isinstance(value, set | frozenset):
        yield path, repr(sorted(map(repr, value)))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.compare:
                yield from contents(getattr(value, field.name, None), f"{path}.{field.name}".strip("."), depth)
    elif hasattr(value, "__dict__") and not callable(value):
        for name, item in vars(value).items():
            yield from contents(item, f"{path}.{name}".strip("."), depth)
    else:
        yield path, type(value).__name__


def unlike(left: Any, right: Any, tolerance: float = 0.0, *, texts: bool = True) -> str | None:
    """The path of the first part in which two objects differ; None: in none.

    Args:
        left: any object.
        right: another one.
        tolerance: relative to the largest number of a part, also of whole numbers: pixels may differ by rounding.
        texts: whether texts inside the objects count: a name that a file gives to a sample is not its content.
    """
    ours, theirs = dict(contents(left)), dict(contents(right))
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        one, other = ours.get(path), theirs.get(path)
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            same = alike(one, other, tolerance) or (tolerance > 0 and alike(_float(one), _float(other), tolerance))
        else:
            same = one == other or (not texts and bool(path) and not isinstance(one, Tensor))
        if not same:
            return path or "the whole"
    return None


def _float(values: Tensor) -> Tensor:
    return values if values.is_complex() else values.double()


@contextmanager
def left_alone(call: str, **given: Any) -> Iterator[None]:
    """Hand objects to a plugin; they must be the same afterwards, for others use them too.

    Args:
        call: what is called, such as `write()`.
        given: objects by what the message calls them.

    Raises:
        UniteError: one of them has changed.
    """
    before = {name: _kept(value) for name, value in given.items()}
    yield
    for name, value in given.items():
        now = _kept(value)
        parts = [path for path, part in before[name].items() if not _equal(part, now.get(path))]
        if parts or len(now) != len(before[name]):
            where = f": {parts[0]}" if parts and parts[0] else ""
            raise UniteError(
                f"{call} changes the {name} that it is given{where}",
                "work on a copy, without operations in place such as mul_() or sort(): others use it afterwards",
            )


def _kept(value: Any) -> dict[str, Tensor | str]:
    return {path: part.clone() if isinstance(part, Tensor) else part for path, part in contents(value)}


def _equal(left: Tensor | str, right: Tensor | str | None) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return alike(left, right)
    return not isinstance(left, Tensor) and not isinstance(right, Tensor) and left == right


def check_generator(number: int) -> torch.Generator:
    """The generator that a check hands to a plugin; the same number gives the same numbers."""
    return stream_generator(Stream.PLUGIN_CHECKS, number)


def random_states() -> dict[str, Any]:
    """The state of each global random generator by its name."""
    kind, keys, position, *_ = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "Python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tobytes(), position),
    }


@contextmanager
def other_randomness(seed: int) -> Iterator[None]:
    """All global random numbers begin elsewhere: what depends on the generators it is given alone does not notice."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def shape(value: Any) -> str:
    """A tensor's type and shape in words, or the type of anything else."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
