"""Unified latents: reconstruction from latents of a fixed noise, and a bound on the nats that they carry.

Heek et al., arXiv 2602.17270. The tokenizer is deterministic, the decoder sees its latents at the noise where the flow
ends, and the flow loss is the bound of `unite_mm.flow.bound`, which reaches the tokenizer. Both losses are in nats of a
sample; what is optimised is divided by registers times channels of the layout, so that rates and clipping mean what
they mean elsewhere.

Dimensions: B batch, L registers of the batch, C latent channels; n draws of a chunk.
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch, LossTerm
from unite_mm.flow.bound import bound_nats, squared_error, weighted_nats
from unite_mm.model.network import Network
from unite_mm.random_streams import Stream, global_stream
from unite_mm.training.noise import FlowNoise, StepNoise
from unite_mm.training.passes import TrainingPass
from unite_mm.training.recipes.additions import FlowPass
from unite_mm.training.recipes.flow import FlowRecipe
from unite_mm_schemas.config import RunConfig
from unite_mm_schemas.recipe import BoundRecipeConfig


class BoundRecipe(FlowRecipe):
    """All parts by both losses; then, where a second stage is asked for, a fresh denoiser on frozen latents."""

    def __init__(self, config: RunConfig, network: Network) -> None:
        assert isinstance(config.recipe, BoundRecipeConfig)
        self.own = config.recipe
        self.boundaries = (1 - self.own.second_stage,) if self.own.second_stage else ()
        super().__init__(config, network)

    def trained(self) -> Iterable[nn.Parameter]:
        return self.network.parameters() if self.stage == 1 else self.network.denoiser.parameters()

    def begin_stage(self, data: TrainingPass) -> None:
        """A fresh denoiser."""
        del data
        with global_stream(Stream.STAGE_WEIGHTS, self.config.train.seed, self.stage):
            self.network.renew_denoiser()

    @property
    def reconstructs(self) -> bool:
        """The first stage alone."""
        return self.stage == 1

    @property
    def flow_share(self) -> float:
        """A bound is a mean over draws."""
        return 1.0 / self.config.flow.draws

    def flow_weight(self, modality: str) -> float:
        """Nats of a sample become nats of a channel of its layout."""
        return 1.0 / self._dimensions(modality)

    def _dimensions(self, modality: str) -> int:
        layout = self.network.modules_of(modality).layout
        return layout.registers * layout.channels

    def total(self, modality: str, batch: Batch, terms: Mapping[str, LossTerm]) -> Tensor:
        """Nats of the reconstruction times the loss factor, likewise for each channel of the layout."""
        nats = self.network.modules_of(modality).nats(terms, batch).float().mean()
        return self.own.loss_factor / self._dimensions(modality) * nats

    def draw_flow(self, modality: str, noise: StepNoise, length: int) -> FlowNoise:
        """Timesteps are uniform up to the end of the flow."""
        return self._bounded(super().draw_flow(modality, noise, length), noise)

    def draw_validation(self, noise: StepNoise, length: int) -> FlowNoise:
        return self._bounded(super().draw_validation(noise, length), noise)

    def _bounded(self, drawn: FlowNoise, noise: StepNoise) -> FlowNoise:
        return FlowNoise(noise.spread(self.network.end_time), drawn.noise, drawn.dropped, drawn.left_open)

    def flow_values(self, seen: FlowPass) -> Tensor:
        """Nats (n B,): of the bound, or weighted by the sigmoid in the second stage."""
        if self.stage == 1:
            return self._bound(seen)
        error = squared_error(seen.predicted, seen.clean, seen.registers)
        return weighted_nats(error, seen.time, self.network.end_time, self.own.second_stage_bias)

    def _bound(self, seen: FlowPass) -> Tensor:
        error = squared_error(seen.predicted, seen.clean, seen.registers)
        return bound_nats(error, seen.time, self.network.end_time)

    def flow_records(self, seen: FlowPass, values: Tensor, loss: Tensor, draws: int) -> dict[str, Tensor]:
        """`flow`, and what it bounds: bits that the latents of a sample carry, and those of a channel of a register."""
        with torch.no_grad():
            bits = (values if self.stage == 1 else self._bound(seen)) / math.log(2)
            channels = seen.registers.mask.sum(1) * seen.clean.shape[-1]
        parts = len(seen.batch.registers.mask) * draws
        return {
            "flow": loss,
            "bits_per_sample": bits.sum() / parts,
            "bits_per_channel": (bits / channels).sum() / parts,
        }

    def facts(self) -> list[tuple[str, str]]:
        """Where the flow ends, and how the run is shared between stages."""
        rows = [("latents end at", f"t = {self.network.end_time:.4f}")]
        if self.boundaries:
            share = self.boundaries[0]
            rows += [("stage 1", f"{share:.0%}: all parts"), ("stage 2", f"{1 - share:.0%}: a fresh denoiser")]
        return rows + super().facts()
