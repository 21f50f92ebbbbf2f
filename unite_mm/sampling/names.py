"""Conditions by name: classes and numbers as the plugin calls them become what generation computes with."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from unite_mm.contract import ConditionSpec
from unite_mm.errors import UsageError

OPEN = float("nan")
"""A part of a condition that is left open."""


def without_names(spec: ConditionSpec, condition: Any) -> Any:
    """A condition in which names have become integers, or numbers in their order; anything else stays as it is.

    Args:
        spec: what the modality takes.
        condition: a class's name, or one for each sample, beside integers or not; or parts by name (`class` for the
            class), one value for all samples or one for each. Parts that are None or not named are left open.

    Raises:
        UsageError: a name is unknown or missing.
    """
    if isinstance(condition, Mapping):
        return _parts(spec, condition)
    if isinstance(condition, str):
        return _parts(spec, {"class": condition}) if spec.kind == "mixed" else class_number(spec, condition)
    if isinstance(condition, Sequence) and any(isinstance(one, str | Mapping) for one in condition):
        return [without_names(spec, one) if isinstance(one, str | Mapping) else one for one in condition]
    return condition


def class_number(spec: ConditionSpec, name: str) -> int:
    """The number of a class.

    Raises:
        UsageError: there is no class of this name.
    """
    names = spec.names if spec.kind == "classes" else spec.classes
    if not names:
        what = "takes no condition" if spec.kind == "none" else f"takes {spec.size} {spec.kind} without such names"
        raise UsageError(f"condition {name!r}: this modality {what}", form(spec))
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"condition {name!r}: no such class", f"{hint}there are: {', '.join(names)}")
    return names.index(name)


def _parts(spec: ConditionSpec, values: Mapping[Any, Any]) -> list[Any]:
    """(P,) parts in their order, or (n, P) where there is one value for each of n samples."""
    given = {str(name) for name in values}
    known = set(spec.part_names)
    if not known or not given <= known or (given < known and spec.left_open == "refused"):
        raise UsageError(f"condition {dict(values)!r} does not fit", form(spec))
    columns = [_column(spec, name, values.get(name)) for name in spec.part_names]
    each = [column for column in columns if hasattr(column, "__len__") and not isinstance(column, str)]
    if not each:
        return columns
    lengths = {len(column) for column in each}
    if len(lengths) > 1:
        names = ", ".join(spec.part_names)
        raise UsageError(f"condition: {names} have different numbers of values", "give one per sample")
    (count,) = lengths
    spread = [list(column) if any(column is one for one in each) else [column] * count for column in columns]
    return [list(row) for row in zip(*spread, strict=True)]


def _column(spec: ConditionSpec, name: str, value: Any) -> Any:
    """The value or values of one part; of the class also by name."""
    if isinstance(value, list | tuple):
        return [_column(spec, name, one) for one in value]
    if value is None:
        return OPEN
    is_class = spec.kind == "mixed" and name == spec.part_names[0]
    return class_number(spec, value) if is_class and isinstance(value, str) else value


def with_units(spec: ConditionSpec) -> list[str]:
    """Names of the parts, each with its unit where it has one."""
    return [f"{n} ({u})" if u else n for n, u in zip(spec.part_names, spec.part_units, strict=False)]


def form(spec: ConditionSpec) -> str:
    """How a condition may be given, as a hint."""
    if spec.kind == "none":
        return "leave it out"
    if spec.kind == "classes":
        names = f", or a name: {', '.join(spec.names)}" if spec.names else ""
        return f"give an integer from 0 to {spec.size - 1}{names}"
    names = ", ".join(with_units(spec))
    if spec.left_open != "refused":
        return f"give any of these by name: {names}"
    return f"give {spec.parts} numbers{f', or by name: {names}' if any(spec.part_names) else ''}"
