"""What generation can be conditioned on, in the terms of core and plugin.

Dimensions: M numbers of a condition.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ConditionSpec:
    """What generation can be conditioned on.

    A condition of kind `classes` is an integer, one of `numbers` M floats, one of `mixed` 1 + M floats: the class, then
    the numbers. The floats are called its parts; NaN stands for a part that is left open.

    Attributes:
        kind: `none`, `classes` (size = number of classes), `numbers` or `mixed` (size = M).
        size: see `kind`.
        names: for messages and the command line: class names, or names of the numbers.
        mean: of each number over the training data; the core standardises with it.
        std: likewise the standard deviation.
        classes: names of the classes of a `mixed` condition; users ask for them as `class`.
        left_open: what becomes of parts that a caller does not name. `refused`: that is an error. `drawn`: the prior is
            given NaN and draws them. `dropped`: the model learns to do without any of them (they are dropped at random
            in training, data may lack them); the prior may leave them open.
        units: of the numbers, for messages; empty texts for plain ones. Empty: none has a unit.
        ranges: lowest and highest value of each number that the training data support. Who asks for others, in another
            unit perhaps, is warned. Empty: nobody is.
    """

    kind: Literal["none", "classes", "numbers", "mixed"] = "none"
    size: int = 0
    names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    left_open: Literal["refused", "drawn", "dropped"] = "refused"
    units: tuple[str, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()

    @property
    def class_count(self) -> int:
        """The number of classes; 0 where there are none."""
        return self.size if self.kind == "classes" else len(self.classes)

    @property
    def parts(self) -> int:
        """The number of parts: M or 1 + M; else 0."""
        return {"numbers": self.size, "mixed": 1 + self.size}.get(self.kind, 0)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, `class` before those of the numbers."""
        return {"numbers": self.names, "mixed": ("class", *self.names)}.get(self.kind, ())

    @property
    def part_units(self) -> tuple[str, ...]:
        """Units of the parts; empty texts for those without one."""
        units = self.units or ("",) * self.size
        return {"numbers": units, "mixed": ("", *units)}.get(self.kind, ())

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample's condition."""
        return () if self.parts == 0 else (self.parts,)
