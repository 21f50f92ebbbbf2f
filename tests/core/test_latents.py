"""Latents in files, variations of given samples and paths between two: what they share with reconstruction."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy_models import make_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.contract import ConditionSpec, Registers
from unite_mm.errors import UsageError
from unite_mm.progress import Silent
from unite_mm.sampling.drift import Drift, NetworkDenoiser
from unite_mm.sampling.interpolation import Route, spherical
from unite_mm.sampling.latent_files import KEY, encoder_sha256, read_latents, write_latents
from unite_mm.sampling.latents import Latents
from unite_mm.sampling.solvers import grid_from, integrate, integrate_back
from unite_mm.sampling.variations import known_conditions
from unite_mm_schemas.config import FlowConfig, SamplingConfig

QUICK = {"solver": "euler", "steps": 4}


def sets_of_points(count: int) -> list[Tensor]:
    """Sets of one to three points, as inputs."""
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(1 + index % 3, 2, generator=generator) for index in range(count)]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def distance(first: list[Tensor], second: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


# ---------------------------------------------------------------------------------------------------- encode and decode


@pytest.mark.parametrize("count", [1, 5, 300])
def test_decoded_latents_are_reconstructions_to_the_last_bit(count: int) -> None:
    model, samples = make_model(), sets_of_points(count)
    latents = model.encode(samples, seed=3)
    assert latents.values.shape == (count, min(count, 3), 4)
    assert equal(model.decode(latents), model.reconstruct(samples, seed=3))


def test_latents_from_a_file_decode_to_the_same_bits(tmp_path: Path) -> None:
    model, samples = make_model(), sets_of_points(300)
    write_latents(model.encode(samples), model.network, tmp_path / "latents.safetensors", seed=0)
    assert equal(
        model.decode(read_latents(model.network, tmp_path / "latents.safetensors")), model.reconstruct(samples)
    )


def test_batch_mates_and_padding_change_latents_by_rounding_alone() -> None:
    model, samples = make_model(), sets_of_points(7)
    whole = model.encode(samples)
    for size in (1, 2, 5):
        assert torch.allclose(model.encode(samples, batch_size=size).values, whole.values, atol=1e-5)
        assert distance(model.decode(whole, batch_size=size), model.decode(whole)) < 1e-5
    assert not whole.values[~whole.registers.mask].any()


def test_samples_that_do_not_fit_are_left_out_on_request() -> None:
    model, samples = make_model(), [torch.zeros(2, 2), torch.zeros(9, 2), torch.ones(1, 2)]
    with pytest.raises(UsageError, match="9 points"):
        model.encode(samples)
    latents = model.encode(samples, skip=True)
    assert len(latents) == 2 and list(latents.skipped) == [1]
    assert equal(model.decode(latents), model.reconstruct(samples, skip=True))


@pytest.mark.parametrize("samples", [[], [torch.zeros(9, 2)]], ids=["none", "none that fits"])
def test_nothing_to_encode_is_refused(samples: list[Tensor]) -> None:
    with pytest.raises(UsageError, match=r"no sample to encode|none of 1 samples fits"):
        make_model().encode(samples, skip=True)


def test_a_part_of_latents_drops_registers_that_it_does_not_use() -> None:
    latents = make_model().encode(sets_of_points(3))
    assert latents.of([0]).values.shape == (1, 1, 4) and not latents.of([0]).registers.padded
    assert latents.of([2, 0]).registers.mask.tolist() == [[True] * 3, [True, False, False]]


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def model() -> UNITE:
    return make_model()


@pytest.fixture
def written(model: UNITE, tmp_path: Path) -> Path:
    path = tmp_path / "latents.safetensors"
    write_latents(model.encode(sets_of_points(6)), model.network, path, seed=0)
    return path


def test_the_identity_is_that_of_what_makes_latents(model: UNITE) -> None:
    own = encoder_sha256(model.network, "points")
    other = make_model()
    assert encoder_sha256(other.network, "points") == own
    for parameter in other.modules_of("points").decoder.parameters():
        parameter.data += 1
    assert encoder_sha256(other.network, "points") == own
    for part in (other.modules_of("points").tokenizer, other.network.encoder):
        parameter = next(part.parameters())
        parameter.data += 1
        assert encoder_sha256(other.network, "points") != own
        parameter.data -= 1


def test_latents_of_another_model_are_refused(written: Path) -> None:
    other = make_model(points={"channels": 5})
    with pytest.raises(UsageError, match=r"latents\.safetensors: latents of another model"):
        read_latents(other.network, written)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def bare(path: Path) -> None:
    save_file(load_file(path), path)


def other_header(path: Path) -> None:
    save_file(load_file(path), path, metadata={KEY: '{"modality": "points", "registers": 0}'})


def no_json(path: Path) -> None:
    save_file(load_file(path), path, metadata={KEY: "points\nand more"})


def remove(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (cut, "cannot be read"),
        (flip, "its checksum differs"),
        (empty, "cannot be read"),
        (bare, "holds no latents"),
        (other_header, "cannot be read"),
        (no_json, "cannot be read"),
        (remove, "does not exist"),
        (folder, "is a folder"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(model: UNITE, written: Path, damage: Any, text: str) -> None:
    damage(written)
    with pytest.raises(UsageError, match=text) as caught:
        read_latents(model.network, written)
    assert "\n" not in caught.value.message and str(written) in caught.value.message


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda values, mask: (values[:, :, :3], mask), "values of shape"),
        (lambda values, mask: (values, mask[:, :2]), "a mask of"),
        (lambda values, mask: (values.double(), mask), "float64"),
        (lambda values, mask: (values + float("nan"), mask), "not finite"),
        (lambda values, mask: (values, mask & False), "none"),
        (lambda values, mask: (values + 1, mask), "not used"),
    ],
)
def test_a_whole_file_of_what_does_not_fit_is_refused(
    model: UNITE, written: Path, change: Any, text: str, tmp_path: Path
) -> None:
    latents = read_latents(model.network, written)
    values, mask = change(latents.values, latents.registers.mask)
    write_latents(Latents(values, Registers(mask, True), "points"), model.network, tmp_path / "x.safetensors", seed=0)
    with pytest.raises(UsageError, match=text):
        read_latents(model.network, tmp_path / "x.safetensors")


# ----------------------------------------------------------------------------------------------------------- variations


def test_variations_at_time_1_are_reconstructions() -> None:
    model, samples = make_model(), sets_of_points(5)
    found = model.variations(samples, 1.0, 2, **QUICK)
    assert found.evaluations == 0
    assert distance(found, [one for one in model.reconstruct(samples) for _ in range(2)]) < 1e-5


@pytest.mark.parametrize("solver", ["euler", "heun2", "dopri5"])
def test_variations_at_time_0_are_samples_of_the_same_noise(solver: str) -> None:
    model, samples = make_model(points={"classes": False}), sets_of_points(5)
    settings: dict[str, Any] = {"solver": solver, "steps": 4, "temperature": 1.3, "rtol": 0.3, "atol": 0.3}
    found = model.variations(samples, 0.0, 2, seed=4, **settings)
    sizes = [len(one) for one in samples for _ in range(2)]
    generated = model.generate(10, seed=4, size=sizes, **settings)
    assert equal(found, generated) and found.evaluations == generated.evaluations


def test_variations_at_time_0_with_churn_are_samples_too() -> None:
    model, samples = make_model(points={"classes": False}), sets_of_points(3)
    settings: dict[str, Any] = {**QUICK, "churn": 2.0}
    sizes = [len(one) for one in samples]
    assert equal(model.variations(samples, 0, **settings), model.generate(3, size=sizes, **settings))


def test_a_later_start_keeps_more_and_takes_fewer_steps() -> None:
    model, samples = make_model(), [torch.ones(2, 2)]
    found = [model.variations(samples, time, 8, solver="euler", steps=20) for time in (0.1, 0.95)]
    assert found[0].evaluations > found[1].evaluations > 0
    spread = [float(torch.stack(list(one)).std(0).mean()) for one in found]
    assert spread[1] < 0.7 * spread[0]


def test_a_variation_does_not_depend_on_the_others() -> None:
    model, samples = make_model(), sets_of_points(6)
    whole = model.variations(samples, 0.4, 2, **QUICK)
    assert distance(model.variations(samples[:2], 0.4, 2, **QUICK), whole[:4]) < 1e-5
    assert distance(model.variations(samples, 0.4, 2, batch_size=1, **QUICK), whole) < 1e-5


def test_a_condition_of_the_caller_counts() -> None:
    model, samples = make_model(), sets_of_points(4)
    free, asked = (model.variations(samples, 0.2, condition=one, **QUICK) for one in (None, 2))
    assert free.conditions is None and asked.conditions is not None and asked.conditions.tolist() == [2] * 4
    assert distance(free, asked) > 1e-4


@pytest.mark.parametrize("time", [-0.1, 1.5, float("nan"), "half"])
def test_no_timestep_is_refused(time: Any) -> None:
    with pytest.raises(UsageError, match="no timestep from 0 to 1"):
        make_model().variations(sets_of_points(1), time)


def test_a_model_that_was_always_told_a_condition_asks_for_one() -> None:
    model = make_model()
    flow = model.config.flow.model_copy(update={"condition_drop": 0.0})
    model.config = model.config.model_copy(update={"flow": flow})
    with pytest.raises(UsageError, match="sample 1: its condition is not known"):
        model.variations(sets_of_points(2), 0.5, **QUICK)
    assert len(model.variations(sets_of_points(2), 0.5, condition=1, **QUICK)) == 2


NAN = float("nan")


@pytest.mark.parametrize(
    ("spec", "known", "expected"),
    [
        (ConditionSpec("classes", 4), torch.tensor([3, -1]), [3, None]),
        (ConditionSpec("numbers", 2), torch.tensor([[1.0, NAN], [1.0, 2.0]]), [None, [1.0, 2.0]]),
        (
            ConditionSpec("numbers", 2, left_open="dropped"),
            torch.tensor([[1.0, NAN], [NAN, NAN]]),
            [[1.0, NAN], None],
        ),
        (ConditionSpec(), None, [None, None]),
    ],
)
def test_what_is_known_of_samples_is_their_condition(spec: ConditionSpec, known: Any, expected: list[Any]) -> None:
    latents = Latents(torch.zeros(2, 1, 1), Registers(torch.ones(2, 1).bool(), False), "points", known=known)
    found = [None if one is None else one.tolist() for one in known_conditions(spec, latents)]
    assert str(found) == str(expected)


# -------------------------------------------------------------------------------------------------------- interpolation


@pytest.mark.parametrize("path", ["latent", "flow"])
@pytest.mark.parametrize("size", [1, 3])
def test_the_ends_of_a_path_are_reconstructions(path: Any, size: int) -> None:
    model, ends = make_model(), [torch.zeros(size, 2), torch.ones(size, 2)]
    found = model.interpolate(*ends, 5, path, **QUICK)
    assert len(found) == 5
    assert distance([found[0], found[-1]], model.reconstruct(ends)) < 1e-5
    assert distance(found[:-1], found[1:]) > 1e-4


def test_a_path_may_be_cut_into_batches() -> None:
    model = make_model()
    whole, cut = (
        model.interpolate(torch.zeros(2, 2), torch.ones(2, 2), 7, "flow", batch_size=b, **QUICK) for b in (256, 3)
    )
    assert distance(whole, cut) < 1e-4


def test_great_circles_keep_lengths_and_have_exact_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.nn.functional.layer_norm(torch.randn(2, 4, 8, generator=generator), (8,))
    second[3] = first[3]
    weights = torch.linspace(0, 1, 7)
    path = spherical(first, second, weights)
    assert torch.equal(path[0], first) and torch.equal(path[-1], second)
    assert torch.allclose(path.norm(dim=-1), first.norm(dim=-1).expand(7, 4), atol=1e-3)
    steps = torch.nn.functional.cosine_similarity(path[1:], path[:-1], dim=-1)
    assert torch.allclose(steps, steps[:1].expand(6, 4), atol=1e-3)


def test_opposite_and_empty_vectors_have_finite_paths() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    path = spherical(first, -first, torch.linspace(0, 1, 3))
    assert path.isfinite().all() and torch.equal(path[-1], -first)


def test_the_flow_backwards_leads_to_noise_from_which_it_returns() -> None:
    spread = 0.3
    # The optimal denoiser of data N(0, spread^2): the flow is linear, and known.
    denoiser = lambda state, time, _: state * time * spread**2 / ((time * spread) ** 2 + (1 - time) ** 2)  # noqa: E731
    settings = SamplingConfig(solver="rk4", steps=100, shift=1.0, min_remaining=0.001)
    drift = Drift(denoiser, settings)
    data = spread * torch.randn(64, 3, 4, generator=torch.Generator().manual_seed(2))
    noise = integrate_back(drift, data, settings).state
    assert torch.allclose(noise, data / spread, atol=0.02)
    assert torch.allclose(integrate(drift, noise, settings).state, data, atol=0.01)


def test_what_follows_a_start_is_the_rest_of_the_grid() -> None:
    settings = SamplingConfig(steps=4, shift=1.0)
    assert grid_from(0.0, settings).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert grid_from(0.5, settings).tolist() == [0.5, 0.75, 1.0]
    assert grid_from(1.0, settings).tolist() == [1.0]


@pytest.mark.parametrize(
    ("second", "n", "path", "text"),
    [
        (torch.ones(3, 2), 5, "latent", "the first sample uses 2 and the second 3"),
        (torch.ones(2, 2), 1, "latent", "at least its two ends"),
        (torch.ones(2, 2), 5, "straight", "path='straight' is unknown"),
    ],
)
def test_paths_that_there_are_not_are_refused(second: Tensor, n: int, path: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make_model().interpolate(torch.zeros(2, 2), second, n, path)


def test_the_flow_is_followed_under_a_condition() -> None:
    model, ends = make_model(), (torch.zeros(2, 2), torch.ones(2, 2))
    free, asked = (model.interpolate(*ends, 3, "flow", condition=one, **QUICK) for one in (None, 1))
    assert asked.conditions is not None and asked.conditions.tolist() == [1] * 3 and free.conditions is None
    assert distance([free[1]], [asked[1]]) > 1e-5


def test_a_path_needs_a_condition_only_where_it_follows_a_flow_that_was_always_told_one() -> None:
    model, ends = make_model(flow=FlowConfig(condition_drop=0.0)), (torch.zeros(2, 2), torch.ones(2, 2))
    assert len(model.interpolate(*ends, 3, "latent")) == 3
    with pytest.raises(UsageError, match="both samples share no known condition"):
        model.interpolate(*ends, 3, "flow", **QUICK)
    with pytest.raises(UsageError, match="does not fit"):
        model.interpolate(*ends, 3, "flow", condition=[1, 2], **QUICK)
    assert model.interpolate(*ends, 3, "flow", condition=1, **QUICK).conditions is not None


def test_a_sample_of_a_path_does_not_depend_on_the_others_with_step_control() -> None:
    model, ends = make_model(), (torch.zeros(2, 2), torch.ones(2, 2))
    few, many = (model.interpolate(*ends, n, "flow", solver="dopri5") for n in (3, 5))
    assert torch.equal(few[1], many[2])


def test_variations_take_a_condition_for_each_given_sample() -> None:
    model, points = make_model(), [torch.zeros(2, 2), torch.ones(2, 2)]
    found = model.variations(points, 0.3, 3, condition=[1, 2], sampling=QUICK)
    assert found.conditions is not None and found.conditions.tolist() == [1, 1, 1, 2, 2, 2]


def test_a_route_uses_what_the_solver_says() -> None:
    model = make_model()
    latents = model.encode([torch.zeros(2, 2), torch.ones(2, 2)])
    settings = model.config.sampling.model_copy(update=QUICK)
    denoiser = NetworkDenoiser(model.network, "points", latents.registers, None, settings)
    with torch.no_grad():
        noise = integrate_back(Drift(denoiser, settings), latents.values, settings).state
        route = Route(model.network, latents, None, settings)
        middle = integrate(
            Drift(denoiser, settings), spherical(noise[0], noise[1], torch.tensor([0.5])).expand(2, -1, -1), settings
        )
        found, _ = route.along(torch.linspace(0, 1, 3), Silent())
    assert torch.allclose(found.values[1], middle.state[0], atol=1e-5)
