"""Which class each generated sample belongs to, when a whole set is generated: balanced or at random.

The class of sample k depends on the seed and on k alone, never on how many samples are generated or in which batches.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from unite_mm.contract import ConditionSpec
from unite_mm.errors import UsageError
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.names import OPEN

Labels = Literal["balanced", "random"]
"""`balanced`: sample k has class k modulo the number of classes; `random`: classes uniform and independent."""

LABELS: tuple[str, ...] = get_args(Labels)


def spread_labels(how: Labels, count: int, spec: ConditionSpec, *, seed: int = 0, first: int = 0) -> Tensor:
    """Classes (count,) int64 of samples first .. first + count - 1; beside numbers (count, 1 + M), these left open.

    Balanced counts of any two classes differ by at most one, and not at all where the number of classes divides
    `count` and `first`.

    Raises:
        UsageError: generation is not conditioned on classes, or not on them alone.
    """
    if not spec.class_count:
        raise UsageError(f"--labels {how}: this model knows no classes", "leave it out")
    if spec.parts and spec.left_open == "refused":
        raise UsageError(f"--labels {how}: this model needs more than a class", "give a whole --condition instead")
    indices = torch.arange(first, first + count)
    labels = indices % spec.class_count if how == "balanced" else _random_labels(indices, spec.class_count, seed)
    if not spec.parts:
        return labels
    rows = torch.full((count, spec.parts), OPEN)
    rows[:, 0] = labels
    return rows


def _random_labels(indices: Tensor, classes: int, seed: int) -> Tensor:
    drawn = [
        torch.randint(classes, (), generator=stream_generator(Stream.CLASS_LABELS, seed, index))
        for index in indices.tolist()
    ]
    return torch.stack(drawn) if drawn else indices
