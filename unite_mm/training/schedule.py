"""The learning rate over a run, as a share of its peak."""

import math

import torch

from unite_mm_schemas.config import OptimConfig


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
