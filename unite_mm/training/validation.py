"""Validation during training: losses on fixed validation samples with fixed noise."""

from typing import Any

import torch

from unite_mm.contract import ModalityData
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.recipes.base import Autocast, Recipe
from unite_mm_schemas.config import TrainConfig


@torch.no_grad()
def validate(
    recipe: Recipe, modality: str, data: ModalityData, settings: TrainConfig, autocast: Autocast
) -> dict[str, float]:
    """Means of the recipe's validation values over the first validation samples; the same noise at every call.

    Returns:
        By name, such as `reconstruction` and its terms; empty if the split is.
    """
    network = recipe.network
    count = min(settings.validation_samples, data.size("validation"))
    size = min(settings.batch_size, count)
    layout = network.modules_of(modality).layout
    sums: dict[str, float] = {}
    for number, start in enumerate(range(0, count - size + 1, size or 1) if size else ()):
        indices = torch.arange(start, start + size)
        batch: Any = data.batch("validation", indices).to(network.device)
        generator = stream_generator(Stream.VALIDATION_NOISE, settings.seed, number, device=network.device)
        noise = StepNoise(generator, size, layout, Shard())
        with autocast():
            found = recipe.validate(modality, batch, noise)
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: value * size / (count - count % size) for name, value in sums.items()} if size else {}
