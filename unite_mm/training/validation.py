"""Validation during training: losses on fixed validation samples with fixed noise."""

from typing import Any

import torch

from unite_mm.api import UNITE
from unite_mm.contract import ModalityData
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.recipes.joint import Autocast, one_flow_loss, reconstruction_losses
from unite_mm_schemas.config import TrainConfig


@torch.no_grad()
def validate(
    model: UNITE, modality: str, data: ModalityData, settings: TrainConfig, autocast: Autocast
) -> dict[str, float]:
    """Mean losses over the first validation samples; the same noise at every call.

    Returns:
        `reconstruction`, its terms, and `flow` of one draw; empty if the split is.
    """
    model.eval()
    count = min(settings.validation_samples, data.size("validation"))
    size = min(settings.batch_size, count)
    sums: dict[str, float] = {}
    for number, start in enumerate(range(0, count - size + 1, size or 1) if size else ()):
        indices = torch.arange(start, start + size)
        batch: Any = data.batch("validation", indices).to(model.device)
        noise = StepNoise(
            settings.seed, number, 1_000_003, size, model.modules_of(modality).layout, model.device, Shard()
        )
        length = batch.registers.mask.shape[1]
        with autocast():
            times = noise.tokenize_times(model.config.latent)
            latents = model.tokenize_from(modality, batch, noise.normal(length), times)
            total, terms = reconstruction_losses(model, modality, batch, latents, None, None)
            draw = noise.flow(model.config.flow, length)
            flow = one_flow_loss(model, modality, batch, latents, draw.time, draw.noise, None).mean()
        for name, value in {"reconstruction": total, "flow": flow, **terms}.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: value * size / (count - count % size) for name, value in sums.items()} if size else {}
