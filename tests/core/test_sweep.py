"""Sweeps over the guidance scale: ranges, the choice of the best, and the command on the toy modality."""

import json
from pathlib import Path

import pytest
import torch
from unite_mm_toy.points import Points

from unite_mm.cli.main import run
from unite_mm.contract import SweepMetric
from unite_mm.errors import UniteError, UsageError
from unite_mm.evaluation.sweep import parse_range, sweep
from unite_mm.progress import Silent
from unite_mm_schemas.metrics import Metric, MetricsReport, Score, Sweep


def test_ranges_are_exact_decimals_with_both_ends() -> None:
    scales = parse_range("1.0:4.0:0.2")
    assert scales == tuple(round(1 + 0.2 * index, 1) for index in range(16))
    assert parse_range("1:2:0.3") == (1.0, 1.3, 1.6, 1.9)
    assert parse_range("2:2:1") == (2.0,)


@pytest.mark.parametrize("text", ["1:2", "1:2:0", "1:2:-1", "2:1:0.1", "a:b:c", "1:nan:1", "1:inf:1", "-1:1:1", ""])
def test_other_texts_are_no_range(text: str) -> None:
    with pytest.raises(UsageError, match="not of the form START:STOP:STEP"):
        parse_range(text)


def score(value: float | None) -> Score:
    metric = Metric(name="distance", title="distance", value=value, definition="how far")
    return Score(kind="generation", metrics=(metric,), notes=("no ruler",) if value is None else ())


@pytest.mark.parametrize(
    ("values", "lower", "best"),
    [
        ([3.0, 1.0, 2.0], True, 1.2),
        ([3.0, 1.0, 2.0], False, 1.0),
        ([2.0, 1.0, 1.0], True, 1.2),  # the first of equals
        ([None, 5.0, None], True, 1.2),
        ([5.0, None, 4.0], True, 1.4),
    ],
)
def test_the_best_is_found_and_the_curve_kept(values: list, lower: bool, best: float) -> None:
    table, kept, recorded = dict(zip((1.0, 1.2, 1.4), values, strict=True)), [], []

    def measure(scale, is_best):
        if is_best(score(table[scale])):
            kept.append(scale)
        return score(table[scale])

    found = sweep(tuple(table), SweepMetric("distance", "distance", lower), measure, Silent(), recorded.append)
    assert found.best == best == kept[-1]
    assert [point.score.metrics[0].value for point in found.points] == values
    assert [len(part.points) for part in recorded] == [1, 2, 3]


def test_a_sweep_that_measures_nothing_says_why() -> None:
    with pytest.raises(UniteError, match="no scale of the sweep gave a value for distance") as caught:
        sweep((1.0,), SweepMetric("distance", "distance"), lambda *_: score(None), Silent(), lambda _: None)
    assert caught.value.hint == "no ruler"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "points"
    assert run(["train", "--modality", "points", "--max-steps", "30", "--out", str(folder)]) == 0
    return folder


def evaluate(trained: Path, *flags: str) -> MetricsReport:
    quick = ["--reconstructions", "0", "--samples", "24", "--steps", "3"]
    assert run(["evaluate", str(trained), *quick, *flags]) == 0
    return MetricsReport.model_validate_json((trained / "evaluation" / "metrics.json").read_text())


def mean_radius(self, samples, reference, progress, workers=0) -> Score:
    radius = float(torch.cat([sample.norm(dim=-1) for sample in samples]).mean())
    metric = Metric(name="on_ring", title="on the ring", value=radius, total=len(samples), definition="mean radius")
    return Score(kind="generation", metrics=(metric,))


def test_the_command_reports_the_best_and_the_curve(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Points, "score_generation", mean_radius)  # a number that every change of the samples moves
    report = evaluate(trained, "--sweep", "1.0:3.0:1.0", "--labels", "balanced", "--guidance-interval", "0:0.9")
    out, err = capsys.readouterr()
    found = report.sweep
    assert found is not None
    assert [point.value for point in found.points] == [1.0, 2.0, 3.0]
    values = [point.score.metrics[0].value for point in found.points]
    assert len(set(values)) > 1
    assert found.best == [1.0, 2.0, 3.0][values.index(max(values))]
    assert report.scores[0].metrics[0].value == max(values)
    assert (report.settings["guidance"], report.settings["labels"]) == (found.best, "balanced")
    assert (report.settings["guidance_interval"], report.settings["function_evaluations"]) == ("0:0.9", 6)
    folder = trained / "evaluation"
    assert {path.name for path in folder.iterdir()} == {
        *("metrics.json", "report.html", "samples.csv", "samples.png", "sweep.json")
    }
    assert Sweep.model_validate_json((folder / "sweep.json").read_text()) == found
    assert "sweep of guidance by on the ring (higher is better)" in out
    assert [line for line in out.splitlines() if line.rstrip().endswith("best")]
    assert "guidance 2: on the ring" in err

    # The samples kept are those of the best scale: evaluating at that scale alone gives the same file.
    kept = (folder / "samples.csv").read_bytes()
    again = evaluate(trained, "--guidance", str(found.best), "--labels", "balanced", "--guidance-interval", "0:0.9")
    assert (folder / "samples.csv").read_bytes() == kept
    assert again.scores[0].metrics == report.scores[0].metrics
    assert again.sweep is None


def test_labels_change_what_is_generated(trained: Path) -> None:
    files = {}
    for labels in ("balanced", "random"):
        report = evaluate(trained, "--labels", labels, "--no-pictures")
        assert report.settings["labels"] == labels
        files[labels] = (trained / "evaluation" / "samples.csv").read_bytes()
    assert files["balanced"] != files["random"]


def test_a_model_without_conditions_is_not_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    plain = ["--set", "points.classes=false", "--max-steps", "1"]
    assert run(["train", "--modality", "points", "--out", str(folder), *plain]) == 0
    assert run(["evaluate", str(folder), "--sweep", "1:2:1"]) == 2
    assert "--sweep: this model takes no condition" in capsys.readouterr().err
    assert run(["evaluate", str(folder), "--labels", "random"]) == 2
    assert "this model knows no classes" in capsys.readouterr().err
    assert not (folder / "evaluation").exists()


def test_pairs_of_files_are_scored_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs, outputs, report = tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "report.json"
    inputs.write_text("1.0,0.0\n0.0,1.0\n")
    outputs.write_text("1.0,0.5\n0.0,1.0\n")
    command = ["evaluate", "--modality", "points", "--samples", str(outputs), "--reconstructions-of", str(inputs)]
    assert run([*command, "--report", str(report)]) == 0
    found = json.loads(report.read_text())
    (score,) = found["scores"]
    assert (score["kind"], score["metrics"][0]["value"], score["metrics"][0]["total"]) == ("reconstruction", 0.25, 2)
    assert found["settings"]["reconstructions_of"] == str(inputs)
    assert run([*command, "--data", "ring", "--report", str(report)]) == 0
    assert [score["kind"] for score in json.loads(report.read_text())["scores"]] == ["reconstruction", "generation"]
