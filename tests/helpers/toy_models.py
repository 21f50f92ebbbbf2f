"""Small models of the toy modality, with batches and random numbers for them."""

import torch
from unite_mm_toy.config import PointsConfig
from unite_mm_toy.points import PointBatch, Points, draw_ring

from unite_mm.contract import Registers
from unite_mm.registry.build import build_model
from unite_mm.training.noise import Shard, StepNoise
from unite_mm_schemas.config import ModalityRun, RunConfig, TrunkConfig

STATISTICS = {"counts": [1, 1, 1]}


def make_model(**changes):
    trunk = {"width": 32, "depth": 3, "heads": 2, "time_features": 16, "gate_start": 0.5, "pointer_bias": 1.0}
    trunk |= changes.pop("trunk", {})
    config = RunConfig(modalities={"points": ModalityRun()}, trunk=TrunkConfig(**trunk), **changes)
    model = build_model(config, {"points": Points(PointsConfig(), "points")}, {"points": STATISTICS}).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():  # zero-initialised parts would hide mistakes
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def make_batch(size: int, padded: bool = True) -> PointBatch:
    points, counts, first = draw_ring(size, 0.05, torch.Generator().manual_seed(3))
    registers = Registers.from_counts(counts if padded else torch.full((size,), 3))
    return PointBatch(points[:, : registers.mask.shape[1]] * registers.mask[:, :, None], registers, first)


def make_noise(model, size: int, shard: Shard | None = None, step: int = 0) -> StepNoise:
    layout = model.modules_of("points").layout
    return StepNoise(7, step, 0, size, layout, torch.device("cpu"), shard or Shard())


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
