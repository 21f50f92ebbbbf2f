"""Where a run's weights, gradients and optimizer state lie: whole on every rank, or in rows over the ranks.

Optimizers, the average and checkpoints see ordinary tensors either way: what of a parameter lies on this rank.
`unite_mm.training.sharding` has the other layout.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from unite_mm.training.muon import Rows
from unite_mm.training.optim import Optimizers, ParameterGroups
from unite_mm.training.reduction import reduce_gradients


class Whole:
    """All of it on every rank: one process, or `ddp`.

    Attributes:
        parts: files of each kind that a checkpoint has.
        rows: where the rows of matrices lie; None: they are whole.
    """

    parts = 1
    rows: Rows | None = None

    def part(self, rank: int) -> int | None:
        """Which part of a checkpoint's files a rank of the run writes, from 0; None: none."""
        return rank if rank < self.parts else None

    def local(self, groups: ParameterGroups) -> ParameterGroups:
        """What of parameters lies on this rank, as parameters."""
        return groups

    def begin_step(self, optimizers: Optimizers) -> None:
        """Called before the backward passes of a step: no gradients, or zeros."""
        optimizers.zero_grad()

    def reduce(self, optimizers: Optimizers) -> None:
        """Average the gradients over the joined batch, after the last backward pass."""
        reduce_gradients(optimizers.parameters)

    def clip(self, parameters: list[nn.Parameter], limit: float) -> Tensor:
        """Scale reduced gradients down to a global norm of `limit`; returns the norm they had, ()."""
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def gathered(self) -> AbstractContextManager[None]:
        """While the context is open every parameter is whole on every rank, and forward passes wait for no other rank.

        For reading: what is written into the parameters is lost.
        """
        return nullcontext()

    def span(self, key: str) -> tuple[int, int] | None:
        """Which rows this rank has of a tensor, by `parameter` or `parameter/entry`; None: all of it."""
        del key
        return None

    def own(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Mapping[str, Tensor]]:
        """What this rank writes of the tensors of a checkpoint."""
        return tensors
