"""The flow loss of a step, shared by all recipes that train the denoiser: piece by piece, one graph at a time.

The tokenizer's graph is cut at the latents. Where nothing reaches them, the reconstruction's gradient goes through the
tokenizer at once; else the gradients of all pieces gather at the cut and go through it together at the end. Either way
only one flow minibatch (or chunk of them, if the configuration says so) is ever held in memory.

Dimensions: B batch, L registers of the batch, C latent channels; n draws of a chunk.
"""

from contextlib import nullcontext

import torch
from torch import Tensor

from unite_mm.contract import Batch
from unite_mm.flow.loss import flow_loss
from unite_mm.flow.path import interpolate
from unite_mm.training.noise import FlowNoise, StepNoise
from unite_mm.training.recipes.base import Autocast, Recipe


class FlowRecipe(Recipe):
    """A recipe with flow minibatches."""

    @property
    def reaches_latents(self) -> bool:
        """Whether any loss of the flow minibatches reaches the latents they are computed on."""
        return not self.config.regime.stop_gradient

    def whole_backward(
        self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast = nullcontext
    ) -> dict[str, Tensor]:
        """Reconstruction, and then the flow minibatches on its latents: `reconstruction`, `flow` and every term."""
        drawn = noise.reconstruction(self.config.latent, batch.registers.mask.shape[1])
        with autocast():
            latents = self.tokenize(modality, batch, drawn)
            cut = latents.detach().requires_grad_(True)
            reconstruction, terms = self.reconstruction_losses(modality, batch, cut, drawn.view)
        (self.weight(modality) * reconstruction).backward()
        clean = cut
        if not self.reaches_latents:
            latents.backward(cut.grad)
            clean = cut.detach()
        flow = self.flow_backward(modality, batch, clean, noise, autocast)
        if self.reaches_latents:
            latents.backward(cut.grad)
        return {"reconstruction": reconstruction.detach(), "flow": flow, **terms}

    def flow_backward(self, modality: str, batch: Batch, clean: Tensor, noise: StepNoise, autocast: Autocast) -> Tensor:
        """Forward and backward of every flow minibatch in turn; returns their reduced loss."""
        config = self.config.flow
        weight = self.weight(modality)
        share = 1.0 if config.reduction == "sum" else 1.0 / config.draws
        spec = self.network.modules_of(modality).condition
        parts = spec.parts if spec.left_open == "dropped" else 0
        total = torch.zeros((), device=clean.device)
        for start in range(0, config.draws, config.chunk):
            count = min(config.chunk, config.draws - start)
            draws = [noise.flow(config, clean.shape[1], parts) for _ in range(count)]
            joined = FlowNoise.join(draws)
            repeated = clean.repeat(len(draws), 1, 1)
            with autocast():
                losses = self.flow_losses(
                    modality, batch, repeated, joined.time, joined.noise, joined.dropped, joined.left_open
                )
                loss = losses.sum() / len(clean) * share
            (weight * config.weight * loss).backward()
            total += loss.detach()
        return total

    def flow_losses(
        self,
        modality: str,
        batch: Batch,
        clean: Tensor,
        time: Tensor,
        noise: Tensor,
        dropped: Tensor | None,
        left_open: Tensor | None = None,
    ) -> Tensor:
        """Flow loss (n B,) of latents noised to `time`: the batch repeated n times.

        Args:
            modality: whose latents they are.
            batch: gives registers and condition of the B samples.
            clean: z0 (n B, L, C).
            time: (n B,).
            noise: (n B, L, C).
            dropped: (n B,) bool, conditions to replace by null; None: none.
            left_open: (n B, P) bool, parts of the conditions to leave open; None: none.
        """
        repeats = len(clean) // len(batch.registers.mask)
        registers = batch.registers.repeat(repeats)
        condition = batch.condition
        if condition is not None and repeats > 1:
            condition = condition.repeat(repeats, *([1] * (condition.dim() - 1)))
        if condition is not None and left_open is not None:
            condition = condition.masked_fill(left_open, float("nan"))
        state = interpolate(clean, noise, time)
        if registers.padded:
            state = state * registers.mask[:, :, None]
        predicted = self.network.denoise(modality, state, time, registers, condition=condition, dropped=dropped)
        return flow_loss(predicted, clean, time, registers, self.config.flow.min_remaining)

    def facts(self) -> list[tuple[str, str]]:
        """How many flow minibatches a step computes, and how many in a pass."""
        flow = self.config.flow
        return [("flow minibatches per step", f"{flow.draws} in chunks of {flow.chunk}")]

    def validate(self, modality: str, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        """`reconstruction` of clean latents, `flow` of one draw, and every reconstruction term."""
        length = batch.registers.mask.shape[1]
        times = noise.tokenize_times(self.config.latent)
        latents = self.network.tokenize(modality, batch, noise.normal(length), times)
        total, terms = self.reconstruction_losses(modality, batch, latents)
        draw = noise.flow(self.config.flow, length)
        flow = self.flow_losses(modality, batch, latents, draw.time, draw.noise, None).mean()
        return {"reconstruction": total, "flow": flow, **terms}
