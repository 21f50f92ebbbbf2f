"""Small image models and batches for them."""

from typing import Any

import torch

from unite_mm.api import UNITE
from unite_mm.registry.build import build_network
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.modality import Images
from unite_mm_schemas.config import ModalityRun, RunConfig, TrunkConfig

TINY: dict[str, Any] = {
    "size": 8,
    "patch": 4,
    "channels": 6,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
}
STATISTICS: dict[str, Any] = {"classes": ["disc", "ring", "cross"], "class_counts": [5, 0, 5]}


def make_model(trunk: dict[str, Any] | None = None, statistics: dict[str, Any] = STATISTICS, **image: Any) -> UNITE:
    own = ImageConfig(**{**TINY, "lpips_weight": 0.0, **image})
    trunk = {"width": 16, "depth": 2, "heads": 2, "time_features": 8, "gate_start": 0.5} | (trunk or {})
    config = RunConfig(modalities={"image": ModalityRun(config=own.model_dump())}, trunk=TrunkConfig(**trunk))
    modalities = {"image": Images(own, "image")}
    network = build_network(config, modalities, {"image": statistics})
    return UNITE(network, config, modalities, {"image": statistics})


def make_batch(count: int, config: ImageConfig, classes: bool = True) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, config.colour_channels, config.size, config.size, generator=generator)
    return ImageBatch.of(pixels, config.registers, torch.arange(count) % 3 if classes else None)
