"""Tensor files of several ranks: each holds the rows of every tensor that its rank has, and their names say how many.

`weights-2-of-4.safetensors` is the second of four. A tensor that lies in several of them is cut along its first
dimension, in their order; one that lies in a single file is whole. So the files need no further index: the record of
the folder names them all, each with its SHA-256.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor

SUFFIX = ".safetensors"

Span = Callable[[str], tuple[int, int] | None]
"""Which rows of a tensor of that name are wanted: from, to; None: all of it."""

_PART: Final = re.compile(r"(.+)-([0-9]+)-of-([0-9]+)\.safetensors")


def file_name(stem: str, part: int = 0, parts: int = 1) -> str:
    """Name of a tensor file: the one of a stem, or a part of it (from 0)."""
    return f"{stem}{SUFFIX}" if parts == 1 else f"{stem}-{part + 1}-of-{parts}{SUFFIX}"


def files_of(names: Iterable[str], stem: str) -> list[str]:
    """Of file names those that hold a stem: its only file, or all its parts in order; none where a part is missing."""
    there = set(names)
    if file_name(stem) in there:
        return [file_name(stem)]
    counts = {int(found[3]) for name in there if (found := _PART.fullmatch(name)) and found[1] == stem}
    for parts in sorted(counts):
        wanted = [file_name(stem, part, parts) for part in range(parts)]
        if parts > 1 and there.issuperset(wanted):
            return wanted
    return []


def join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The whole tensors of parts."""
    if len(parts) == 1:
        return dict(parts[0])
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: torch.cat(rows) if len(rows) > 1 else rows[0] for name, rows in found.items()}


def read_rows(paths: Sequence[Path], span: Span) -> dict[str, Tensor]:
    """Of the tensors of parts what is wanted; the rest is not read.

    Args:
        paths: all parts, in order.
        span: rows of each tensor.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in paths]
        slices: dict[str, list[Any]] = {}
        for file in files:
            for name in file.keys():  # noqa: SIM118 - not a dict
                slices.setdefault(name, []).append(file.get_slice(name))
        return {name: _rows(parts, span(name)) for name, parts in slices.items()}


def _rows(parts: Sequence[Any], rows: tuple[int, int] | None) -> Tensor:
    """Rows of a tensor that lies in slices of files, one under the other."""
    if not parts[0].get_shape():
        whole: Tensor = parts[0][...]
        return whole
    found: list[Tensor] = []
    above = 0
    for part in parts:
        height = part.get_shape()[0]
        start, end = (0, height) if rows is None else (max(0, rows[0] - above), min(height, rows[1] - above))
        if start < end:
            found.append(part[start:end])
        above += height
    if not found:
        found.append(parts[0][:][:0])
    return torch.cat(found) if len(found) > 1 else found[0]
