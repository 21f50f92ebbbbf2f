"""Scores of samples while a run trains: they change nothing of it, resume exactly, and their cost is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from unite_mm_toy.points import Points

from unite_mm.api import UNITE
from unite_mm.cli.main import run
from unite_mm.errors import UniteError
from unite_mm.storage.checkpoint import read_tensors
from unite_mm.storage.runs import newest_checkpoint
from unite_mm.training.display import headlines
from unite_mm.training.quality import cost_of_scoring, evaluations_of
from unite_mm_schemas.config import FlowConfig, RunConfig, SamplingConfig, TrainConfig

SMALL = [
    "optim.schedule=constant",
    "train.batch_size=16",
    "trunk.width=16",
    "trunk.depth=1",
    "trunk.heads=2",
    "sampling.steps=4",
]
SCORED = ["train.generate_every=4", "train.generate_samples=12"]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unite_mm.cli.train._save_picture", lambda folder, progress: None)


def train(folder: Path, *settings: str, steps: int = 12, words: tuple[str, ...] = ("--modality", "points")) -> int:
    assigned = [part for setting in settings for part in ("--set", setting)]
    return run(["train", *words, "--max-steps", str(steps), "--out", str(folder), *assigned])


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    where, _, _ = newest_checkpoint(folder)
    return read_tensors(where, "weights") | read_tensors(where, "optimizer")


def test_scoring_changes_nothing_and_resumes_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, scored, resumed = (tmp_path / name for name in ("plain", "scored", "resumed"))
    assert train(plain, *SMALL) == 0
    assert train(scored, *SMALL, *SCORED) == 0
    assert "generation on_ring" in capsys.readouterr().out
    assert train(resumed, *SMALL, *SCORED, steps=6) == 0
    assert train(resumed, words=("--resume",)) == 0
    assert [record["step"] for record in records(scored, "generation")] == [4, 8, 12]
    assert records(resumed, "generation") == records(scored, "generation")
    assert records(plain, "generation") == []
    for name, tensor in weights(plain).items():
        assert torch.equal(tensor, weights(scored)[name]), name
    # The averaged weights are what is judged: as a user would, with the samples of the run's seed.
    model = UNITE.from_pretrained(scored)
    value = model.modalities["points"].score_generation(model.generate(12), None, NOTHING).metrics[0].value
    assert records(scored, "generation")[-1]["on_ring"] == value
    assert any((scored / "tensorboard").iterdir())


NOTHING: Any = None
"""In place of a progress that the toy modality does not use."""


def test_a_score_that_cannot_be_made_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise UniteError("no network of features")

    monkeypatch.setattr(Points, "score_generation", fail)
    assert train(tmp_path / "run", *SMALL, *SCORED, steps=4) == 0
    assert "samples were not scored: no network of features" in capsys.readouterr().err
    assert records(tmp_path / "run", "generation") == [{"kind": "generation", "step": 4}]


def test_the_reference_is_the_data_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    original = Points.score_generation

    def score(self: Points, samples: Any, reference: Any, *rest: Any, **more: Any) -> Any:
        seen.append(None if reference is None else reference.description)
        return original(self, samples, reference, *rest, **more)

    monkeypatch.setattr(Points, "score_generation", score)
    assert train(tmp_path / "without", *SMALL, *SCORED, steps=4) == 0
    assert train(tmp_path / "with", *SMALL, *SCORED, "train.generate_reference=true", steps=4) == 0
    assert seen == [None, "points on a ring"]


def test_the_cost_by_hand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # 100 samples of 50 steps of two evaluations are 10,000 passes; 200 steps of 50 samples, tokenized and denoised
    # once, three passes each for forward and backward, are 60,000.
    train_config = TrainConfig(batch_size=50, generate_every=200, generate_samples=100)
    config = RunConfig(train=train_config, flow=FlowConfig(draws=1), sampling=SamplingConfig(solver="heun2", steps=50))
    assert cost_of_scoring(config) == "100 every 200 steps: 17 % more passes through the trunk, and scoring"
    assert cost_of_scoring(RunConfig()) is None
    assert evaluations_of(SamplingConfig(solver="euler", steps=10, guidance=2)) == 20
    assert run(["train", "--modality", "points", "--max-steps", "9", "--dry-run", "--set", SCORED[0]]) == 0
    assert "samples scored on the way" in capsys.readouterr().out


def test_the_progress_line_shows_the_first_score() -> None:
    losses = {"flow": 1.0, "l1": 3.0, "generation valid": 0.5, "generation unique": 0.25}
    assert headlines(losses) == "flow 1.000, generation valid 0.500"
