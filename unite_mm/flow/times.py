"""Timesteps: their training distribution, the shift toward noise, and the solvers' grid."""

import torch
from torch import Tensor

from unite_mm_schemas.config import FlowConfig


def shift_time(time: Tensor, shift: float) -> Tensor:
    """a t / (1 + (a - 1) t): below 1 the shift a pulls timesteps toward noise; 0 and 1 stay where they are."""
    return shift * time / (1 + (shift - 1) * time)


def draw_times(config: FlowConfig, count: int, generator: torch.Generator) -> Tensor:
    """Training timesteps (count,), on the generator's device: logit-normal or uniform, then shifted."""
    if config.times == "uniform":
        time = torch.rand(count, generator=generator, device=generator.device)
    else:
        normal = torch.randn(count, generator=generator, device=generator.device)
        time = torch.sigmoid(config.time_mean + config.time_std * normal)
    assert config.shift is not None, "a run decides it when it begins"
    return shift_time(time, config.shift)


def time_grid(steps: int, shift: float, end: float = 1.0) -> Tensor:
    """(steps + 1,) increasing timesteps from 0 to `end` inclusive, shifted like the training times."""
    grid = end * shift_time(torch.linspace(0, 1, steps + 1, dtype=torch.float64), shift)
    grid[-1] = end
    return grid.float()
