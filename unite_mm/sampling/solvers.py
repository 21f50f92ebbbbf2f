"""ODE solvers (torchdiffeq) with function evaluations counted, and classifier-free guidance."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torchdiffeq import odeint

from unite_mm.flow.path import velocity
from unite_mm.flow.times import time_grid
from unite_mm_schemas.config import SamplingConfig

Denoiser = Callable[[Tensor, float, bool], Tensor]
"""(state (B, L, C), timestep, conditional?) -> clean latents (B, L, C)."""


@dataclass(frozen=True)
class Solution:
    """Where the flow ended.

    Attributes:
        state: (B, L, C) at t = 1.
        evaluations: velocities evaluated (NFE); guidance counts as one evaluation of twice the cost.
    """

    state: Tensor
    evaluations: int


def guide(denoiser: Denoiser, state: Tensor, time: float, config: SamplingConfig) -> Tensor:
    """Clean latents under guidance: u + w (c - u) for t strictly inside the interval, c outside.

    A lower end of 0 includes t = 0. Both c and u come layer-normalised from the denoiser. (B, L, C) -> (B, L, C).
    """
    conditional = denoiser(state, time, True)
    # Solvers count in float32: a time of 0.1 there is not above the 0.1 of a configuration.
    low, high, now = torch.tensor((*config.guidance_interval, time), dtype=torch.float32).tolist()
    if config.guidance == 1.0 or not (low == 0 or low < now) or not now < high:
        return conditional
    unconditional = denoiser(state, time, False)
    return unconditional + config.guidance * (conditional - unconditional)


def integrate(
    denoiser: Denoiser, noise: Tensor, config: SamplingConfig, fresh_noise: Callable[[], Tensor] | None = None
) -> Solution:
    """Follow dx/dt = (z0_hat - x) / max(1 - t, m) from noise at t = 0 to t = 1.

    Fixed-step solvers use `config.steps` steps on the shifted grid. dopri5 adapts its step to the error of the whole
    batch it is given; for results that do not depend on batch mates, give it one sample at a time, as `generate` does.

    Args:
        denoiser: predicts clean latents.
        noise: (B, L, C).
        config: solver, steps, tolerances, guidance, churn.
        fresh_noise: draws (B, L, C) standard normal noise; needed for churn only.
    """
    count = 0

    def field(time: Tensor, state: Tensor) -> Tensor:
        nonlocal count
        count += 1
        predicted = guide(denoiser, state, float(time), config)
        return velocity(predicted, state, time.expand(len(state)), config.min_remaining)

    grid = time_grid(config.steps, config.shift).to(noise.device)
    if config.solver == "dopri5":
        ends = torch.tensor([0.0, 1.0], device=noise.device)
        path = odeint(field, noise, ends, method="dopri5", rtol=config.rtol, atol=config.atol)
    else:
        if not config.churn or fresh_noise is None:
            return Solution(odeint(field, noise, grid, method=config.solver)[-1], count)
        state = noise
        low, high = config.churn_interval
        for start, end in pairwise(grid):
            if low < float(start) < high:
                state, start = renoise(state, start, config.churn / config.steps, fresh_noise)
            state = odeint(field, state, torch.stack((start, end)), method=config.solver)[-1]
        return Solution(state, count)
    return Solution(path[-1], count)


def renoise(state: Tensor, time: Tensor, back: float, fresh_noise: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Step back along the path by `back` and add the noise that is missing there (churn).

    Going from t to s < t scales the state by s / t; its noise then has standard deviation (1 - t) s / t, and fresh
    noise fills up to 1 - s, so that the marginal distribution at s is that of the path. After Karras et al.,
    arXiv 2206.00364, algorithm 2. The time must be above 0.

    Returns:
        The state at s, and s.
    """
    earlier = (time - back).clamp_min(0)
    scale = earlier / time
    missing = ((1 - earlier).square() - (scale * (1 - time)).square()).clamp_min(0).sqrt()
    return scale * state + missing * fresh_noise(), earlier
