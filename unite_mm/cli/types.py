"""Kinds of values that flags take: each has bounds, and none is empty."""

import math
from pathlib import Path
from typing import Any

import click

LARGEST_SEED = 2**63 - 1
"""As in `unite_mm_schemas.base`, which help does not load."""

SEED = click.IntRange(0, LARGEST_SEED)
MOST_SAMPLES = 100_000_000
SAMPLES = click.IntRange(0, MOST_SAMPLES)
SOME_SAMPLES = click.IntRange(1, MOST_SAMPLES)
WORKERS = click.IntRange(0, 1024)


class PathName(click.Path):
    """A path as a `Path`; an empty one, which would mean the current folder, is refused."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(path_type=Path, **settings)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises:
            click.BadParameter: it is empty.
        """
        if value == "":
            self.fail("the name of a file or folder is empty", param, ctx)
        return super().convert(value, param, ctx)


class Text(click.ParamType[Any]):
    """A text of at least one character, such as a data source."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text.

        Raises:
            click.BadParameter: it is empty.
        """
        if value == "":
            self.fail("it is empty", param, ctx)
        return value


class CountOrAuto(click.ParamType[Any]):
    """A whole number, or `auto`."""

    name = "integer or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or `auto`.

        Raises:
            click.BadParameter: it is neither.
        """
        return value if value == "auto" else click.INT.convert(value, param, ctx)


class Number(click.ParamType[Any]):
    """A finite number."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Raises:
            click.BadParameter: it is none, or not finite.
        """
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not finite", param, ctx)
        return number


TEXT, NUMBER = Text(), Number()


def interval(value: str) -> tuple[float, float]:
    """`LOW:HIGH` as two timesteps, 0 <= LOW < HIGH <= 1.

    Raises:
        click.BadParameter: it is anything else; click adds the flag's name.
    """
    try:
        low, high = (float(part) for part in value.split(":"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not of the form LOW:HIGH, such as 0.1:1.0") from None
    if not 0 <= low < high <= 1:
        raise click.BadParameter(f"{value!r}: LOW must be from 0 to below HIGH, and HIGH at most 1, as in 0.1:1.0")
    return low, high
