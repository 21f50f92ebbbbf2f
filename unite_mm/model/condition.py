"""The embedding of what generation is conditioned on, with a null vector for none (classifier-free guidance).

Dimensions: B batch, W width, M numbers of a condition.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unite_mm.contract import ConditionSpec
from unite_mm.model.layers import HiddenEmbedding, HiddenLinear

NUMBER_FEATURES = 16
"""Random Fourier features of each number of a condition."""


class ConditionEmbedding(nn.Module):
    """Condition -> (B, W); a learned null vector stands for no condition (classifier-free guidance).

    Classes share one table with the null vector, which is its last row. Numbers are standardised and embedded with
    random Fourier features, so that neighbouring counts stay apart; where they may be left open, a feature of its own
    says of each whether it is. A class beside numbers adds its row of a table, whose last row is the open class. A
    condition of which everything is open is the null vector.
    """

    mean: Tensor
    std: Tensor
    frequencies: Tensor

    def __init__(self, spec: ConditionSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        if spec.kind == "classes":
            self.table = HiddenEmbedding(spec.size + 1, width)
            return
        self.null = nn.Parameter(torch.empty(width))
        if spec.parts:
            self.register_buffer("mean", torch.tensor(spec.mean or (0.0,) * spec.size))
            self.register_buffer("std", torch.tensor(spec.std or (1.0,) * spec.size))
            self.register_buffer("frequencies", torch.randn(NUMBER_FEATURES))
            features = 1 + 2 * NUMBER_FEATURES + self._may_lack
            self.up = HiddenLinear(spec.size * features, width)
            self.down = HiddenLinear(width, width)
            if spec.kind == "mixed":
                self.table = HiddenEmbedding(spec.class_count + 1, width)

    @property
    def _may_lack(self) -> bool:
        return self.spec.left_open == "dropped"

    def forward(self, condition: Tensor | None, dropped: Tensor | None, size: int) -> Tensor:
        """Embed a batch of `size` samples.

        Args:
            condition: classes (B,), numbers (B, M) or both (B, 1 + M); None: all null.
            dropped: (B,) bool, True where the null vector replaces the condition.
            size: B.

        Returns:
            (B, W).
        """
        if self.spec.kind == "classes":
            rows = condition
            if rows is None:
                rows = torch.full((size,), self.spec.size, device=self.table.weight.device)
            elif dropped is not None:
                rows = rows.masked_fill(dropped, self.spec.size)
            looked_up: Tensor = self.table(rows)
            return looked_up
        null = self.null.expand(size, -1)
        if condition is None or self.spec.kind == "none":
            return null
        numbers = (condition[:, -self.spec.size :] - self.mean) / self.std  # (B, M)
        lacking = numbers.isnan() if self._may_lack else None
        if lacking is not None:
            numbers = numbers.masked_fill(lacking, 0)
        angles = 2 * math.pi * numbers[:, :, None] * self.frequencies
        features = torch.cat((numbers[:, :, None], angles.sin(), angles.cos()), dim=-1)
        if lacking is not None:
            known = (~lacking).to(features.dtype)[:, :, None]
            features = torch.cat((features * known, known), dim=-1)
        embedded: Tensor = self.down(F.silu(self.up(features.flatten(1))))
        if self.spec.kind == "mixed":
            rows = condition[:, 0].nan_to_num(self.spec.class_count).long()
            embedded = embedded + self.table(rows)
        if self._may_lack:
            nothing = condition.isnan().all(1)
            dropped = nothing if dropped is None else dropped | nothing
        return embedded if dropped is None else torch.where(dropped[:, None], null, embedded)
