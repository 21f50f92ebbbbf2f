"""The commands on the toy modality, from training to scores: what they write, print and exit with."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.commands import Command
from helpers.made_up_plugins import FakePlugin

from unite_mm.cli.main import run
from unite_mm_schemas.config import RunConfig
from unite_mm_schemas.metrics import MetricsReport

TRAIN = ["train", "--modality", "points"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy modality, 40 steps long."""
    folder = tmp_path_factory.mktemp("runs") / "points"
    assert run([*TRAIN, "--out", str(folder)]) == 0
    return folder


def test_train_leaves_everything_in_the_run_folder(trained: Path) -> None:
    config = RunConfig.model_validate_json((trained / "config.json").read_text())
    assert (config.train.max_steps, config.trunk.width) == (40, 32)
    assert config.modalities["points"].config["channels"] == 4
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "config.json",
        "data-card-points.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "samples.png",
    }


def test_train_says_what_it_does_and_where_things_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    flags = ["--max-steps", "2", "--set", "points.channels=3", "--set", "train.batch_size=8"]
    assert run([*TRAIN, "--out", str(folder), *flags]) == 0
    out, err = capsys.readouterr()
    assert "channels=3" in err
    assert "batch 8; 2 steps" in err
    assert "done: 2 steps" in out
    assert "reconstruction" in out
    assert f"unite-mm evaluate {folder}" in out


def test_train_by_time_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("trunk: {width: 16}\nmodality: {channels: 2}\n")
    folder = tmp_path / "run"
    assert run([*TRAIN, "--config", str(file), "--max-time", "0.2s", "--out", str(folder)]) == 0
    config = RunConfig.model_validate_json((folder / "config.json").read_text())
    assert (config.trunk.width, config.train.max_time, config.train.max_steps) == (16, 0.2, None)


def test_the_default_folder_is_named_by_modality_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*TRAIN, "--max-steps", "1"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("points-20")


def test_resume_goes_on_and_remembers_the_new_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "run")
    assert run([*TRAIN, "--out", folder, "--max-steps", "3"]) == 0
    assert run(["train", "--resume", "--out", folder, "--max-steps", "5"]) == 0
    assert "done: 5 steps" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["max_steps"] == 5
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 5


def test_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*TRAIN, "--dry-run", "--out", str(tmp_path / "run")]) == 0
    assert "parameters" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_two_modalities_share_one_run(fake_plugin: Callable[[], FakePlugin], tmp_path: Path) -> None:
    dots = fake_plugin()
    dots.manifest |= {
        "configuration": "unite_mm_toy.config:PointsConfig",
        "implementation": "unite_mm_toy.points:Points",
        "presets": [],
        "sources": [{"name": "ring", "description": "drawn on the fly"}],
        "default_source": "ring",
    }
    dots.install()
    folder, out = tmp_path / "run", tmp_path / "samples.csv"
    assert run([*TRAIN, "--modality", "dots", "--max-steps", "2", "--out", str(folder)]) == 0
    assert {path.name for path in folder.glob("samples-*.png")} == {"samples-points.png", "samples-dots.png"}
    assert run(["sample", str(folder), "-n", "2", "-o", str(out)]) == 2
    assert not out.exists()
    assert run(["sample", str(folder), "-n", "2", "-o", str(out), "--modality", "dots"]) == 0
    assert len(out.read_text().splitlines()) == 2


def test_evaluate_reports_numbers_with_counts_and_definitions(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "deep" / "report.json"
    flags = ["--samples", "30", "--reconstructions", "20", "--steps", "4", "--split", "validation", "--seed", "3"]
    assert run(["evaluate", str(trained), *flags, "--report", str(report)]) == 0
    out = capsys.readouterr().out
    folder = trained / "evaluation"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json", "report.html", "samples.csv", "samples.png", "reconstructions.png",
    }  # fmt: skip
    found = MetricsReport.model_validate_json((folder / "metrics.json").read_text())
    assert report.read_text() == (folder / "metrics.json").read_text()
    assert [score.kind for score in found.scores] == ["reconstruction", "generation"]
    assert (found.data, found.step, found.source) == ("points on a ring", 40, str(trained))
    assert found.settings["split"] == "validation"
    assert found.settings["steps"] == 4
    assert found.settings["function_evaluations"] == 8  # Heun takes two each
    assert found.scores[0].metrics[0].total == 20
    assert len((folder / "samples.csv").read_text().splitlines()) == 30
    generated = found.scores[1].metrics[0]
    assert f"{generated.count} / {generated.total}" in out
    assert "points on a ring" in out
    assert "points with radius within 0.25 of 1 / all points" not in out


def test_definitions_and_an_html_report_on_request(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, page = tmp_path / "samples.csv", tmp_path / "samples.html"
    assert run(["sample", str(trained), "-n", "5", "--steps", "2", "-o", str(samples), "--report", str(page)]) == 0
    assert "<!doctype html>" in page.read_text(encoding="utf-8")
    capsys.readouterr()
    scored = tmp_path / "scored.html"
    words = ["evaluate", "--modality", "points", "--samples", str(samples), "--definitions", "--report", str(scored)]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "on the ring: points with radius within 0.25 of 1 / all points" in out
    assert "points with radius within 0.25 of 1 / all points" in scored.read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"samples.csv", "samples.html", "scored.html"}


def test_evaluate_can_leave_out_either_part(trained: Path) -> None:
    path = trained / "evaluation" / "metrics.json"
    quick = ["evaluate", str(trained), "--steps", "1", "--no-pictures"]
    for flags, kind in (
        (["--samples", "0"], "reconstruction"),
        (["--reconstructions", "0", "--samples", "5"], "generation"),
    ):
        assert run([*quick, *flags]) == 0
        (score,) = MetricsReport.model_validate_json(path.read_text()).scores
        assert score.kind == kind
    assert run([*quick, "--samples", "0", "--reconstructions", "0"]) == 2


def test_evaluate_scores_a_file_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, report = tmp_path / "mine.csv", tmp_path / "report.json"
    file.write_text("1.0,0.0\n0.0,1.0,0.0,3.0\n")
    assert run(["evaluate", "--modality", "points", "--samples", str(file), "--report", str(report)]) == 0
    found = MetricsReport.model_validate_json(report.read_text())
    assert (found.scores[0].metrics[0].count, found.scores[0].metrics[0].total) == (2, 3)
    assert "66.67 %" in capsys.readouterr().out


def test_sample_repeats_itself_for_a_seed(trained: Path, tmp_path: Path) -> None:
    def sampled(name: str, *flags: str) -> list[str]:
        path = tmp_path / name
        assert run(["sample", str(trained), "-o", str(path), "--steps", "3", *flags]) == 0
        return path.read_text().splitlines()

    ten = sampled("a.csv", "-n", "10")
    assert len(ten) == 10
    assert sampled("b.csv", "-n", "10") == ten
    assert sampled("c.csv", "-n", "10", "--seed", "1") != ten
    assert sampled("d.csv", "-n", "10", "--temperature", "0.1") != ten
    assert sampled("e.csv", "-n", "10", "--condition", "2", "--guidance", "2") != ten


def test_reconstruct_keeps_the_order(trained: Path, tmp_path: Path) -> None:
    source, out, picture = tmp_path / "in.csv", tmp_path / "new" / "out.csv", tmp_path / "pairs.png"
    source.write_text("1.0,0.0\n0.0,1.0,-1.0,0.0\n")
    assert run(["reconstruct", str(trained), str(source), "-o", str(out), "--picture", str(picture)]) == 0
    assert [len(line.split(",")) for line in out.read_text().splitlines()] == [2, 4]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_data_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fetch", "info"):
        assert run(["data", command, "--modality", "points", "--set", "points.samples=50"]) == 0
        out = capsys.readouterr().out
        assert "points on a ring" in out
        assert "450" in out
    assert run(["data", "verify", "--modality", "points"]) == 0
    assert capsys.readouterr().out.count("ok  ") == 4


def test_schemas_are_printed_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*arguments: str) -> str:
        assert run(["schema", *arguments]) == 0
        return capsys.readouterr().out

    assert "trunk" in json.loads(printed())["properties"]
    assert "presets" in json.loads(printed("manifest"))["properties"]
    assert list(json.loads(printed("--modality", "points"))["properties"])[:2] == ["channels", "spread"]
    assert "| `points.spread` | number, > 0 | `0.05` |" in printed("--markdown", "--modality", "points")
    listed = printed("--export", str(tmp_path / "json")).split()
    assert sorted(listed) == sorted(str(path) for path in (tmp_path / "json").iterdir())


def test_a_signal_ends_a_run_cleanly_and_it_can_be_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [*TRAIN, "--out", str(folder), "--max-steps", "100000", "--devices", "1", "--set", "train.compile=false"]
    process = Command(*words, output=tmp_path / "said.txt")
    log = folder / "metrics.jsonl"
    process.wait_for(lambda: log.exists() and log.stat().st_size > 0)
    process.send(signal.SIGTERM)
    out = process.end()
    assert "interrupted: " in out
    assert f"unite-mm train --resume --out {folder}" in out
    assert run(["train", "--resume", "--out", str(folder), "--max-steps", "1"]) == 0


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows a cluster and a height, either of which may be left open."""
    folder = tmp_path_factory.mktemp("runs") / "told"
    assert run([*TRAIN, "--out", str(folder), "--max-steps", "3", "--set", "points.heights=true"]) == 0
    return folder


def drawn(folder: Path, output: Path, *flags: str) -> list[list[float]]:
    assert run(["sample", str(folder), "-n", "4", "-o", str(output), "--steps", "2", *flags]) == 0
    return [[float(word) for word in line.split(",")] for line in output.read_text().splitlines()]


def test_sample_takes_class_and_numbers_together_or_alone(told: Path, tmp_path: Path) -> None:
    asked = ["top,height=0.5", "class=top", "height=0.5", "height=-0.5"]
    found = [drawn(told, tmp_path / f"{k}.csv", "--condition", text) for k, text in enumerate(asked)]
    assert all(one != other for k, one in enumerate(found) for other in found[:k])
    assert drawn(told, tmp_path / "b.csv", "--labels", "balanced")


def test_sample_takes_a_size_and_options_of_the_plugin(
    told: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = drawn(told, tmp_path / "a.csv")
    for number, key in enumerate(("points.sampling.scale", "points.scale")):
        scaled = drawn(told, tmp_path / f"{number}.csv", "--set", f"{key}=2")
        assert [x for row in scaled for x in row] == pytest.approx([2 * x for row in plain for x in row])
    assert {len(row) for row in drawn(told, tmp_path / "c.csv", "--size", "2")} == {4}
    for flags, message in (
        (["--size", "4"], "size 4: not 1 to 3"),
        (["--set", "points.channels=2"], "points.sampling.channels: unknown key"),
        (["--set", "points.sampling.scale=-1"], "points.sampling.scale: "),
        (["--set", "points.sampling=2"], "`sampling` is a section"),
        (["--set", "trunk.width=8"], "the configuration of a trained model cannot change"),
        (["--condition", "hight=1"], "write any of class=CLASS,height=NUMBER"),
    ):
        assert run(["sample", str(told), "-n", "1", "-o", str(tmp_path / "no.csv"), *flags]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no.csv").exists()


def test_evaluate_takes_options_of_the_plugin_and_reports_them(told: Path, tmp_path: Path) -> None:
    flags = ["--samples", "4", "--reconstructions", "4", "--no-pictures", "--steps", "1", "-o", str(tmp_path / "e")]
    assert run(["evaluate", str(told), *flags, "--set", "points.sampling.fewest=3"]) == 0
    report = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert report["settings"]["points.sampling.fewest"] == 3
    assert all(len(line.split(",")) == 6 for line in (tmp_path / "e" / "samples.csv").read_text().splitlines())


def test_reconstruct_says_what_it_leaves_out(told: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output, picture = (tmp_path / name for name in ("in.csv", "out.csv", "pairs.png"))
    source.write_text("0,1,0,1,0,1,0,1\n0,1\n1,0,0,1\n")
    assert run(["reconstruct", str(told), str(source), "-o", str(output), "--picture", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert "note: 1 of 3 samples do not fit the model and are left out; the first: a sample has 4 points" in err
    assert "2 reconstructions" in out and picture.exists()
    assert [len(line.split(",")) for line in output.read_text().splitlines()] == [2, 4]
    source.write_text("0,1,0,1,0,1,0,1\n")
    assert run(["reconstruct", str(told), str(source), "-o", str(tmp_path / "none.csv")]) == 2
    assert "none of 1 samples fits the model" in capsys.readouterr().err and not (tmp_path / "none.csv").exists()
