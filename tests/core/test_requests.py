"""What a caller asks of generation: a size, options of the plugin's own, class and numbers together or some of them."""

import math
import warnings
from typing import Any

import pytest
import torch
from helpers.toy_models import make_batch, make_model, make_recipe
from unite_mm_toy.config import PointsSampling

from unite_mm.cli.sample import parse_condition
from unite_mm.contract import ConditionSpec
from unite_mm.errors import UniteError, UniteWarning, UsageError
from unite_mm.model.condition import ConditionEmbedding
from unite_mm.sampling.generate import check_conditions, check_sizes, warn_beyond
from unite_mm.sampling.labels import spread_labels
from unite_mm.training.noise import Shard, StepNoise
from unite_mm_schemas.config import FlowConfig

OPEN = math.nan
NAMES = ("gap", "alpha")
MIXED = ConditionSpec("mixed", 2, NAMES, classes=("cat", "dog"), left_open="dropped")
WHOLE = ConditionSpec("mixed", 2, NAMES, classes=("cat", "dog"))
DRAWN = ConditionSpec("numbers", 2, NAMES, left_open="drawn")


def same(found: Any, expected: Any) -> bool:
    return torch.equal(torch.tensor(found).nan_to_num(-9), torch.tensor(expected).nan_to_num(-9))


@pytest.mark.parametrize(
    ("spec", "condition", "expected"),
    [
        (MIXED, {"class": "dog", "gap": 0.25, "alpha": 80}, [1.0, 0.25, 80.0]),
        (MIXED, {"gap": 0.25}, [OPEN, 0.25, OPEN]),
        (MIXED, {"class": 0, "alpha": None}, [0.0, OPEN, OPEN]),
        (MIXED, "dog", [1.0, OPEN, OPEN]),
        (MIXED, {}, [OPEN, OPEN, OPEN]),
        (MIXED, [1, 2, 3], [1.0, 2.0, 3.0]),
        (WHOLE, {"class": "cat", "gap": 1, "alpha": 2}, [0.0, 1.0, 2.0]),
        (DRAWN, {"alpha": 3}, [OPEN, 3.0]),
        (DRAWN, [OPEN, 3.0], [OPEN, 3.0]),
    ],
)
def test_parts_are_asked_for_together_or_alone(spec: ConditionSpec, condition: Any, expected: list[float]) -> None:
    for own in check_conditions(spec, condition, 2):
        assert own is not None and same(own.tolist(), expected)


def test_each_sample_may_ask_for_other_parts() -> None:
    found = check_conditions(MIXED, {"class": ["cat", None], "gap": 2}, 2)
    assert same([own.tolist() for own in found if own is not None], [[0.0, 2.0, OPEN], [OPEN, 2.0, OPEN]])
    found = check_conditions(MIXED, ["dog", {"alpha": 1}], 2)
    assert same([own.tolist() for own in found if own is not None], [[1.0, OPEN, OPEN], [OPEN, OPEN, 1.0]])


@pytest.mark.parametrize(
    ("spec", "condition", "message"),
    [
        (MIXED, {"class": "dig"}, "did you mean 'dog'"),
        (MIXED, {"gab": 1}, "any of these by name: class, gap, alpha"),
        (MIXED, {"class": 2}, "no class"),
        (MIXED, {"class": 0.5}, "no class"),
        (MIXED, {"gap": math.inf}, "finite"),
        (WHOLE, {"class": "dog"}, "by name: class, gap, alpha"),
        (WHOLE, [0, 1, OPEN], "finite"),
        (ConditionSpec("numbers", 2, NAMES), {"gap": 1}, "by name: gap, alpha"),
        (ConditionSpec("numbers", 2, NAMES), [1, OPEN], "finite"),
    ],
)
def test_parts_that_do_not_fit_are_refused(spec: ConditionSpec, condition: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_conditions(spec, condition, 1)
    assert message in str(caught.value)


SUPPORTED = ConditionSpec(
    "mixed", 2, NAMES, classes=("cat", "dog"), left_open="dropped", units=("hartree", ""), ranges=((0.1, 0.4), (5, 9))
)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"gap": 6.8}, ["gap=6.8 lies outside what the training data support, 0.1 to 0.4 hartree; is it in hartree?"]),
        ({"gap": [0.2, 0.05]}, ["gap=0.05 (1 of 2 samples) lies outside"]),
        ({"alpha": 1, "gap": 1}, ["gap=1 lies outside", "alpha=1 lies outside what the training data support, 5 to 9"]),
        ({"gap": 0.4, "alpha": 5}, []),
        ({"class": "dog"}, []),
        (None, []),
    ],
)
def test_values_that_the_data_do_not_support_warn(condition: Any, expected: list[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_beyond(SUPPORTED, check_conditions(SUPPORTED, condition, 2))
    assert len(caught) == len(expected) and all(one.category is UniteWarning for one in caught)
    assert all(text in str(one.message) for text, one in zip(expected, caught, strict=True))


def test_hints_name_units() -> None:
    with pytest.raises(UsageError) as caught:
        check_conditions(SUPPORTED, {"gab": 1}, 1)
    assert "by name: class, gap (hartree), alpha" in str(caught.value)
    with pytest.raises(UsageError) as caught:
        parse_condition("gap=0.2eV", SUPPORTED)
    assert "class=CLASS,gap=NUMBER,alpha=NUMBER (gap in hartree)" in str(caught.value)


@pytest.mark.parametrize("spec", [MIXED, ConditionSpec("numbers", 2, NAMES, left_open="dropped")])
def test_the_embedding_tells_open_parts_apart_and_all_open_is_null(spec: ConditionSpec) -> None:
    torch.manual_seed(0)
    module = ConditionEmbedding(spec, 16)
    torch.nn.init.normal_(module.null)
    whole = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 2.0]])[:, -spec.parts :]
    rows = [whole]
    for part in range(spec.parts):
        rows.append(whole.clone())
        rows[-1][:, part] = OPEN
    found = module(torch.cat(rows), None, 2 * len(rows))
    assert bool(found.isfinite().all())
    assert torch.cdist(found, found).add(torch.eye(len(found))).min() > 1e-3
    nothing = module(torch.full((2, spec.parts), OPEN), None, 2)
    assert torch.equal(nothing, module(None, None, 2))
    dropped = module(whole, torch.tensor([True, False]), 2)
    assert torch.equal(dropped[0], nothing[0]) and torch.allclose(dropped[1], found[1], atol=1e-6)
    found.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


def test_any_number_of_parts_is_left_open_equally_often() -> None:
    layout = make_model().modules_of("points").layout
    noise = StepNoise(torch.Generator().manual_seed(0), 20_000, layout, Shard())
    counts = noise.left_open(4).sum(1).bincount(minlength=5) / 20_000
    assert torch.allclose(counts, torch.full((5,), 0.2), atol=0.02)


def test_numbers_drawn_for_other_conditions_stay_as_they_are() -> None:
    layout = make_model().modules_of("points").layout
    plain, parted = (StepNoise(torch.Generator().manual_seed(0), 8, layout, Shard()) for _ in range(2))
    first, second = plain.flow(FlowConfig(), 3), parted.flow(FlowConfig(), 3, parts=2)
    assert torch.equal(first.time, second.time) and torch.equal(first.noise, second.noise)
    assert torch.equal(first.dropped, second.dropped) and first.left_open is None and second.left_open is not None


@pytest.mark.parametrize("draws", [1, 3])
def test_training_leaves_parts_open(draws: int) -> None:
    recipe = make_recipe(points={"heights": True}, flow=FlowConfig(draws=draws, chunk=draws, condition_drop=0.0))
    batch = make_batch(16)
    heights = torch.full((16,), 0.3)
    batch = type(batch)(batch.points, batch.registers, torch.stack((batch.condition.float(), heights), 1))  # type: ignore[union-attr]
    seen: list[torch.Tensor] = []
    embedding = recipe.network.encoder.heads["points"].condition
    embedding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layout = recipe.network.modules_of("points").layout
    losses = recipe.backward("points", batch, StepNoise(torch.Generator().manual_seed(1), 16, layout, Shard()))
    assert all(bool(value.isfinite().all()) for value in losses.values())
    (condition,) = [one for one in seen if one is not None]
    assert len(condition) == 16 * draws and 0 < condition.isnan().float().mean() < 1


def test_generation_under_some_parts_keeps_them() -> None:
    model = make_model(points={"heights": True})
    found = model.generate(4, condition={"height": 0.5}, steps=2, guidance=2)
    assert found.conditions is not None and same(found.conditions.tolist(), [[OPEN, 0.5]] * 4)
    other = model.generate(4, condition={"class": "left"}, steps=2, guidance=2)
    assert not any(torch.equal(one, two) for one, two in zip(found, other, strict=True))
    labels = spread_labels("balanced", 4, model.modules_of("points").condition)
    assert same(labels.tolist(), [[0.0, OPEN], [1.0, OPEN], [2.0, OPEN], [3.0, OPEN]])
    with pytest.raises(UsageError, match="needs more than a class"):
        spread_labels("balanced", 4, WHOLE)


@pytest.mark.parametrize(("size", "expected"), [(1, [1, 1, 1]), (3, [3, 3, 3]), ([1, 3, 2], [1, 3, 2])])
def test_samples_have_the_size_that_is_asked_for(size: Any, expected: list[int]) -> None:
    found = make_model().generate(3, size=size, steps=1)
    assert [len(sample) for sample in found] == expected


@pytest.mark.parametrize(
    ("sizes", "size", "message"),
    [
        (None, 3, "takes no size"),
        ((16, 16), 3, "all samples of this modality have 16 registers"),
        ((1, 9), 10, "not 1 to 9"),
        ((1, 9), 0, "not 1 to 9"),
        ((1, 9), [1, 2], "2 sizes for 3 samples"),
        ((1, 9), [1, 2, 2.5], "size 2.5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: Any, size: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_sizes(sizes, size, 3)


def test_a_prior_that_does_not_heed_the_request_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(points={"heights": True})
    modules = model.modules_of("points")
    monkeypatch.setattr(modules, "prior_for", lambda generator, request: modules.prior(generator, request.condition))
    with pytest.raises(UniteError, match="registers where 3 are asked for"):
        model.generate(20, size=3, steps=1)
    modules.condition = ConditionSpec("mixed", 1, ("height",), classes=("a",) * 4, left_open="drawn")
    with pytest.raises(UniteError, match="leaves a part of the condition open"):
        model.generate(1, condition={"height": 1}, steps=1)


def test_options_of_the_plugin_reach_prior_and_samples() -> None:
    model = make_model()
    plain = model.generate(6, steps=2)
    scaled = model.generate(6, steps=2, options={"scale": 3})
    assert all(torch.equal(3 * one, other) for one, other in zip(plain, scaled, strict=True))
    assert all(len(sample) == 3 for sample in model.generate(6, steps=1, options=PointsSampling(fewest=3)))
    of_the_run = make_model(points={"sampling": {"scale": 3}})
    again = of_the_run.generate(6, steps=2)
    assert all(torch.equal(one, other) for one, other in zip(scaled, again, strict=True))
    back = of_the_run.generate(6, steps=2, options={"scale": 1})
    assert all(torch.equal(one, other) for one, other in zip(plain, back, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 2}, "points.sampling.scales: unknown key; did you mean 'scale'"),
        ({"scale": -1}, "points.sampling.scale"),
        (5, "int holds none"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_model().generate(1, options=options)


def test_a_modality_without_options_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setattr(type(model.modalities["points"]), "sampling_options", lambda _: None)
    assert len(model.generate(1, steps=1)) == 1
    with pytest.raises(UsageError, match="'points' has no options of its own"):
        model.generate(1, options={"scale": 2})


@pytest.mark.parametrize("given", [{"seed": -1}, {"first": -3}, {"seed": 0.5}, {"seed": "one"}, {"seed": None}])
def test_seeds_are_whole_numbers_from_zero(given: dict[str, Any]) -> None:
    (name,) = given
    model = make_model()
    with pytest.raises(UsageError, match=name):
        model.generate(1, steps=1, **given)
    with pytest.raises(UsageError, match=name):
        model.tokenize([torch.zeros(2, 2)], **given)


def test_reconstruction_takes_no_negative_seed_either() -> None:
    with pytest.raises(UsageError, match="seed=-1"):
        make_model().reconstruct([torch.zeros(2, 2)], seed=-1)


def test_what_does_not_fit_is_skipped_on_request_alone() -> None:
    model = make_model()
    fits = [torch.full((n, 2), 0.1 * n) for n in (1, 2, 3)]
    samples = [torch.zeros(5, 2), *fits[:2], torch.zeros(4, 2), fits[2]]
    with pytest.raises(UsageError, match="a sample has 5 points"):
        model.reconstruct(samples)
    found = model.reconstruct(samples, skip=True, batch_size=2)
    assert list(found.skipped) == [0, 3] and found.skipped[3] == "a sample has 4 points"
    alone = model.reconstruct(fits, batch_size=2)
    assert alone.skipped == {} and all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))
    with pytest.raises(UsageError, match="none of 2 samples fits the model; the first: a sample has 5 points"):
        model.reconstruct([samples[0], samples[3]], skip=True)
    assert model.reconstruct([], skip=True) == []
