"""Conditions by name: classes and numbers as the plugin calls them become what generation computes with."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from unite_mm.contract import ConditionSpec
from unite_mm.errors import UsageError


def without_names(spec: ConditionSpec, condition: Any) -> Any:
    """A condition in which names have become integers, or numbers in their order; anything else stays as it is.

    Args:
        spec: what the modality takes.
        condition: a class's name, or one for each sample, beside integers or not; or numbers by name, one value for all
            samples or one for each.

    Raises:
        UsageError: a name is unknown or missing.
    """
    if isinstance(condition, Mapping):
        return _numbers(spec, condition)
    if isinstance(condition, str):
        return _class(spec, condition)
    if isinstance(condition, Sequence) and any(isinstance(one, str | Mapping) for one in condition):
        return [without_names(spec, one) if isinstance(one, str | Mapping) else one for one in condition]
    return condition


def _class(spec: ConditionSpec, name: str) -> int:
    if spec.kind != "classes" or not spec.names:
        what = "takes no condition" if spec.kind == "none" else f"takes {spec.size} {spec.kind} without such names"
        raise UsageError(f"condition {name!r}: this modality {what}", _form(spec))
    if name not in spec.names:
        near = difflib.get_close_matches(name, spec.names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"condition {name!r}: no such class", f"{hint}there are: {', '.join(spec.names)}")
    return spec.names.index(name)


def _numbers(spec: ConditionSpec, values: Mapping[Any, Any]) -> list[Any]:
    """(M,) numbers in their order, or (n, M) where there is one value for each of n samples."""
    if spec.kind != "numbers" or sorted(map(str, values)) != sorted(spec.names):
        raise UsageError(f"condition {dict(values)!r} does not fit", _form(spec))
    columns = [values[name] for name in spec.names]
    each = [column for column in columns if hasattr(column, "__len__") and not isinstance(column, str)]
    if not each:
        return columns
    lengths = {len(column) for column in each}
    if len(lengths) > 1:
        raise UsageError(f"condition: {', '.join(spec.names)} have different numbers of values", "give one per sample")
    (count,) = lengths
    spread = [list(column) if any(column is one for one in each) else [column] * count for column in columns]
    return [list(row) for row in zip(*spread, strict=True)]


def _form(spec: ConditionSpec) -> str:
    if spec.kind == "none":
        return "leave it out"
    if spec.kind == "classes":
        names = f", or a name: {', '.join(spec.names)}" if spec.names else ""
        return f"give an integer from 0 to {spec.size - 1}{names}"
    names = f", or by name: {', '.join(spec.names)}" if spec.names else ""
    return f"give {spec.size} numbers{names}"
