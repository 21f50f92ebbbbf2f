"""Runs of several stages: what is frozen stays, they resume exactly anywhere, the folder is like any other."""

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.toy_models import make_regime
from unite_mm_toy.config import PointsConfig
from unite_mm_toy.points import RingData

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.config import REGIMES
from unite_mm.contract import DataRequest
from unite_mm.errors import UniteWarning
from unite_mm.model.latents import Standardisation
from unite_mm.progress import Silent
from unite_mm.storage.checkpoint import read_record, read_tensors
from unite_mm.storage.runs import checkpoint_folder, checkpoints_of
from unite_mm.training.noise import Shard
from unite_mm.training.passes import TrainingPass
from unite_mm.training.state import TrainState
from unite_mm_schemas.checkpoint import StageRecord
from unite_mm_schemas.config import OptimConfig, TrainConfig
from unite_mm_schemas.recipe import BoundRecipeConfig

STEPS = 10
DECAY = OptimConfig(schedule="linear", decay_start=0.0)
SECOND_STAGE = {"recipe": BoundRecipeConfig(second_stage=0.5)}
WORDS = ["train", "--modality", "points", "--set", "points.samples=200"]
SHORT = ["trunk.width=16", "trunk.depth=1", "flow.draws=1", "train.batch_size=32", "train.checkpoint_every=1"]
SHORT += ["train.keep_checkpoints=100", "train.log_every=1", "train.validate_every=5", "sampling.steps=2"]

STAGED = {"two-stage": (), "unified-latents": ("recipe.second_stage=0.5",), "frozen-features": ()}
"""Regimes of two stages, half and half, and what else must be set."""


def train(folder: Path, *words: str, settings: tuple[str, ...] = ()) -> int:
    assignments = [word for setting in (*SHORT, *settings) for word in ("--set", setting)]
    return run([*WORDS, *assignments, "--max-steps", str(STEPS), "--out", str(folder), *words])


@pytest.fixture(scope="module", params=STAGED)
def staged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("staged") / request.param
    assert train(folder, "--regime", request.param, settings=STAGED[request.param]) == 0
    return folder


def tensors(folder: Path, step: int) -> dict[str, torch.Tensor]:
    where = checkpoint_folder(folder, step)
    return {
        f"{stem}/{name}": value
        for stem in ("weights", "ema", "optimizer")
        for name, value in read_tensors(where, stem).items()
    }


def records(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def test_the_second_stage_trains_the_denoiser_on_the_averaged_first(staged: Path) -> None:
    half = STEPS // 2
    before, first, last = (tensors(staged, step) for step in (half, half + 1, STEPS))
    stages = [read_record(checkpoint_folder(staged, step)).stage for step in (half, half + 1, STEPS)]
    assert [stage.number for stage in stages] == [1, 2, 2] and stages[-1].step == half
    denoiser = "encoder." if staged.name == "frozen-features" else "separate_denoiser."
    for name, value in last.items():
        stem, _, name = name.partition("/")
        if stem == "weights" and not name.startswith((denoiser, "spaces.")):
            assert torch.equal(value, first[f"weights/{name}"]), name
            assert torch.equal(value, before.get(f"ema/{name}", value)), name
        elif stem != "weights":
            assert name.startswith(denoiser), name
    moved = [name for name in last if name.startswith(f"weights/{denoiser}")]
    assert any(not torch.equal(last[name], first[name]) for name in moved)


@pytest.mark.parametrize("stopped", [3, 5, 6, 8], ids=["first", "boundary", "just after it", "second"])
def test_a_stopped_run_resumes_exactly_in_either_stage_and_across_the_boundary(
    staged: Path, tmp_path: Path, stopped: int
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(staged, folder)
    for path in checkpoints_of(folder):
        if path.name > checkpoint_folder(folder, stopped).name:
            shutil.rmtree(path)
    assert run(["train", "--resume", "--out", str(folder)]) == 0
    expected, found = tensors(staged, STEPS), tensors(folder, STEPS)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert records(folder) == records(staged)
    assert read_record(checkpoint_folder(folder, STEPS)).stage.step == STEPS // 2


def test_rates_begin_anew_and_losses_are_those_of_the_stage(staged: Path) -> None:
    found = [record for record in records(staged) if record["kind"] == "train"]
    rates = [record["learning_rate"] for record in found]
    assert rates[: STEPS // 2] == pytest.approx(rates[STEPS // 2 :])
    assert all("reconstruction" in record for record in found[: STEPS // 2])
    assert all("reconstruction" not in record and "flow" in record for record in found[STEPS // 2 :])
    validated = [record for record in records(staged) if record["kind"] == "validation"][-1]
    assert {"reconstruction", "flow"} <= validated.keys()


@pytest.mark.parametrize("name", REGIMES)
def test_the_result_of_every_regime_is_a_folder_like_any_other(name: str, tmp_path: Path) -> None:
    """It loads, samples, reconstructs, is exported, and the export does the same."""
    folder, export = tmp_path / "run", tmp_path / "export"
    assert train(folder, "--regime", name, settings=("train.checkpoint_every=10",)) == 0
    assert run(["export", str(folder), "-o", str(export)]) == 0
    points = [torch.randn(count, 2, generator=torch.Generator().manual_seed(count)) for count in (1, 3)]
    made = []
    for model in (UNITE.from_pretrained(folder), UNITE.from_pretrained(export)):
        assert model.config.regime.kind == model.network.regime.kind
        made.append([*model.generate(3, seed=1), *model.reconstruct(points)])
    assert all(torch.equal(left, right) and bool(left.isfinite().all()) for left, right in zip(*made, strict=True))
    again = model.reconstruct(points)
    for found in (model.decode(model.encode(points)), model.variations(points, 1.0, steps=2)):
        assert all(torch.allclose(left, right, atol=1e-4) for left, right in zip(found, again, strict=True))
    ends = [points[1], -points[1]]
    path, known = model.interpolate(*ends, 3, "flow", steps=2), model.reconstruct(ends)
    assert torch.allclose(path[0], known[0], atol=1e-4) and torch.allclose(path[-1], known[-1], atol=1e-4)
    varied = [*model.variations(points, 0.5, steps=2), path[1]]
    assert all(bool(value.isfinite().all()) for value in varied)
    assert run(["sample", str(export), "-n", "2", "-o", str(tmp_path / "samples.csv")]) == 0
    assert run(["evaluate", str(folder), "--samples", "8", "--reconstructions", "8", "--no-pictures"]) == 0


def test_a_model_whose_denoiser_is_not_trained_yet_says_so(staged: Path) -> None:
    early, late = (UNITE.from_pretrained(checkpoint_folder(staged, step)) for step in (3, STEPS))
    if early.config.recipe.kind == "staged":
        with pytest.warns(UniteWarning, match="in the first of two stages: its denoiser is not trained yet"):
            early.generate(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        late.generate(1)


def test_a_dry_run_tells_the_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "run", "--regime", "two-stage", "--set", "recipe.first_stage=0.3", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "30%: tokenizer and decoder" in shown and "70%: denoiser, on frozen latents" in shown


class SomeRanks(SimpleNamespace):
    """A rank of several, whose sums are kept for the test to add up."""

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        self.kept.append(values)
        return values


def test_latents_are_standardised_over_the_used_registers_of_the_training_split_by_all_ranks_together() -> None:
    recipe = make_regime("two-stage", stage=2)
    data = RingData(PointsConfig(samples=500), "points", DataRequest("ring", Path()))
    sums = {}
    for ranks in (1, 2):
        sums[ranks] = torch.zeros(())
        for rank in range(ranks):
            own = SomeRanks(shard=Shard(rank, ranks), kept=[])
            recipe.begin_stage(
                TrainingPass({"points": data}, recipe.network, TrainConfig(batch_size=64), own, Silent())
            )
            sums[ranks] = sums[ranks] + own.kept[0]
    assert torch.allclose(sums[1], sums[2])
    counts = data.lengths("train")
    assert float(sums[1][-1]) == float(counts.sum())
    recipe.begin_stage(
        TrainingPass({"points": data}, recipe.network, TrainConfig(), SomeRanks(shard=Shard(), kept=[]), Silent())
    )
    assert recipe.network.spaces is not None
    space = recipe.network.spaces["points"]
    assert isinstance(space, Standardisation)
    batch = data.batch("train", torch.arange(500))
    latents = recipe.network.tokenize("points", batch, torch.randn(500, 3, 4), torch.zeros(500)).detach()
    values = recipe.network.to_flow("points", latents, batch.registers)
    used = values[batch.registers.mask]
    assert torch.allclose(used.mean(0), torch.zeros(4), atol=0.15) and torch.allclose(
        used.std(0), torch.ones(4), atol=0.2
    )
    assert torch.allclose(recipe.network.from_flow("points", values, batch.registers), latents, atol=1e-5)
    assert not values[~batch.registers.mask].any()


def test_the_boundary_follows_the_clock_where_the_length_is_given_in_time() -> None:
    recipe = make_regime("two-stage", train=TrainConfig(max_time=100.0))
    state = TrainState(recipe.config, recipe.network, recipe)
    state.seconds = 49.0
    assert not state.stage_is_over(0.49) and state.stage_is_over(0.5)
    assert state._stage_share(0.25) == pytest.approx(0.5)
    state.stage = StageRecord(number=2, step=7, seconds=52.0)
    assert not state.stage_is_over(1.0)
    assert state._stage_share(0.76) == pytest.approx(0.5) and state._stage_share(1.0) == 1.0


@pytest.mark.parametrize(("regime", "sections"), [("two-stage", {}), ("unified-latents", SECOND_STAGE)])
def test_ranks_with_clocks_of_their_own_have_the_same_rates_in_the_next_stage(
    regime: str, sections: dict[str, Any]
) -> None:
    data = RingData(PointsConfig(samples=100), "points", DataRequest("ring", Path()))
    progress, rates = 0.52, []
    for clock in (52.0, 52.4, 49.9):  # the first rank's, and two that started later or earlier
        recipe = make_regime(regime, train=TrainConfig(max_time=100.0), optim=DECAY, **sections)
        state = TrainState(recipe.config, recipe.network, recipe)
        state.step, state.seconds = 400, clock
        own = SomeRanks(shard=Shard(), kept=[])
        state.next_stage(TrainingPass({"points": data}, recipe.network, TrainConfig(), own, Silent()), progress)
        assert (state.stage.step, state.stage.seconds) == (400, pytest.approx(52.0))
        rates.append([state.rate(state.step + step, 0.52 + step / 2100) for step in range(1, 1000)])
    assert rates[0] == rates[1] == rates[2]
    assert len(set(rates[0])) > 500  # the schedule moves


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("regime.kind=two-stage",), "recipe.kind=joint trains all parts at once"),
        (("recipe.kind=staged",), "regime.kind=unite is trained by recipe.kind=joint: --regime NAME sets both"),
        (("recipe.kind=bound",), "recipe.kind=bound trains by a bound on the bits"),
        (("regime.kind=unified-latents", "recipe.kind=staged"), "is trained by recipe.kind=bound"),
        (("regime.kind=two-stage", "recipe.kind=staged", "recipe.first_stage=1"), "recipe.first_stage: input should"),
    ],
)
def test_sections_without_sense_together_are_refused(
    settings: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", settings=settings) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
