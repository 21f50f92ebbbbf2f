"""Unified latents: the bound on bits against closed forms, where the flow ends, and what the decoder sees there."""

import math

import pytest
import torch
from helpers.toy_models import make_batch, make_model, make_noise

from unite_mm.contract import Registers
from unite_mm.flow.bound import bound_nats, log_snr, squared_error, weighted_nats
from unite_mm.sampling.drift import Drift
from unite_mm.sampling.solvers import integrate
from unite_mm.training.noise import FlowNoise
from unite_mm.training.recipes.bound import BoundRecipe
from unite_mm_schemas.config import FlowConfig, LatentConfig, SamplingConfig
from unite_mm_schemas.recipe import BoundRecipeConfig
from unite_mm_schemas.regime import UnifiedLatentsRegime


def make_bound(**own: float) -> BoundRecipe:
    model = make_model(
        regime=UnifiedLatentsRegime(), recipe=BoundRecipeConfig(**own), latent=LatentConfig(), flow=FlowConfig(draws=2)
    )
    return BoundRecipe(model.config, model.network)


def posterior_mean(scale: torch.Tensor):
    """The optimal denoiser of Gaussian latents with these standard deviations (C,)."""

    def denoise(modality, state, time, registers, condition=None, dropped=None, normalise=True, states=None):
        t = time[:, None, None]
        return t * scale**2 / (t**2 * scale**2 + (1 - t) ** 2) * state

    return denoise


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("deviation", [0.3, 1.0, 3.0])
def test_bits_of_gaussian_latents_are_the_capacity_of_the_channel(monkeypatch, padded: bool, deviation: float) -> None:
    """z* = t* z + (1 - t*) eps carries 1/2 log2(1 + s^2 SNR) bits of each Gaussian channel: the bound is tight."""
    recipe, size = make_bound(), 65_536
    scale = deviation * torch.tensor([0.5, 1.0, 1.5, 2.0])
    monkeypatch.setattr(recipe.network, "denoise", posterior_mean(scale))
    batch = make_batch(size, padded=padded)
    mask = batch.registers.mask
    clean = scale * torch.randn(*mask.shape, 4, generator=torch.Generator().manual_seed(1)) * mask[..., None]
    draw = recipe.draw_flow("points", make_noise(recipe.network, size), mask.shape[1])
    seen = recipe.denoise("points", batch, clean, draw)
    values = recipe.flow_values(seen)
    found = recipe.flow_records(seen, values, values.mean(), 1)
    each = 0.5 * torch.log2(1 + scale**2 * math.exp(5.0))
    expected = float(each.sum() * mask.sum() / size)
    assert float(found["bits_per_sample"]) == pytest.approx(expected, rel=0.02)
    assert float(found["bits_per_channel"]) == pytest.approx(float(each.mean()), rel=0.02)
    assert float(found["flow"]) == pytest.approx(expected * math.log(2), rel=0.02)


@pytest.mark.parametrize(("stage", "times"), [(1, 2), (2, 4)])  # two draws; the second stage's loss is no bound
def test_the_error_of_a_draw_is_computed_once_where_loss_and_bound_are_one(monkeypatch, stage: int, times: int) -> None:
    recipe, calls = make_bound(second_stage=0.5), []
    recipe.stage = stage

    def counted(*given: torch.Tensor) -> torch.Tensor:
        calls.append(given)
        return squared_error(*given)

    monkeypatch.setattr("unite_mm.training.recipes.bound.squared_error", counted)
    found = recipe.backward("points", make_batch(4), make_noise(recipe.network, 4))
    assert len(calls) == times and float(found["bits_per_sample"]) > 0
    nats = float(found["bits_per_sample"]) * math.log(2)
    assert (float(found["flow"]) == pytest.approx(nats)) == (stage == 1)


def test_a_worse_denoiser_bounds_more_bits() -> None:
    time = torch.linspace(0.01, 0.92, 50)
    assert bool((bound_nats(torch.full((50,), 2.0), time, 0.924) > bound_nats(torch.ones(50), time, 0.924)).all())


def test_the_end_of_the_flow_has_the_log_snr_that_is_asked_for() -> None:
    regime = UnifiedLatentsRegime(log_snr=5.0)
    assert regime.end_time == pytest.approx(0.9241, abs=1e-4)
    assert float(log_snr(torch.tensor(regime.end_time))) == pytest.approx(5.0, abs=1e-4)


def test_the_weighted_bound_is_the_bound_where_the_weight_is_even() -> None:
    """sigmoid(lambda - b) e^b tends to e^lambda, the SNR, for large b: then all timesteps count as in the bound."""
    time, error = torch.linspace(0.05, 0.9, 20), torch.ones(20)
    found = weighted_nats(error, time, 0.924, 15.0) * math.exp(15.0)
    assert torch.allclose(found, bound_nats(error, time, 0.924), rtol=1e-3)


def test_timesteps_are_spread_evenly_up_to_the_end_and_are_those_of_the_joined_batch() -> None:
    recipe = make_bound()
    draw: FlowNoise = recipe.draw_flow("points", make_noise(recipe.network, 1000), 3)
    ordered = draw.time.sort().values
    assert float(ordered[0]) >= 0 and float(ordered[-1]) < recipe.network.end_time
    assert torch.allclose(ordered.diff(), torch.full((999,), recipe.network.end_time / 1000), atol=1e-5)


def test_the_tokenizer_is_deterministic_and_the_decoder_sees_latents_of_the_fixed_noise() -> None:
    recipe = make_bound()
    batch = make_batch(64)
    drawn = [make_noise(recipe.network, 64, step=step).reconstruction(recipe.config, 3) for step in (0, 1)]
    first, second = (recipe.tokenize("points", batch, one) for one in drawn)
    assert torch.equal(first, second)
    view = drawn[0].view
    assert torch.allclose(view.scale, torch.full((64,), recipe.network.end_time))
    assert torch.allclose(view.scale + view.spread, torch.ones(64))
    seen = view.of(first, batch.registers)
    end = recipe.network.end_time
    assert torch.allclose(seen, (end * first + (1 - end) * view.noise) * batch.registers.mask[..., None], atol=1e-6)


@pytest.mark.parametrize("solver", ["euler", "heun2", "dopri5"])
def test_sampling_ends_at_the_noise_that_the_decoder_knows(solver: str) -> None:
    """For Gaussian data the end of the exact flow has the spread of t* z + (1 - t*) eps, no other."""
    end, deviation = UnifiedLatentsRegime().end_time, 0.7
    denoise = posterior_mean(torch.tensor([deviation]))
    registers = Registers(torch.ones(1, 1, dtype=torch.bool), False)

    def denoiser(state: torch.Tensor, time: float, conditional: bool) -> torch.Tensor:
        return denoise("", state, torch.full((len(state),), time), registers)

    config = SamplingConfig(solver=solver, steps=400, joint_steps=True)
    noise = torch.randn(512, 1, 1, generator=torch.Generator().manual_seed(0))
    seen: list[float] = []
    solution = integrate(Drift(denoiser, config), noise, config, on_state=lambda t, _: seen.append(t), end=end)
    spread = math.sqrt((end * deviation) ** 2 + (1 - end) ** 2)
    assert torch.allclose(solution.state, spread * noise, rtol=0.02, atol=1e-3)
    assert seen[-1] == end and max(seen) == end


def test_reconstruction_decodes_what_generation_ends_with() -> None:
    model = make_model(regime=UnifiedLatentsRegime(), recipe=BoundRecipeConfig())
    batch = make_batch(4)
    latents, again = model.tokenize(batch, seed=1), model.tokenize(batch, seed=1)
    other = model.tokenize(batch, seed=2)
    assert torch.equal(latents.values, again.values) and not torch.equal(latents.values, other.values)
    clean = model.network.tokenize("points", batch, torch.zeros(4, 3, 4), torch.zeros(4))
    left = (latents.values - model.network.end_time * clean.detach())[batch.registers.mask] / (
        1 - model.network.end_time
    )
    assert 0.5 < float(left.std()) < 1.5
    assert len(model.generate(3, steps=2)) == 3


def test_the_step_trains_everything_in_nats_and_reports_bits() -> None:
    recipe = make_bound(loss_factor=1.3)
    found = recipe.backward("points", make_batch(8), make_noise(recipe.network, 8))
    assert {"reconstruction", "flow", "bits_per_sample", "bits_per_channel", "distance"} == set(found)
    assert float(found["flow"]) == pytest.approx(math.log(2) * float(found["bits_per_sample"]), rel=1e-4)
    counts = make_batch(8).registers.mask.sum(1)
    assert 1 <= float(found["bits_per_sample"] / found["bits_per_channel"]) / 4 <= float(counts.max())
    reached = {name for name, p in recipe.network.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert any(name.startswith("encoder.") for name in reached)
    assert any(name.startswith("separate_denoiser.") for name in reached)


def test_squared_errors_count_used_registers_alone() -> None:
    registers = Registers(torch.tensor([[True, False], [True, True]]), True)
    error = squared_error(torch.ones(2, 2, 3), torch.zeros(2, 2, 3), registers)
    assert error.tolist() == [3.0, 6.0]
