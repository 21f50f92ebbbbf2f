"""Analyses: measures against values by hand, their invariances, and the whole command on runs of two regimes."""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy_models import make_batch, make_model, make_noise, make_regime, regime_sections
from torch import Tensor

from unite_mm.analysis import (
    Subject,
    block_alignment,
    cknna,
    control,
    gradient_points,
    histogram_entropy,
    latents_over_time,
    linear_cka,
    mean_cosine,
    probe,
)
from unite_mm.analysis.alignment import LATENT_TIMES
from unite_mm.analysis.description_length import FUNCTIONAL, NORMALISATION, description_length
from unite_mm.analysis.dynamics import step_losses, trained_by
from unite_mm.analysis.figures import COLOURS, colour, legend, panels
from unite_mm.analysis.probes import _features
from unite_mm.analysis.subject import blocks_denoising, pooled
from unite_mm.analysis.tables import probes_table
from unite_mm.analysis.trajectories import trajectories
from unite_mm.cli.main import run
from unite_mm.contract import Targets
from unite_mm.errors import UsageError
from unite_mm.training.recipes.bound import BoundRecipe
from unite_mm.training.recipes.flow import FlowRecipe
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm.training.recipes.staged import StagedRecipe
from unite_mm.utils.labels import labels_of
from unite_mm_schemas.additions import DecodedLatentGradient
from unite_mm_schemas.analysis import AnalysisReport, Probe, RunAnalysis
from unite_mm_schemas.config import FlowConfig, LatentConfig
from unite_mm_schemas.recipe import BoundRecipeConfig, DecoderRecipeConfig


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ----------------------------------------------------------------------------------------------------------- similarity


def test_cka_by_hand() -> None:
    # X^T X = Y^T Y = 2 and Y^T X = 1, so 1 / (2 * 2).
    first, second = torch.tensor([[1.0], [-1.0], [0.0], [0.0]]), torch.tensor([[1.0], [0.0], [-1.0], [0.0]])
    assert linear_cka(first, second) == pytest.approx(0.25)


def test_cknna_by_hand() -> None:
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    second = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [-0.6, 0.8]])
    # Nearest in X: 0-1, 1-0, 2-3, 3-2, all with kernel 1. In Y: 0-1, 1-0 (0.41), 2-0 (-0.11), 3-2 (0.05); the mean of
    # Y is (0.5, 0.4). Mutual: 0-1, 1-0, 3-2.
    by_hand = (0.41 + 0.41 + 0.05) / math.sqrt(4 * (2 * 0.41**2 + 0.11**2 + 0.05**2))
    assert by_hand == pytest.approx(0.73445, abs=1e-5)
    assert cknna(first, second, 1) == pytest.approx(by_hand)
    crossed = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert cknna(first, crossed, 1) == 0.0


@pytest.mark.parametrize("measure", [linear_cka, cknna])
def test_a_rotated_and_scaled_copy_is_the_same(measure: object) -> None:
    features = normal(200, 16)
    rotation = torch.linalg.qr(normal(16, 16, seed=1)).Q
    assert callable(measure)
    assert measure(features, 3 * features @ rotation) == pytest.approx(1.0, abs=1e-5)


def test_a_shifted_copy_is_the_same_for_cka() -> None:
    features = normal(200, 16)
    assert linear_cka(features, features + 5) == pytest.approx(1.0, abs=1e-5)


def test_independent_noise_is_not_alike() -> None:
    first, second = normal(3000, 16), normal(3000, 16, seed=1)
    assert 0 < linear_cka(first, second) < 0.02
    assert abs(cknna(first[:1000], second[:1000])) < 0.05
    assert abs(mean_cosine(first, second)) < 0.02
    assert mean_cosine(first, 2 * first) == pytest.approx(1.0)


def test_a_representation_that_never_varies_has_no_alignment() -> None:
    assert math.isnan(linear_cka(normal(10, 3), torch.ones(10, 3)))
    with pytest.raises(ValueError, match="10 neighbours need more than 10 rows"):
        cknna(normal(10, 3), normal(10, 3))


# --------------------------------------------------------------------------------------------------- description length


@pytest.mark.parametrize(
    ("values", "bins", "bits"),
    [
        ([0.0, 0.0, 1.0, 1.0], 2, 1.0),
        ([0.0, 0.0, 0.0, 1.0], 256, 0.811278),  # -(3/4 log2 3/4 + 1/4 log2 1/4)
        ([5.0, 5.0, 5.0], 256, 0.0),
        (list(range(256)), 256, 8.0),
        ([-1.0, 0.1, 0.2, 1.0], 4, 1.5),  # a quarter below, a half above zero, a quarter at the top
    ],
)
def test_entropy_by_hand(values: list[float], bins: int, bits: float) -> None:
    assert histogram_entropy(torch.tensor(values), bins) == pytest.approx(bits, abs=1e-6)


def test_entropy_does_not_see_scale_and_shift() -> None:
    weights = normal(50, 40)
    assert histogram_entropy(4 * weights + 2) == pytest.approx(histogram_entropy(weights), abs=0.05)
    assert 6 < histogram_entropy(weights) < 8


# --------------------------------------------------------------------------------------------------------------- probes


def test_a_probe_reads_a_linear_class_and_finds_chance_in_shuffled_ones() -> None:
    features = normal(1500, 12)
    classes = (features @ normal(12, 5, seed=1)).argmax(1)
    names = tuple("abcde")
    fit, true = Targets("classes", classes[:1000], names), Targets("classes", classes[1000:], names)
    (found,) = probe(features[:1000], fit, features[1000:], true)
    (nothing,) = control(features[:1000], fit, features[1000:], true, seed=0)
    assert found.value is not None and nothing.value is not None
    assert found.value > 0.8 and found.total == 500
    shares = true.values.bincount(minlength=5) / 500
    assert float(shares.min()) - 0.05 < nothing.value < float(shares.max()) + 0.05
    assert nothing.interval is not None and nothing.interval[0] < float(shares.max())


def test_the_control_finds_chance_where_features_are_clumps() -> None:
    classes = torch.arange(2000) % 4
    features = 5 * torch.eye(4)[classes] + 0.01 * normal(2000, 4)
    fit, true = Targets("classes", classes[:1000], tuple("abcd")), Targets("classes", classes[1000:], tuple("abcd"))
    (found,) = probe(features[:1000], fit, features[1000:], true)
    assert found.value == 1.0
    values = [control(features[:1000], fit, features[1000:], true, seed=seed)[0].value or 0.0 for seed in range(8)]
    assert abs(sum(values) / len(values) - 0.25) < 0.08


def test_a_probe_reads_a_linear_number_and_nothing_from_shuffled_ones() -> None:
    features = normal(1500, 12)
    numbers = torch.stack((features @ normal(12, seed=1) + 7, normal(1500, seed=3)), 1).double()
    numbers[::7, 0] = torch.nan  # unknown ones are left out
    fit, true = (
        Targets("numbers", numbers[:1000], ("sum", "noise")),
        Targets("numbers", numbers[1000:], ("sum", "noise")),
    )
    read, noise = probe(features[:1000], fit, features[1000:], true)
    unread, _ = control(features[:1000], fit, features[1000:], true, seed=0)
    assert read.value == pytest.approx(1.0, abs=1e-4) and read.total == int((~numbers[1000:, 0].isnan()).sum())
    for metric in (noise, unread):
        assert metric.value is not None and metric.interval is not None
        assert abs(metric.value) < 0.05 and metric.interval[0] <= metric.value <= metric.interval[1]


def test_features_and_numbers_that_do_not_vary_are_told_and_spoil_nothing() -> None:
    features = normal(300, 4)
    constant = torch.cat((features, torch.full((300, 1), 1e3)), 1)
    constant[250:, 4] = -5.0  # not where probes are fitted: it must not count there
    numbers = torch.stack((features @ normal(4, seed=1), torch.full((300,), 0.1)), 1).double()
    fit, true = (Targets("numbers", part, ("sum", "same")) for part in (numbers[:200], numbers[200:]))
    for measure in (probe, lambda *given: control(*given, seed=0)):
        read, same = measure(constant[:200], fit, constant[200:], true)
        assert read.value == pytest.approx(measure(features[:200], fit, features[200:], true)[0].value)
        assert (same.value, same.interval, same.total) == (None, None, 100)
    told = (Probe(features="latents", found=(same,), control=(same,)),)
    one = RunAnalysis(run="a", label="a", modality="points", step=1, data="", split="test", samples=100, seed=0,
                      shared_weights=True, probes=told)  # fmt: skip
    assert "| same | not measured | not measured |" in probes_table((one,))


def test_the_denoiser_is_not_told_what_is_probed_for(runs: dict[str, Path], tmp_path: Path) -> None:
    """Its condition may hold the very target; what it puts out for a probe is the same under any condition."""
    subject = Subject.open(runs["separate"], cache=tmp_path, samples=40)
    one = subject.encoded[0]
    assert one.batch.condition is not None
    other = replace(one, batch=replace(one.batch, condition=one.batch.condition.flip(0)))
    for conditioned in (False, True):
        pairs = zip(
            *(blocks_denoising(subject, each, 0.5, conditioned=conditioned) for each in (one, other)), strict=True
        )
        assert all(torch.equal(left, right) for left, right in pairs) != conditioned
    found = dict(_features(subject, subject.split, subject.indices, 0.5))
    blocks = blocks_denoising(subject, one, 0.5, conditioned=False)
    assert torch.equal(found["denoising block 2"][: len(blocks[1])], pooled(blocks[1], one.registers.mask))


def test_a_probe_of_too_few_samples_is_refused() -> None:
    unknown = Targets("classes", torch.full((50,), -1), ("a", "b"))
    with pytest.raises(UsageError, match="only 0 samples to fit and 0 to test have a known class"):
        probe(normal(50, 3), unknown, normal(50, 3), unknown)


# ----------------------------------------------------------------------------------------------------------- whole runs

REGIMES = {
    "unite": ["regime.kind=unite"],
    "separate": ["regime.kind=separate"],
    "separate-no-stop": ["regime.kind=separate", "regime.stop_gradient=false"],
}
ENDS_EARLY = {"unified-latents": ["regime.kind=unified-latents", "recipe.kind=bound", "latent.affine=true"]}
"""A regime whose flow ends before t = 1."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unite_mm.cli.train._save_picture", lambda folder, progress: None)
        for name, settings in (REGIMES | ENDS_EARLY).items():
            words = ["train", "--modality", "points", "--max-steps", "6", "--out", str(root / name)]
            small = ["trunk.width=16", "trunk.depth=2", "trunk.heads=2", "train.batch_size=32", "train.log_every=2"]
            small += ["train.checkpoint_every=3", "points.samples=300"]
            for setting in (*small, *settings):
                words += ["--set", setting]
            assert run(words) == 0
    yield {name: root / name for name in REGIMES | ENDS_EARLY}


def subject(folder: Path) -> Subject:
    return Subject.open(folder, cache=folder.parent / "cache", samples=60)


def test_the_command_looks_into_several_runs(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["unite_mm.analysis.analyse"]  # the package has a function of that name
    monkeypatch.setattr(module, "trajectories", partial(trajectories, count=2, frames=3))
    few = ["--samples", "60", "--fit-samples", "200", "--times", "0.5,0.9"]
    assert run(["analyse", *(str(runs[name]) for name in REGIMES), *few, "-o", str(tmp_path / "found")]) == 0
    printed = capsys.readouterr().out
    assert "| separate-no-stop | 0.9 | 2 |" in printed and "Description length" in printed
    report = AnalysisReport.model_validate_json((tmp_path / "found" / "analysis.json").read_text(encoding="utf-8"))
    assert [one.label for one in report.runs] == list(REGIMES)
    for one in report.runs:
        assert [(row.time, row.block) for row in one.alignment] == [(0.5, 1), (0.5, 2), (0.9, 1), (0.9, 2)]
        assert one.latents[-1].noisy_cosine > 0.99 and one.latents[0].noisy_cosine < 0.3
        assert [found.features for found in one.probes] == [
            "inputs",
            "teacher",
            "latents",
            *(f"{use} block {number}" for use in ("tokenizing", "denoising") for number in (1, 2)),
        ]
        assert all(0.05 < (found.control[0].value or 0) < 0.5 for found in one.probes)  # four classes
        assert [point.step for point in one.gradients] == [3, 6]
        assert {curve.name for curve in one.curves} >= {"train/flow", "train/reconstruction"}
    shared, separate, no_stop = report.runs
    assert [one.shared_weights for one in report.runs] == [True, False, False]
    # Gradients meet where both losses reach the same weights, and nowhere else.
    assert all(point.cosine is not None for one in (shared, no_stop) for point in one.gradients)
    assert all(point.cosine is None and point.flow_norm == 0 for point in separate.gradients)
    for name in ("alignment", "latents", "length", "probes", "dynamics", "trajectories-unite"):
        assert (tmp_path / "found" / f"{name}.png").stat().st_size > 1000
        assert (tmp_path / "found" / f"{name}.pdf").is_file()
    # The same of a run alone, without pictures.
    assert run(["analyse", str(runs["separate"]), *few, "--no-pictures", "-o", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "analysis.json").read_text(encoding="utf-8"))
    whole = json.loads(report.model_dump_json())
    assert again == {**whole, "runs": [whole["runs"][1]]}
    assert not list((tmp_path / "again").glob("*.png"))
    assert not list((tmp_path / "again").glob("*.png"))


def test_the_weights_of_separate_networks_both_count(runs: dict[str, Path]) -> None:
    found = {}
    for name in ("unite", "separate"):
        model = subject(runs[name]).model
        found[name] = {row.part: row for row in description_length(model, "points")}
        encoder = sum(row.numbers for row in found[name].values()) - found[name]["decoder"].numbers
        whole = sum(parameter.numel() for parameter in model.network.parameters())
        assert encoder == whole - found[name]["decoder"].numbers
    for part in (NORMALISATION, FUNCTIONAL):
        assert found["separate"][part].numbers == 2 * found["unite"][part].numbers
    start = found["unite"][NORMALISATION].start
    assert start is not None and start < found["unite"][NORMALISATION].end  # modulations start as zeros


def test_only_what_is_asked_for(runs: dict[str, Path], tmp_path: Path) -> None:
    words = ["analyse", str(runs["unite"]), "-o", str(tmp_path / "found"), "--only", "length"]
    assert run(words) == 0
    report = AnalysisReport.model_validate_json((tmp_path / "found" / "analysis.json").read_text(encoding="utf-8"))
    assert report.runs[0].lengths and not report.runs[0].alignment
    assert {path.name for path in (tmp_path / "found").iterdir() if not path.name.startswith(".")} >= {"length.png"}
    assert not (tmp_path / "found" / "alignment.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "length,weight"], "there is no part 'weight'"),
        (["--times", "0.5,2"], "--times 0.5,2: not timesteps from 0 to 1"),
        (["--times", "soon"], "--times soon: not timesteps from 0 to 1"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["analyse", str(tmp_path), "-o", str(tmp_path / "found"), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_film_ends_with_the_sample(runs: dict[str, Path]) -> None:
    film = trajectories(subject(runs["unite"]), count=3, frames=4)
    assert film.times[0] == 0 and film.times[-1] == 1 and list(film.times) == sorted(film.times)
    assert len(film.strips) == 3 and {len(strip) for strip in film.strips} == {len(film.times)}


def test_gradients_are_those_of_the_checkpoints(runs: dict[str, Path]) -> None:
    first, second = gradient_points(subject(runs["unite"]))
    assert first.cosine is not None and second.cosine is not None and first.cosine != second.cosine
    assert all(-1 <= (point.cosine or 0) <= 1 and point.flow_norm > 0 for point in (first, second))


@pytest.mark.parametrize("name", ["unite", "separate-no-stop", "unified-latents"])
def test_the_losses_whose_gradients_meet_are_those_of_a_training_step(name: str) -> None:
    sections: dict[str, Any] = {
        "flow": FlowConfig(draws=1),
        "latent": LatentConfig(affine=True, decoder_noise_probability=0),
    }
    recipe = make_regime(name, **sections)
    assert isinstance(recipe, FlowRecipe)
    batch = make_batch(8)
    records = recipe.backward("points", batch, make_noise(recipe.network, 8))
    reconstruction, flow = step_losses(recipe, "points", batch, make_noise(recipe.network, 8))
    assert reconstruction.item() == pytest.approx(records["reconstruction"].item(), rel=1e-5)
    if name == "unified-latents":  # others draw the decoder's noise in between
        assert flow.item() == pytest.approx(recipe.flow_weight("points") * records["flow"].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("unite", JointRecipe), ("unified-latents", BoundRecipe), ("two-stage", StagedRecipe), ("own", BoundRecipe)],
)
def test_a_fine_tune_is_judged_by_the_recipe_of_its_regime(name: str, kind: type[FlowRecipe]) -> None:
    own = name == "own"
    sections = regime_sections("unified-latents" if own else name) | {"recipe": DecoderRecipeConfig(init="there")}
    if own:
        sections |= {"recipe": BoundRecipeConfig(loss_factor=7), "latent_gradient": DecodedLatentGradient()}
    model = make_model(**sections)
    recipe = trained_by(model)
    assert type(recipe) is kind and not recipe.additions
    assert not isinstance(recipe, BoundRecipe) or recipe.own.loss_factor == (7 if own else 1.5)


def test_gradients_of_a_fine_tune_and_of_unified_latents(runs: dict[str, Path], tmp_path: Path) -> None:
    words = ["train", "--max-steps", "2", "--out", str(tmp_path / "tuned")]
    assert run([*words, "--recipe", "decoder", "--init", str(runs["unified-latents"])]) == 0
    for folder in (runs["unified-latents"], tmp_path / "tuned"):
        point = gradient_points(subject(folder))[-1]
        assert point.cosine is not None and point.flow_norm > 0 and point.reconstruction_norm > 0


def test_timesteps_beyond_the_end_of_the_flow_are_left_out(runs: dict[str, Path]) -> None:
    early, whole = subject(runs["unified-latents"]), subject(runs["separate"])
    assert early.model.network.end_time == pytest.approx(0.9241, abs=1e-4)
    times = (0.5, 0.92, 0.93, 1.0)
    assert {row.time for row in block_alignment(early, times)} == {0.5, 0.92}
    assert [at.time for at in latents_over_time(early, times)] == [0.5, 0.92]
    assert [at.time for at in latents_over_time(early)] == [at for at in LATENT_TIMES if at < 0.924]
    assert [at.time for at in latents_over_time(whole, times)] == list(times)
    for look in (block_alignment, latents_over_time):
        with pytest.raises(UsageError, match=r"the flow of this model ends at t = 0\.9241"):
            look(early, (0.95,))


@pytest.mark.parametrize(
    ("runs", "labels"),
    [
        (["a/one", "b/two"], ["one", "two"]),
        (["a/run", "b/run"], ["a/run", "b/run"]),
        (["a", "a"], ["a (1)", "a (2)"]),
        (["a/run", "a/run/evaluation", "a/run"], ["run (1)", "evaluation", "run (3)"]),
        (
            ["runs/unite/seed-0", "runs/unite/seed-1", "runs/separate/seed-0"],
            ["unite/seed-0", "unite/seed-1", "separate/seed-0"],
        ),
        (["/first/unite/seed-0", "/second/unite/seed-0"], ["first/unite/seed-0", "second/unite/seed-0"]),
        (["/run", "/a/run"], ["/run", "a/run"]),
        (["."], ["here"]),
        ([".", "../there"], ["here", "there"]),
        (["qm9-tiny", "hf:somebody/small"], ["qm9-tiny", "small"]),
    ],
)
def test_labels_tell_runs_apart(
    runs: list[str], labels: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert labels_of([Path(run) for run in runs]) == labels


def test_every_run_has_a_colour_of_its_own_and_a_place_in_the_legend() -> None:
    assert [colour(number) for number in range(len(COLOURS))] == list(COLOURS)
    assert len({colour(number) for number in range(60)}) == 60
    figure, (axes,) = panels(1)
    for number in range(40):
        axes.plot([0, 1], color=colour(number), label=f"variant/seed-{number}")
    legend(axes)
    found = axes.get_legend()
    assert found is not None and len(found.get_texts()) == 40
    figure.set_figwidth(12)
    figure.canvas.draw()
    assert found.get_window_extent().y0 >= 0  # inside the picture
