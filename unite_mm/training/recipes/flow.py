"""The flow loss of a step, shared by all recipes that train the denoiser: piece by piece, one graph at a time.

The tokenizer's graph is cut at the latents. Where nothing reaches them, the reconstruction's gradient goes through the
tokenizer at once; else the gradients of all pieces gather at the cut and go through it together at the end. Either way
only one flow minibatch (or chunk of them, if the configuration says so) is ever held in memory.

Dimensions: B batch, L registers of the batch, C latent channels, W width; n draws of a chunk.
"""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch, Registers
from unite_mm.flow.loss import flow_loss
from unite_mm.flow.path import interpolate
from unite_mm.training.noise import FlowNoise, StepNoise
from unite_mm.training.recipes.base import Autocast, Recipe


@dataclass(frozen=True)
class FlowPass:
    """What the denoiser makes of n draws for the same B samples, one draw after the other along the batch.

    Attributes:
        modality: whose samples they are.
        batch: the B samples.
        clean: z0 (n B, L, C) in the space of the flow.
        noise: (n B, L, C).
        time: (n B,).
        registers: (n B, L).
        condition: of n B samples, or None.
        dropped: (n B,) bool, or None.
        predicted: z0_hat (n B, L, C).
        states: registers (n B, L, W) after every block; empty where nobody asked for them.
    """

    modality: str
    batch: Batch
    clean: Tensor
    noise: Tensor
    time: Tensor
    registers: Registers
    condition: Tensor | None
    dropped: Tensor | None
    predicted: Tensor
    states: list[Tensor]


class FlowRecipe(Recipe):
    """A recipe with flow minibatches.

    Attributes:
        wants_states: whether anything needs what the denoiser's blocks put out.
    """

    wants_states = False

    @property
    def reaches_latents(self) -> bool:
        """Whether any loss of the flow minibatches reaches the latents they are computed on."""
        return not self.config.regime.stop_gradient

    @property
    def flow_share(self) -> float:
        """What the loss of one draw counts in that of all."""
        config = self.config.flow
        return 1.0 if config.reduction == "sum" else 1.0 / config.draws

    def flow_weight(self, modality: str) -> float:
        """Factor of the flow loss of a modality, beside that of all its losses."""
        del modality
        return self.config.flow.weight

    def all_but_denoiser(self) -> Iterable[nn.Parameter]:
        """The parameters of the network without a separate denoiser."""
        other = self.network.separate_denoiser
        denoiser = set() if other is None else {id(parameter) for parameter in other.parameters()}
        return [parameter for parameter in self.network.parameters() if id(parameter) not in denoiser]

    @property
    def reconstructs(self) -> bool:
        """Whether the current stage trains by reconstruction."""
        return True

    @property
    def denoises(self) -> bool:
        """Whether the current stage trains by the flow loss."""
        return True

    def backward(
        self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast = nullcontext
    ) -> dict[str, Tensor]:
        """Reconstruction, and then the flow minibatches on its latents: `reconstruction`, `flow` and every term."""
        drawn = noise.reconstruction(self.config, batch.registers.mask.shape[1])
        if not self.reconstructs:
            with autocast(), torch.no_grad():
                latents = self.tokenize(modality, batch, drawn)
                clean = self.network.to_flow(modality, latents, batch.registers)
            return self.flow_backward(modality, batch, clean, noise, autocast)
        with autocast():
            latents = self.tokenize(modality, batch, drawn)
            cut = latents.detach().requires_grad_(True)
            reconstruction, terms = self.reconstruction_losses(modality, batch, cut, drawn.view)
        (self.weight(modality) * reconstruction).backward()
        found = {"reconstruction": reconstruction.detach()}
        reached = self.denoises and self.reaches_latents
        if not reached and latents.requires_grad:
            latents.backward(cut.grad)
        if self.denoises:
            clean = cut if reached else cut.detach()
            found |= self.flow_backward(modality, batch, clean, noise, autocast)
        if reached:
            latents.backward(cut.grad)
        return found | terms

    def flow_backward(
        self, modality: str, batch: Batch, clean: Tensor, noise: StepNoise, autocast: Autocast
    ) -> dict[str, Tensor]:
        """Forward and backward of every flow minibatch in turn; returns what `flow_records` adds up to."""
        config = self.config.flow
        totals: dict[str, Tensor] = {}
        for start in range(0, config.draws, config.chunk):
            count = min(config.chunk, config.draws - start)
            draws = [self.draw_flow(modality, noise, clean.shape[1]) for _ in range(count)]
            with autocast():
                seen = self.denoise(modality, batch, clean.repeat(count, 1, 1), FlowNoise.join(draws))
                loss = self.flow_values(seen).sum() / len(clean) * self.flow_share
            (self.weight(modality) * self.flow_weight(modality) * loss).backward()
            for name, value in self.flow_records(seen, loss.detach(), config.draws).items():
                totals[name] = totals.get(name, 0) + value
        return totals

    def draw_flow(self, modality: str, noise: StepNoise, length: int) -> FlowNoise:
        """Random numbers of one flow minibatch; none of a condition is left open, or parts of it, unless it may be."""
        spec = self.network.modules_of(modality).condition
        return noise.flow(self.config.flow, length, spec.parts if spec.left_open == "dropped" else 0)

    def denoise(self, modality: str, batch: Batch, clean: Tensor, draw: FlowNoise, *, drop: bool = True) -> FlowPass:
        """What the denoiser makes of latents noised to the timesteps of a draw.

        Args:
            modality: whose latents they are.
            batch: gives registers and condition of the B samples.
            clean: z0 (n B, L, C) in the space of the flow: the batch repeated n times.
            draw: n draws, joined.
            drop: conditions, as the draw says.
        """
        repeats = len(clean) // len(batch.registers.mask)
        registers = batch.registers.repeat(repeats)
        condition, dropped = batch.condition, draw.dropped if drop else None
        if condition is not None and repeats > 1:
            condition = condition.repeat(repeats, *([1] * (condition.dim() - 1)))
        if condition is not None and draw.left_open is not None:
            condition = condition.masked_fill(draw.left_open, float("nan"))
        state = interpolate(clean, draw.noise, draw.time)
        if registers.padded:
            state = state * registers.mask[:, :, None]
        states: list[Tensor] = []
        predicted = self.network.denoise(
            modality,
            state,
            draw.time,
            registers,
            condition=condition,
            dropped=dropped,
            states=states if self.wants_states else None,
        )
        return FlowPass(modality, batch, clean, draw.noise, draw.time, registers, condition, dropped, predicted, states)

    def flow_values(self, seen: FlowPass) -> Tensor:
        """Flow loss (n B,)."""
        return flow_loss(seen.predicted, seen.clean, seen.time, seen.registers, self.config.flow.min_remaining)

    def flow_records(self, seen: FlowPass, loss: Tensor, draws: int) -> dict[str, Tensor]:
        """Scalars of a chunk that add up to those of the step; here `flow`, reduced as configured.

        Args:
            seen: what was predicted.
            loss: of the chunk, detached.
            draws: of the step.
        """
        del seen, draws
        return {"flow": loss}

    def facts(self) -> list[tuple[str, str]]:
        """How many flow minibatches a step computes, and how many in a pass."""
        flow = self.config.flow
        return [("flow minibatches per step", f"{flow.draws} in chunks of {flow.chunk}")]

    def validate(self, modality: str, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        """`reconstruction` as a trained model decodes, `flow` of one draw, and every reconstruction term."""
        latents, found = self.validate_reconstruction(modality, batch, noise)
        clean = self.network.to_flow(modality, latents, batch.registers)
        draw = self.draw_validation(noise, clean.shape[1])
        seen = self.denoise(modality, batch, clean, draw, drop=False)
        reconstruction = found.pop("reconstruction")
        flow = self.flow_records(seen, self.flow_values(seen).mean(), 1)
        return {"reconstruction": reconstruction, **flow, **found}

    def draw_validation(self, noise: StepNoise, length: int) -> FlowNoise:
        """Random numbers of one flow minibatch of validation, with whole conditions."""
        return noise.flow(self.config.flow, length)
