"""The space that the flow lives in, where it is not the latents themselves.

Dimensions: B batch, L registers of the batch, C latent channels.
"""

import torch
from torch import Tensor, nn

from unite_mm.contract import Registers

SMALLEST_STD = 1e-6


class Standardisation(nn.Module):
    """Latents standardised per channel; the identity until it is told mean and standard deviation.

    Args:
        channels: C.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """Take mean (C,) and standard deviation (C,) of the latents of the training data."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(SMALLEST_STD))

    def to_flow(self, latents: Tensor, registers: Registers) -> Tensor:
        """Latents (B, L, C) as the flow knows them; unused registers stay zero."""
        return _masked((latents - self.mean) / self.std, registers)

    def from_flow(self, values: Tensor, registers: Registers) -> Tensor:
        """What `to_flow` was given."""
        return _masked(values * self.std + self.mean, registers)


def _masked(values: Tensor, registers: Registers) -> Tensor:
    return values * registers.mask[:, :, None] if registers.padded else values
