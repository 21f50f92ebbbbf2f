"""The space that the flow lives in, where it is not the latents themselves; and features of a teacher as latents.

Dimensions: B batch, L registers of the batch, C latent channels, F features.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional
from torch import Tensor, nn

from unite_mm.contract import Registers
from unite_mm.errors import UsageError
from unite_mm.random_streams import Stream, stream_generator

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


class FeatureLatents(nn.Module):
    """A teacher's features as latents: layer-normalised without scale or shift, and projected where they are too wide.

    The projection has orthonormal columns and is drawn once: always the same for the same F and C. It is part of the
    weights, so that a trained model needs its teacher to tokenize and never to generate.

    Args:
        channels: C.
    """

    matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("matrix", torch.zeros(0, channels))

    def fit(self, features: int) -> None:
        """Draw the projection for teachers of F features; there is none where F = C.

        Raises:
            UsageError: there are fewer features than channels.
        """
        if features < self.channels:
            raise UsageError(
                f"the teacher has {features} features, and the latents have {self.channels} channels",
                f"set the channels of the modality to {features} or fewer",
            )
        if features == self.channels:
            return
        generator = stream_generator(Stream.FEATURE_PROJECTION, features, self.channels)
        drawn = torch.randn(features, self.channels, generator=generator, dtype=torch.float64)
        # In the order that a file gives back: products of another one differ in their last bits.
        self.matrix = torch.linalg.qr(drawn).Q.float().contiguous().to(self.matrix.device)

    def forward(self, features: Tensor, registers: Registers) -> Tensor:
        """Features (B, L, F) -> latents (B, L, C); unused registers are zero.

        Raises:
            UsageError: they are of another teacher than those that the model was trained on.
        """
        width = features.shape[-1]
        if not len(self.matrix) and width != self.channels:
            self.fit(width)
        if len(self.matrix) not in (0, width):
            raise UsageError(
                f"the teacher gives {width} features, and the model was trained on {len(self.matrix)}",
                "name the teacher that it was trained with",
            )
        latents = torch.nn.functional.layer_norm(features.float(), (width,))
        return _masked(latents @ self.matrix if len(self.matrix) else latents, registers)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """A stored projection brings its own number of features."""
        stored = state.get(f"{prefix}matrix")
        if isinstance(stored, Tensor) and stored.dim() == 2 and stored.shape[1] == self.channels:
            self.matrix = self.matrix.new_zeros(stored.shape)
        super()._load_from_state_dict(state, prefix, *rest)


def _masked(values: Tensor, registers: Registers) -> Tensor:
    return values * registers.mask[:, :, None] if registers.padded else values
