"""The flow loss of a step, shared by all recipes that train the denoiser: piece by piece, one graph at a time.

The tokenizer's graph is cut at the latents. Where nothing reaches them, the reconstruction's gradient goes through the
tokenizer at once; else the gradients of all pieces gather at the cut and go through it together at the end. Either way
only one flow minibatch (or chunk of them, if the configuration says so) is ever held in memory.

Dimensions: B batch, L registers of the batch, C latent channels, W width; n draws of a chunk.
"""

from collections.abc import Iterable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch
from unite_mm.flow.loss import flow_loss
from unite_mm.flow.path import interpolate
from unite_mm.model.network import Network
from unite_mm.random_streams import Stream, global_stream
from unite_mm.training.noise import FlowNoise, StepNoise
from unite_mm.training.recipes.additions import Addition, DecodedPredictions, FlowPass
from unite_mm.training.recipes.alignment import SelfAligned, TeacherAligned
from unite_mm.training.recipes.base import Autocast, Recipe
from unite_mm_schemas.config import RunConfig


class FlowRecipe(Recipe):
    """A recipe with flow minibatches.

    Attributes:
        additions: further losses of every flow minibatch.
    """

    def __init__(self, config: RunConfig, network: Network) -> None:
        super().__init__(config, network)
        self.additions = self._additions()
        for addition in self.additions:
            self.extra[addition.name] = addition.to(network.device)

    def _additions(self) -> list[Addition]:
        """What the configuration adds, with fresh weights."""
        alignment, gradient = self.config.alignment, self.config.latent_gradient
        found: list[Addition] = []
        with global_stream(Stream.TRAINING_PARTS, self.config.train.seed):
            if alignment.kind == "teacher":
                found.append(TeacherAligned(alignment, self.network))
            elif alignment.kind == "self":
                found.append(SelfAligned(alignment, self.network, lambda: self.average))
        if gradient.kind == "decoded":
            found.append(DecodedPredictions(gradient))
        return found

    @property
    def parts(self) -> nn.Module:
        """What the additions train, while there is anything to add to."""
        return self.extra if self.denoises else nn.ModuleDict()

    @property
    def flow_reaches(self) -> bool:
        """Whether the flow loss reaches the latents it is computed on."""
        return not self.config.regime.stop_gradient

    @property
    def reaches_latents(self) -> bool:
        """Whether any loss of the flow minibatches does."""
        return self.flow_reaches or any(addition.reaches for addition in self.additions)

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
        """The parameters of the network without those of a denoiser that tokenizes nothing."""
        apart = self.network.separate_denoiser is not None or self.network.features is not None
        denoiser = {id(parameter) for parameter in self.network.denoiser.parameters()} if apart else set()
        return [parameter for parameter in self.network.parameters() if id(parameter) not in denoiser]

    @property
    def repeatable(self) -> bool:
        return not self.additions

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
        """Forward and backward of every flow minibatch in turn; returns what `flow_records` and additions add up to."""
        config, weight = self.config.flow, self.weight(modality)
        totals: dict[str, Tensor] = {}
        for addition in self.additions:
            addition.prepare(self.network, modality, batch)
        for start in range(0, config.draws, config.chunk):
            count = min(config.chunk, config.draws - start)
            draws = [self.draw_all(modality, noise, clean.shape[1]) for _ in range(count)]
            with autocast():
                joined = FlowNoise.join([draw for draw, _ in draws])
                seen = self.denoise(modality, batch, clean.repeat(count, 1, 1), joined)
                values = self.flow_values(seen)
                loss = values.sum() / len(clean) * self.flow_share
                parts = [(weight * self.flow_weight(modality) * loss, self.flow_reaches)]
                records = self.flow_records(seen, values.detach(), loss.detach(), config.draws)
                for addition, drawn in zip(self.additions, zip(*(own for _, own in draws), strict=True), strict=True):
                    value = addition.values(self.network, seen, torch.cat(drawn)).sum() / len(clean) / config.draws
                    parts.append((weight * addition.weight * value, addition.reaches))
                    records[addition.name] = value.detach()
            self._descend(parts, clean)
            for name, value in records.items():
                totals[name] = totals.get(name, 0) + value
        return totals

    def draw_all(self, modality: str, noise: StepNoise, length: int) -> tuple[FlowNoise, list[Tensor]]:
        """Random numbers of one flow minibatch, and of its additions."""
        return self.draw_flow(modality, noise, length), [addition.draw(noise) for addition in self.additions]

    def _descend(self, parts: list[tuple[Tensor, bool]], clean: Tensor) -> None:
        """Backward of weighted losses, of which some do not reach the latents though others of the same pass do."""
        stopped = [loss for loss, reaches in parts if not reaches]
        reaching = [loss for loss, reaches in parts if reaches]
        if not clean.requires_grad or not stopped or not reaching:
            torch.stack([loss for loss, _ in parts]).sum().backward()
            return
        leaves = [*self.network.parameters(), *self.extra.parameters()]
        leaves = [parameter for parameter in leaves if parameter.requires_grad]
        torch.autograd.backward(torch.stack(stopped).sum(), inputs=leaves, retain_graph=True)
        torch.stack(reaching).sum().backward()

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
            states=states if any(addition.wants_states for addition in self.additions) else None,
        )
        return FlowPass(modality, batch, clean, draw.noise, draw.time, registers, condition, dropped, predicted, states)

    def flow_values(self, seen: FlowPass) -> Tensor:
        """Flow loss (n B,)."""
        return flow_loss(seen.predicted, seen.clean, seen.time, seen.registers, self.config.flow.min_remaining)

    def flow_records(self, seen: FlowPass, values: Tensor, loss: Tensor, draws: int) -> dict[str, Tensor]:
        """Scalars of a chunk that add up to those of the step; here `flow`, reduced as configured.

        Args:
            seen: what was predicted.
            values: `flow_values` (n B,) of it, detached.
            loss: of the chunk, detached.
            draws: of the step.
        """
        del seen, values, draws
        return {"flow": loss}

    def facts(self) -> list[tuple[str, str]]:
        """How many flow minibatches a step computes, and how many in a pass."""
        flow = self.config.flow
        rows = [("flow minibatches per step", f"{flow.draws} in chunks of {flow.chunk}")]
        return rows + [("added to the flow loss", addition.title) for addition in self.additions]

    def validate(self, modality: str, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        """`reconstruction` as a trained model decodes, `flow` of one draw, and every reconstruction term."""
        latents, found = self.validate_reconstruction(modality, batch, noise)
        clean = self.network.to_flow(modality, latents, batch.registers)
        draw = self.draw_validation(noise, clean.shape[1])
        seen = self.denoise(modality, batch, clean, draw, drop=False)
        reconstruction = found.pop("reconstruction")
        values = self.flow_values(seen)
        flow = self.flow_records(seen, values, values.mean(), 1)
        return {"reconstruction": reconstruction, **flow, **found}

    def draw_validation(self, noise: StepNoise, length: int) -> FlowNoise:
        """Random numbers of one flow minibatch of validation, with whole conditions."""
        return noise.flow(self.config.flow, length)
