"""ODE solvers (torchdiffeq) that follow a drift from noise to data, with churn and a view of the states on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torchdiffeq import odeint

from unite_mm.errors import UsageError
from unite_mm.flow.times import time_grid
from unite_mm_schemas.config import SamplingConfig

DriftFunction = Callable[[Tensor, Tensor], Tensor]
"""(timestep (), state (B, L, C)) -> velocity (B, L, C)."""

StateCallback = Callable[[float, Tensor], None]
"""(timestep, state (B, L, C)): called at the beginning of every accepted step, and with the last state at its end."""


@dataclass(frozen=True)
class Solution:
    """Where the flow ended.

    Attributes:
        state: (B, L, C) at the end.
        evaluations: velocities evaluated (NFE).
    """

    state: Tensor
    evaluations: int


class _Field:
    """The drift as torchdiffeq calls it: counted, and with the callbacks that it looks for by name."""

    def __init__(self, drift: DriftFunction, on_state: StateCallback | None, adaptive: bool) -> None:
        self.drift, self.on_state = drift, on_state
        self.evaluations = 0
        if on_state is not None:
            setattr(self, "callback_accept_step" if adaptive else "callback_step", self._report)

    def __call__(self, time: Tensor, state: Tensor) -> Tensor:
        self.evaluations += 1
        return self.drift(time, state)

    def _report(self, time: Tensor, state: Tensor, _step: Tensor) -> None:
        assert self.on_state is not None
        self.on_state(float(time), state)


def integrate(
    drift: DriftFunction,
    noise: Tensor,
    config: SamplingConfig,
    fresh_noise: Callable[[], Tensor] | None = None,
    on_state: StateCallback | None = None,
    *,
    start: float = 0.0,
    end: float = 1.0,
) -> Solution:
    """Follow a drift from noise at t = 0, or from a state at a later timestep, to where the flow ends: t = 1 or before.

    Fixed-step solvers use `config.steps` steps on the shifted grid, or those of them that are left. dopri5 adapts its
    step to the error of the whole batch it is given; for results that do not depend on batch mates, give it one sample
    at a time, as `generate` does.

    Args:
        drift: the velocity.
        noise: (B, L, C), the state at `start`.
        config: solver, steps, tolerances, churn.
        fresh_noise: draws (B, L, C) standard normal noise; needed for churn only.
        on_state: gets the states on the way; it must not change them.
        start: timestep to begin at; nothing is left to do at the end.
        end: timestep at which the flow ends.

    Raises:
        UsageError: the shift of the grid was left open.
    """
    adaptive = config.solver == "dopri5"
    field = _Field(drift, on_state, adaptive)
    grid = grid_from(start, config, end).to(noise.device)
    if adaptive or not config.churn or fresh_noise is None:
        state = _solve(field, noise, grid, config)
    else:
        state = noise
        low, high = config.churn_interval
        for now, then in pairwise(grid):
            if low < float(now) < high:
                state, now = renoise(state, now, config.churn / config.steps, fresh_noise)
            state = odeint(field, state, torch.stack((now, then)), method=config.solver)[-1]
    if on_state is not None:
        on_state(end, state)
    return Solution(state, field.evaluations)


def grid_from(start: float, config: SamplingConfig, end: float = 1.0) -> Tensor:
    """Timesteps from `start` to `end`: the shifted grid, of which what lies before `start` is left out.

    Raises:
        UsageError: the shift was left open.
    """
    if config.shift is None:
        raise UsageError("sampling.shift=auto is decided when training begins", "give a number")
    grid = time_grid(config.steps, config.shift, end)
    return torch.cat((torch.tensor([start]), grid[grid > start]))


def integrate_back(drift: DriftFunction, state: Tensor, config: SamplingConfig, end: float = 1.0) -> Solution:
    """Follow a drift backwards from clean latents to the noise that they come from; without churn.

    They stand for the state at 1 - `min_remaining`: later the floor makes the velocity too small for the path, and the
    way back would leave it.

    Args:
        drift: the velocity.
        state: (B, L, C) clean latents.
        config: solver, steps, tolerances, the floor.
        end: timestep at which the flow ends.

    Returns:
        The noise, as `state`.
    """
    field = _Field(drift, None, False)
    grid, begin = grid_from(0.0, config, end), min(1 - config.min_remaining, end)
    grid = torch.cat((grid[grid < begin], torch.tensor([begin]))).flip(0).to(state.device)
    return Solution(_solve(field, state, grid, config), field.evaluations)


def _solve(field: _Field, state: Tensor, grid: Tensor, config: SamplingConfig) -> Tensor:
    """The state at the end of a grid of timesteps, of which dopri5 takes the ends alone."""
    if len(grid) == 1:
        return state
    if config.solver == "dopri5":
        end: Tensor = odeint(field, state, grid[[0, -1]], method="dopri5", rtol=config.rtol, atol=config.atol)[-1]
    else:
        end = odeint(field, state, grid, method=config.solver)[-1]
    return end


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
