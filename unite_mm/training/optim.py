"""Optimizers by declared parameter groups, learning-rate schedule, gradient reduction, EMA."""

import math
from collections.abc import Iterable, Mapping
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unite_mm.model.layers import HIDDEN_MATRICES
from unite_mm.training.muon import StackedMuon
from unite_mm_schemas.config import OptimConfig

Named = list[tuple[str, nn.Parameter]]


def parameter_groups(model: nn.Module, optimizer: str) -> tuple[Named, Named]:
    """Split the trainable parameters: hidden matrices (`layers.HIDDEN_MATRICES`) for Muon, all others for AdamW."""
    hidden = {
        id(module.weight) for module in model.modules() if isinstance(module, HIDDEN_MATRICES) and optimizer == "muon"
    }
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return (
        [(name, parameter) for name, parameter in trainable if id(parameter) in hidden],
        [(name, parameter) for name, parameter in trainable if id(parameter) not in hidden],
    )


def rate_factor(config: OptimConfig, step: int, progress: float) -> float:
    """Learning rate as a share of its peak.

    Args:
        config: warm-up steps and shape of the decay.
        step: optimizer steps done.
        progress: share of the run that is done, in [0, 1].
    """
    warm = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "stages":
        return warm * _staged(config.stages, step)
    if config.schedule == "constant" or progress <= config.decay_start:
        return warm
    done = min(1.0, (progress - config.decay_start) / max(1e-12, 1 - config.decay_start))
    shape = 1 - done if config.schedule == "linear" else 0.5 * (1 + torch.tensor(done * torch.pi).cos().item())
    return warm * (config.final_rate + (1 - config.final_rate) * shape)


def _staged(stages: tuple[tuple[int, int, float], ...], step: int) -> float:
    """The rate after cosine decays from one level to the next, each between two steps; flat before and after each."""
    level = 1.0
    for first, last, share in stages:
        if step < first:
            break
        if step < last:
            done = (step - first) / (last - first)
            return share + (level - share) * 0.5 * (1 + math.cos(math.pi * done))
        level = share
    return level


class Optimizers:
    """Muon and AdamW side by side, with state keyed by parameter names.

    Args:
        model: its parameters are grouped by their declaration.
        config: rates and constants.
    """

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.config = config
        self.muon_named, self.adamw_named = parameter_groups(model, config.optimizer)
        self.muon_rate = config.muon_learning_rate or config.learning_rate
        self.adamw = torch.optim.AdamW(
            [parameter for _, parameter in self.adamw_named],
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=0.0 if self.muon_named else config.weight_decay,
            fused=True,
        )
        self.muon = (
            StackedMuon(
                [parameter for _, parameter in self.muon_named],
                lr=self.muon_rate,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                eps=config.eps,
            )
            if self.muon_named
            else None
        )

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters, Muon's first."""
        return [parameter for _, parameter in self.muon_named + self.adamw_named]

    def zero_grad(self) -> None:
        """Give every trained parameter a zero gradient, so that unused ones count as zero on every rank."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch._foreach_zero_([cast(Tensor, parameter.grad) for parameter in self.parameters])

    def step(self, factor: float) -> None:
        """One step at `factor` of the peak rates."""
        self.adamw.param_groups[0]["lr"] = self.config.learning_rate * factor
        self.adamw.step()
        if self.muon is not None:
            self.muon.param_groups[0]["lr"] = self.muon_rate * factor
            self.muon.step()

    def state(self) -> dict[str, Tensor]:
        """Flat `parameter/entry` -> tensor."""
        flat = {}
        for optimizer, named in self._pairs():
            for name, parameter in named:
                for entry, value in optimizer.state.get(parameter, {}).items():
                    flat[f"{name}/{entry}"] = torch.as_tensor(value)
        return flat

    def load_state(self, flat: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        for optimizer, named in self._pairs():
            for name, parameter in named:
                entries = {key.rpartition("/")[2]: key for key in flat if key.rpartition("/")[0] == name}
                if entries:
                    optimizer.state[parameter] = {
                        entry: flat[key].clone() if entry == "step" else flat[key].clone().to(parameter.device)
                        for entry, key in entries.items()
                    }

    def _pairs(self) -> Iterable[tuple[torch.optim.Optimizer, Named]]:
        yield self.adamw, self.adamw_named
        if self.muon is not None:
            yield self.muon, self.muon_named


def reduce_gradients(parameters: list[nn.Parameter]) -> None:
    """Average the gradients over all ranks, once, after every backward pass of the step.

    DistributedDataParallel's own hook would fire in each backward pass and leave out what the last did not touch.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class EMA:
    """Exponential moving average of the trainable parameters.

    Args:
        model: whose parameters to average.
        decay: per step.
        ramp: use the smaller of `decay` and (1 + step) / (10 + step).
    """

    def __init__(self, model: nn.Module, decay: float, ramp: bool) -> None:
        self.decay = decay
        self.ramp = ramp
        self.live = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.average = {name: parameter.detach().clone() for name, parameter in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average toward the parameters after optimizer step `step` (1-based)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay
        torch._foreach_lerp_(list(self.average.values()), list(self.live.values()), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averaged and live weights, in place; a second call restores them."""
        for name, parameter in self.live.items():
            held = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(held)

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Restore a saved average."""
        for name, tensor in self.average.items():
            tensor.copy_(average[name])
