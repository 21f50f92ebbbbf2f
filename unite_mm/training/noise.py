"""All random numbers of one training step, drawn for the joined batch of all ranks and cut to this rank's part.

Because every rank draws the same numbers, training on several devices computes what one device would compute on the
joined batch; because the generator is seeded by seed and step, resuming needs no stored random state. Latent noise is
drawn for all K registers and then cut, so that padding changes nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unite_mm.contract import LatentLayout, Registers
from unite_mm.flow.path import expand_time
from unite_mm.flow.times import draw_times
from unite_mm_schemas.config import FlowConfig, LatentConfig, RunConfig
from unite_mm_schemas.regime import FrozenFeaturesRegime


@dataclass(frozen=True)
class Shard:
    """This rank's part of the joined batch."""

    rank: int = 0
    ranks: int = 1

    def cut(self, joined: Tensor) -> Tensor:
        """The rows of this rank."""
        size = len(joined) // self.ranks
        return joined[self.rank * size : (self.rank + 1) * size]


@dataclass(frozen=True)
class DecoderView:
    """How the decoder sees latents: scale z0 + spread eps.

    Attributes:
        scale: (B,).
        spread: (B,), standard deviation of the noise.
        noise: (B, L, C), eps.
    """

    scale: Tensor
    spread: Tensor
    noise: Tensor

    @classmethod
    def at(cls, time: Tensor, noise: Tensor) -> "DecoderView":
        """As on the path of the flow at timesteps (B,)."""
        return cls(time, 1 - time, noise)

    def of(self, latents: Tensor, registers: Registers) -> Tensor:
        """Latents (B, L, C) as the decoder sees them; unused registers stay zero."""
        seen = expand_time(self.scale, latents) * latents + expand_time(self.spread, latents) * self.noise
        return seen * registers.mask[:, :, None] if registers.padded else seen


@dataclass(frozen=True)
class ReconstructionNoise:
    """Random numbers of tokenizing and decoding a batch.

    Attributes:
        registers: (B, L, C) noise that the registers start from.
        tokenize_times: (B,) timesteps of tokenization.
        view: how the decoder sees the latents.
    """

    registers: Tensor
    tokenize_times: Tensor
    view: DecoderView


@dataclass(frozen=True)
class FlowNoise:
    """Random numbers of one flow minibatch.

    Attributes:
        time: (B,) timesteps.
        noise: (B, L, C).
        dropped: (B,) bool, conditions to replace by null.
        left_open: (B, P) bool, parts of a condition to leave open; None where the model never does without.
    """

    time: Tensor
    noise: Tensor
    dropped: Tensor
    left_open: Tensor | None = None

    @staticmethod
    def join(draws: "list[FlowNoise]") -> "FlowNoise":
        """Several draws for the same samples, one after the other along the batch."""
        left_open = [draw.left_open for draw in draws if draw.left_open is not None]
        return FlowNoise(
            torch.cat([draw.time for draw in draws]),
            torch.cat([draw.noise for draw in draws]),
            torch.cat([draw.dropped for draw in draws]),
            torch.cat(left_open) if left_open else None,
        )


class StepNoise:
    """Random numbers of one step for one modality.

    Args:
        generator: at the beginning of the step's stream, on the device where numbers are wanted.
        size: samples of the joined batch.
        layout: the modality's registers.
        shard: this rank's part.
    """

    def __init__(self, generator: torch.Generator, size: int, layout: LatentLayout, shard: Shard) -> None:
        self.generator = generator
        self.size = size
        self.layout = layout
        self.shard = shard

    def normal(self, length: int) -> Tensor:
        """(B, L, C) standard normal."""
        shape = (self.size, self.layout.registers, self.layout.channels)
        joined = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return self.shard.cut(joined)[:, :length]

    def uniform(self) -> Tensor:
        """(B,) uniform in [0, 1)."""
        return self.shard.cut(torch.rand(self.size, generator=self.generator, device=self.generator.device))

    def spread(self, end: float) -> Tensor:
        """(B,) in [0, end): each uniform, and together evenly spread over the joined batch."""
        offset = torch.rand((), generator=self.generator, device=self.generator.device)
        even = torch.arange(self.size, device=self.generator.device) / self.size
        return self.shard.cut((even + offset) % 1) * end

    def tokenize_times(self, config: LatentConfig) -> Tensor:
        """(B,) timesteps of tokenization."""
        return self.uniform() * config.tokenize_time_max

    def decoder_times(self, config: LatentConfig) -> Tensor:
        """(B,) timesteps the decoder sees the latents at: 1 for those left clean."""
        clean = self.uniform() >= config.decoder_noise_probability
        noisy = config.decoder_noise_start + (1 - config.decoder_noise_start) * self.uniform()
        return torch.where(clean, 1.0, noisy)

    def reconstruction(self, config: RunConfig, length: int) -> ReconstructionNoise:
        """Numbers of tokenizing and decoding a training batch."""
        registers, tokenize_times = self.normal(length), self.tokenize_times(config.latent)
        view = self.lasting_view(config, length)
        if isinstance(config.regime, FrozenFeaturesRegime):
            view = self.widened(config.regime.noise_std, length)
        elif view is None:
            view = DecoderView.at(self.decoder_times(config.latent), self.normal(length))
        return ReconstructionNoise(registers, tokenize_times, view)

    def widened(self, std: float, length: int) -> DecoderView:
        """Latents as they are, with noise of a standard deviation |N(0, std^2)| for each sample."""
        joined = torch.randn(self.size, generator=self.generator, device=self.generator.device)
        spread = self.shard.cut(joined).abs() * std
        return DecoderView(torch.ones_like(spread), spread, self.normal(length))

    def lasting_view(self, config: RunConfig, length: int) -> DecoderView | None:
        """How the decoder sees latents outside training, too: with the noise where the flow ends; None: clean."""
        end = config.regime.end_time
        if end == 1:
            return None
        noise = self.normal(length)
        return DecoderView.at(torch.full((len(noise),), end, device=noise.device), noise)

    def left_open(self, parts: int) -> Tensor:
        """(B, P) bool: each sample leaves open a share of its parts that is itself uniform.

        So one part alone, some and all of them are asked for equally often, however many there are.
        """
        shape = (self.size, parts)
        joined = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return self.shard.cut(joined) < self.uniform()[:, None]

    def flow(self, config: FlowConfig, length: int, parts: int = 0) -> FlowNoise:
        """Numbers of one flow minibatch; `parts` of a condition that may be left open."""
        time = self.shard.cut(draw_times(config, self.size, self.generator))
        noise, dropped = self.normal(length), self.uniform() < config.condition_drop
        return FlowNoise(time, noise, dropped, self.left_open(parts) if parts else None)
