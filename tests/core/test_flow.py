"""Path, timesteps, loss, guidance and solvers against values worked out by hand."""

import math

import pytest
import torch

from unite_mm.contract import Registers
from unite_mm.flow.loss import flow_loss
from unite_mm.flow.path import interpolate, velocity
from unite_mm.flow.times import draw_times, shift_time, time_grid
from unite_mm.sampling.drift import Drift, guide
from unite_mm.sampling.solvers import integrate, renoise
from unite_mm_schemas.config import FlowConfig, SamplingConfig


def test_path_runs_from_noise_to_data_in_a_straight_line():
    data, noise = torch.full((3, 2, 1), 4.0), torch.full((3, 2, 1), -2.0)
    state = interpolate(data, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert state[:, 0, 0].tolist() == [-2.0, -0.5, 4.0]
    # The velocity of the exact prediction is the line's slope, data - noise, wherever 1 - t is above the floor.
    assert velocity(data, state, torch.tensor([0.0, 0.25, 0.25]), 0.05)[1, 0, 0].item() == pytest.approx(6.0)


def test_velocity_is_floored_near_the_data():
    prediction, state = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    assert velocity(prediction, state, torch.tensor([0.99]), 0.05).item() == pytest.approx(20.0)
    assert velocity(prediction, state, torch.tensor([0.5]), 0.05).item() == pytest.approx(2.0)


@pytest.mark.parametrize(("shift", "expected"), [(0.5, 1 / 3), (1.0, 0.5), (2.0, 2 / 3)])
def test_shift_of_one_half(shift, expected):
    assert shift_time(torch.tensor(0.5), shift).item() == pytest.approx(expected)


def test_grid_is_shifted_and_keeps_its_ends():
    grid = time_grid(4, 0.5)
    assert grid.tolist() == pytest.approx([0, 1 / 7, 1 / 3, 3 / 5, 1])


def test_training_times_follow_the_shifted_logit_normal():
    config = FlowConfig(time_mean=0.3, time_std=0.8, shift=0.5)
    times = draw_times(config, 200_000, torch.Generator().manual_seed(0))
    assert times.min() > 0 and times.max() < 1
    raw = times / (0.5 + 0.5 * times)  # inverse of the shift
    logits = torch.logit(raw.double())
    assert logits.mean().item() == pytest.approx(0.3, abs=0.01)
    assert logits.std().item() == pytest.approx(0.8, abs=0.01)
    uniform = draw_times(FlowConfig(times="uniform", shift=1.0), 200_000, torch.Generator().manual_seed(0))
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.005)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=0.002)


def test_flow_loss_by_hand_with_padding_and_floor():
    clean = torch.zeros(2, 2, 2)
    predicted = torch.tensor([[[1.0, 3.0], [2.0, 0.0]], [[1.0, 1.0], [99.0, 99.0]]])
    registers = Registers.from_counts(torch.tensor([2, 1]))
    loss = flow_loss(predicted, clean, torch.tensor([0.5, 0.99]), registers, 0.05)
    # first: (1 + 9 + 4 + 0) / 4 / 0.25; second: only its used register counts, 1 / 0.0025
    assert loss.tolist() == pytest.approx([14.0, 400.0], rel=1e-5)


def analytic(noise: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """dx/dt = (z - x) / max(1 - t, 0.05): a line up to 0.95, then exponential decay over one time constant."""
    return target + 0.05 * math.exp(-1) * (noise - target)


@pytest.mark.parametrize(
    ("solver", "steps", "tolerance", "evaluations"),
    [("dopri5", 1, 2e-3, None), ("heun2", 200, 2e-3, 400), ("rk4", 100, 2e-3, 400), ("euler", 400, 5e-3, 400)],
)
def test_solvers_agree_on_a_known_ode(solver, steps, tolerance, evaluations):
    generator = torch.Generator().manual_seed(1)
    noise, target = torch.randn(1, 3, 4, generator=generator), torch.randn(1, 3, 4, generator=generator)
    config = SamplingConfig(solver=solver, steps=steps, rtol=1e-5)
    solution = integrate(Drift(lambda state, time, conditional: target, config), noise, config)
    assert torch.allclose(solution.state, analytic(noise, target), atol=tolerance)
    if evaluations is not None:
        assert solution.evaluations == evaluations
    else:
        assert 7 <= solution.evaluations < 200


def test_guidance_extrapolates_strictly_inside_its_interval():
    calls = []

    def denoiser(state, time, conditional):
        calls.append(conditional)
        return torch.full_like(state, 3.0 if conditional else 1.0)

    state = torch.zeros(1, 1, 1)
    config = SamplingConfig(guidance=2.5, guidance_interval=(0.1, 1.0))
    values = [guide(denoiser, state, time, config).item() for time in (0.0, 0.1, 0.5, 1.0)]
    assert values == pytest.approx([3.0, 3.0, 1.0 + 2.5 * 2.0, 3.0])
    assert calls.count(False) == 1  # the unconditional pass is only paid for where it acts
    assert guide(denoiser, state, 0.5, SamplingConfig(guidance=1.0)).item() == pytest.approx(3.0)


def test_churn_keeps_the_marginal_of_the_path():
    """Stepped back from t to s with fresh noise, a state is distributed like the path at s."""
    generator = torch.Generator().manual_seed(0)
    data = torch.full((200_000, 1, 1), 3.0)

    def fresh():
        return torch.randn(data.shape, generator=generator)

    state = interpolate(data, fresh(), torch.full((len(data),), 0.6))
    back, earlier = renoise(state, torch.tensor(0.6), 0.2, fresh)
    assert float(earlier) == pytest.approx(0.4)
    assert back.mean().item() == pytest.approx(0.4 * 3.0, abs=0.01)
    assert back.std().item() == pytest.approx(0.6, abs=0.01)


def test_churn_acts_strictly_inside_its_interval():
    times = time_grid(10, 1.0).tolist()  # 0, 0.1, ... 1
    drawn = []

    def fresh():
        drawn.append(1)
        return torch.zeros(1, 1, 1)

    def count(low, high):
        drawn.clear()
        config = SamplingConfig(solver="euler", steps=10, shift=1.0, churn=1.0, churn_interval=(low, high))
        integrate(Drift(lambda state, time, conditional: state, config), torch.zeros(1, 1, 1), config, fresh)
        return len(drawn)

    assert count(0.0, 0.95) == 9  # at t = 0 there is nothing to step back to
    assert count(times[3], times[7]) == 3
    assert count(0.9, 0.9) == 0


def test_churn_is_reproducible_and_ends_at_the_data():
    target = torch.ones(2, 3, 4)

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        config = SamplingConfig(solver="euler", steps=50, churn=2.0)
        noise = torch.randn(target.shape, generator=generator)
        drift = Drift(lambda *_: target, config)
        return integrate(drift, noise, config, lambda: torch.randn(target.shape, generator=generator)).state

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    assert torch.allclose(run(1), target, atol=0.1)


@pytest.mark.parametrize(("solver", "churn"), [("euler", 0.0), ("heun2", 2.0), ("dopri5", 0.0)])
def test_the_states_on_the_way_are_reported_and_change_nothing(solver, churn):
    generator = torch.Generator().manual_seed(0)
    noise, target = torch.randn(1, 3, 4, generator=generator), torch.randn(1, 3, 4, generator=generator)
    config = SamplingConfig(solver=solver, steps=10, shift=1.0, churn=churn)

    def fresh() -> torch.Tensor:
        return torch.ones(1, 3, 4)

    seen: list[tuple[float, torch.Tensor]] = []
    plain, watched = (Drift(lambda state, time, conditional: target, config) for _ in range(2))
    expected = integrate(plain, noise, config, fresh)
    found = integrate(watched, noise, config, fresh, lambda time, state: seen.append((time, state.clone())))
    assert torch.equal(found.state, expected.state)
    assert found.evaluations == expected.evaluations == watched.evaluations
    assert torch.equal(seen[0][1], noise) and torch.equal(seen[-1][1], found.state)
    times = [time for time, _ in seen]
    assert times[0] == 0 and times[-1] == 1
    if solver == "euler":
        assert times == pytest.approx(time_grid(10, 1.0).tolist())
    if not churn:
        assert times == sorted(times)
