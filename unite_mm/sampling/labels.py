"""Which class each generated sample belongs to, when a whole set is generated: balanced or at random.

The class of sample k depends on the seed and on k alone, never on how many samples are generated or in which batches.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from unite_mm.contract import ConditionSpec
from unite_mm.errors import UsageError
from unite_mm.random_streams import Stream, stream_generator

Labels = Literal["balanced", "random"]
"""`balanced`: sample k has class k modulo the number of classes; `random`: classes uniform and independent."""

LABELS: tuple[str, ...] = get_args(Labels)


def spread_labels(how: Labels, count: int, spec: ConditionSpec, *, seed: int = 0, first: int = 0) -> Tensor:
    """Classes (count,) int64 of samples first .. first + count - 1.

    Balanced counts of any two classes differ by at most one, and not at all where the number of classes divides
    `count` and `first`.

    Raises:
        UsageError: generation is not conditioned on classes.
    """
    if spec.kind != "classes":
        raise UsageError(f"--labels {how}: this model knows no classes", "leave it out")
    indices = torch.arange(first, first + count)
    if how == "balanced":
        return indices % spec.size
    drawn = [
        torch.randint(spec.size, (), generator=stream_generator(Stream.CLASS_LABELS, seed, index))
        for index in indices.tolist()
    ]
    return torch.stack(drawn) if drawn else indices
