"""What is known of the samples of a data set beyond what a model is told: targets of linear probes.

Dimensions: N samples of a split, P numbers.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Facts of the samples of a split that a probe looks for in the latents.

    Attributes:
        kind: `classes` or `numbers`.
        values: classes (N,) int64, -1 where unknown; numbers (N, P) float, NaN where unknown.
        names: of the classes, or of the P numbers.
    """

    kind: Literal["classes", "numbers"]
    values: Tensor
    names: tuple[str, ...]
