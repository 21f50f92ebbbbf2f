"""The base of every schema: frozen, unknown keys refused, finite numbers, field docstrings used as descriptions."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

RECORD = "record.json"
"""Name of the record in every checkpoint and exported folder."""

LARGEST_SEED = 2**63 - 1
"""Seeds go from 0 to this."""

MOST_STEPS = 10**12
"""Bound of everything that is counted in optimizer steps."""


class Schema(BaseModel):
    """A frozen model that refuses unknown keys and infinite numbers; a field's docstring is its help text.

    JSON knows no infinities, and would give back null for them.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


def not_finite(values: Any, path: str = "") -> str | None:
    """The dotted path of the first number that is infinite or no number, at any depth; None: all are finite."""
    if isinstance(values, float):
        return None if math.isfinite(values) else path
    nested: Any = ()
    if isinstance(values, Mapping):
        nested = values.items()
    elif isinstance(values, list | tuple):
        nested = enumerate(values)
    found = (not_finite(value, f"{path}.{key}" if path else str(key)) for key, value in nested)
    return next((place for place in found if place is not None), None)


NOT_FINITE = "not_finite"
"""Type of the error of `Finite`; its context has the `place`."""

NOT_FINITE_WORDS = "input should be a finite number"


def _finite(values: Any) -> Any:
    place = not_finite(values)
    if place is not None:
        raise PydanticCustomError(NOT_FINITE, "{place}: " + NOT_FINITE_WORDS, {"place": place})
    return values


Finite = AfterValidator(_finite)
"""Asks of values whose own schema is unknown here that all numbers in them are finite."""
