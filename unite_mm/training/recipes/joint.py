"""The joint objective: reconstruction plus flow matching, back-propagated piece by piece (arXiv 2603.22283, alg. 1).

The encoder's graph is cut at the latents. With stop-gradient the reconstruction's gradient goes through the encoder at
once and each flow minibatch is forward and backward on its own; without it, the gradients of all pieces gather at the
cut and go through the encoder together at the end. Either way only one flow minibatch (or chunk of them, if the
configuration says so) is ever held in memory.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.flow.loss import flow_loss
from unite_mm.flow.path import interpolate
from unite_mm.training.noise import FlowNoise, StepNoise

Autocast = Callable[[], AbstractContextManager[Any]]


def reconstruction_losses(
    model: UNITE, modality: str, batch: Any, latents: Tensor, decoder_times: Tensor | None, noise: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Decode latents (B, L, C), noised to `decoder_times` (B,) if given, and compare with the batch.

    Returns:
        The weighted total, averaged over the batch, and each unweighted term's mean.
    """
    seen = latents
    if decoder_times is not None and noise is not None:
        seen = interpolate(latents, noise, decoder_times)
        if batch.registers.padded:
            seen = seen * batch.registers.mask[:, :, None]
    output = model.decode_from(modality, seen, batch.registers)
    terms = model.modules_of(modality).losses(output, batch)
    total = torch.stack([term.weight * term.values.float().mean() for term in terms.values()]).sum()
    return total, {name: term.values.detach().float().mean() for name, term in terms.items()}


def joint_backward(
    model: UNITE,
    modality: str,
    batch: Any,
    noise: StepNoise,
    weight: float = 1.0,
    autocast: Autocast = nullcontext,
) -> dict[str, Tensor]:
    """Add the gradients of one joint step on one modality's batch to the parameters.

    Args:
        model: the model, in training mode.
        modality: whose batch it is.
        batch: the plugin's batch, on the model's device.
        noise: the step's random numbers.
        weight: factor of the modality's whole loss.
        autocast: context of the forward passes.

    Returns:
        Detached scalars: `reconstruction`, `flow` (reduced as configured), and every reconstruction term.
    """
    config = model.config
    drawn = noise.reconstruction(config.latent, batch.registers.mask.shape[1])
    with autocast():
        latents = model.tokenize_from(modality, batch, drawn.registers, drawn.tokenize_times)
        cut = latents.detach().requires_grad_(True)
        reconstruction, terms = reconstruction_losses(model, modality, batch, cut, drawn.decoder_times, drawn.decoder)
    (weight * reconstruction).backward()
    clean = cut
    if config.regime.stop_gradient:
        latents.backward(cut.grad)
        clean = cut.detach()
    flow = flow_backward(model, modality, batch, clean, noise, weight, autocast)
    if not config.regime.stop_gradient:
        latents.backward(cut.grad)
    return {"reconstruction": reconstruction.detach(), "flow": flow, **terms}


def flow_backward(
    model: UNITE,
    modality: str,
    batch: Any,
    clean: Tensor,
    noise: StepNoise,
    weight: float,
    autocast: Autocast,
) -> Tensor:
    """Forward and backward of every flow minibatch in turn; returns their reduced loss."""
    config = model.config.flow
    share = 1.0 if config.reduction == "sum" else 1.0 / config.draws
    total = torch.zeros((), device=clean.device)
    for start in range(0, config.draws, config.chunk):
        draws = [noise.flow(config, clean.shape[1]) for _ in range(min(config.chunk, config.draws - start))]
        joined = FlowNoise.join(draws)
        repeated = clean.repeat(len(draws), 1, 1)
        with autocast():
            losses = one_flow_loss(model, modality, batch, repeated, joined.time, joined.noise, joined.dropped)
            loss = losses.sum() / len(clean) * share
        (weight * config.weight * loss).backward()
        total += loss.detach()
    return total


def one_flow_loss(
    model: UNITE, modality: str, batch: Any, clean: Tensor, time: Tensor, noise: Tensor, dropped: Tensor | None
) -> Tensor:
    """Flow loss (n B,) of latents noised to `time`: the batch repeated n times.

    Args:
        model: the model.
        modality: whose latents they are.
        batch: gives registers and condition of the B samples.
        clean: z0 (n B, L, C).
        time: (n B,).
        noise: (n B, L, C).
        dropped: (n B,) bool, conditions to replace by null; None: none.
    """
    repeats = len(clean) // len(batch.registers.mask)
    registers = batch.registers.repeat(repeats)
    condition = batch.condition
    if condition is not None and repeats > 1:
        condition = condition.repeat(repeats, *([1] * (condition.dim() - 1)))
    state = interpolate(clean, noise, time)
    if registers.padded:
        state = state * registers.mask[:, :, None]
    predicted = model.denoiser(modality, state, time, registers, condition=condition, dropped=dropped)
    return flow_loss(predicted, clean, time, registers, model.config.flow.min_remaining)
