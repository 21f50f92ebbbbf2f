"""The example distribution of signals: installed apart, run through the command line, and honest in its metrics."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.distributions import importable, install
from helpers.repository import ROOT
from scipy.io import wavfile

from unite_mm.cli.main import run
from unite_mm.contract import DataRequest
from unite_mm.registry import discover
from unite_mm.testing import ConformanceSuite

EXAMPLE = ROOT / "docs" / "examples" / "unite-mm-signals"
SHORT = ["--set", "signals.length=128"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("signals") / "site"
    install(EXAMPLE, folder)
    with importable(folder):
        yield folder


@pytest.fixture(scope="module")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals-run") / "run"
    small = ["--set", "trunk.width=32", "--set", "train.batch_size=16", "--set", "sampling.steps=2"]
    assert run(["train", "--modality", "signals", "--max-steps", "3", "--out", str(folder), *SHORT, *small]) == 0
    return folder


@pytest.fixture(scope="module")
def wavs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated signals, 3 of each class."""
    folder = tmp_path_factory.mktemp("wavs") / "wavs"
    assert run(["sample", str(trained), "-n", "12", "-o", str(folder), "--labels", "balanced"]) == 0
    return folder


def modality(**settings: object) -> SimpleNamespace:
    plugin = discover().get("signals")
    implementation = plugin.load_implementation()(plugin.validate(settings), plugin.name)
    data = implementation.open_data(DataRequest("made", Path()))
    modules = implementation.build_modules(implementation.statistics(data), 32)
    return SimpleNamespace(own=implementation, data=data, modules=modules)


def test_it_has_under_300_lines_of_python_and_is_not_in_the_wheel() -> None:
    lines = [line for path in EXAMPLE.rglob("*.py") for line in path.read_text().splitlines()]
    assert len([line for line in lines if line.strip()]) < 300


@pytest.mark.usefixtures("site")
class TestConformance(ConformanceSuite):
    modality = "signals"
    settings = ("signals.length=128",)


def test_it_is_listed_from_where_it_was_installed(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "list"]) == 0
    assert "unite-mm-signals 0.1.0" in capsys.readouterr().out
    assert discover().get("signals").folder == site / "unite_mm_signals"


def test_evaluate_measures_reconstruction_and_generation(trained: Path) -> None:
    assert run(["evaluate", str(trained), "--samples", "8", "--reconstructions", "8", "--labels", "balanced"]) == 0
    report = json.loads((trained / "evaluation" / "metrics.json").read_text())
    metrics = {metric["name"]: metric for score in report["scores"] for metric in score["metrics"]}
    declared = {entry.name: entry.kind for entry in discover().get("signals").manifest.metrics}
    assert set(metrics) == set(declared)
    for metric in metrics.values():
        low, high = metric["interval"]
        assert low <= high
        assert metric["total"] == 8
        assert metric["definition"]
    for name in ("samples.png", "reconstructions.png"):
        assert (trained / "evaluation" / name).read_bytes().startswith(b"\x89PNG")


def test_samples_are_wav_files_that_know_their_class(wavs: Path) -> None:
    names = sorted(path.name for path in wavs.iterdir())
    assert len(names) == 12
    assert names[:5] == [f"{i:05d}-{c}.wav" for i, c in enumerate(["normal", "fast", "wide", "inverted", "normal"])]
    rate, values = wavfile.read(wavs / names[0])
    assert (rate, values.shape, values.dtype) == (100, (128,), np.float32)


def test_the_condition_and_its_guidance_change_what_is_generated(trained: Path, tmp_path: Path) -> None:
    flags = {
        "wide": ["--condition", "wide"],
        "fast": ["--condition", "fast"],
        "guided": ["--condition", "fast", "--guidance", "4"],
    }
    signals = []
    for name, own in flags.items():
        assert run(["sample", str(trained), "-n", "1", "-o", str(tmp_path / name), *own]) == 0
        (file,) = (tmp_path / name).iterdir()
        signals.append(wavfile.read(file)[1])
    assert not np.array_equal(signals[0], signals[1])
    assert not np.array_equal(signals[1], signals[2])


def test_files_are_reconstructed_and_scored_without_a_model(trained: Path, wavs: Path, tmp_path: Path) -> None:
    again, report = tmp_path / "again", tmp_path / "report.json"
    assert run(["reconstruct", str(trained), str(wavs), "-o", str(again), "--picture", str(tmp_path / "p.png")]) == 0
    assert len(list(again.iterdir())) == 12
    score = ["evaluate", "--modality", "signals", *SHORT, "--report", str(report), "--samples"]
    assert run([*score, str(wavs), "--reconstructions-of", str(wavs)]) == 0
    snr, spectrum = json.loads(report.read_text())["scores"][0]["metrics"]
    assert (snr["value"] > 80, spectrum["value"]) == (True, 0)
    assert run([*score, str(wavs), "--data", "made"]) == 0
    assert len(json.loads(report.read_text())["scores"][0]["metrics"]) == 3


def test_own_wav_files_are_data(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = modality(length=128)
    made.own.write(made.data.samples("train", torch.arange(60)), tmp_path / "own")
    info = ["data", "info", "--modality", "signals", "--data", str(tmp_path / "own")]
    assert run([*info, *SHORT]) == 0
    assert "signals of" in capsys.readouterr().out
    assert run(info) == 2
    assert "signal 0 has 128 samples, the model 256" in capsys.readouterr().err
    assert run([*info[:-1], str(tmp_path)]) == 2
    assert "holds no WAV file with a class" in capsys.readouterr().err


def test_signals_survive_wav_files_bit_by_bit(site: Path, tmp_path: Path) -> None:
    made = modality(length=128)
    signals = made.data.samples("test", torch.arange(5))
    made.own.write(signals, tmp_path / "some")
    for before, after in zip(signals, made.own.read(tmp_path / "some"), strict=True):
        assert torch.equal(before.values, after.values)
        assert before.label == after.label


def test_the_spectral_term_forgives_a_shift_that_the_waveform_term_does_not(site: Path) -> None:
    made = modality(length=128)
    batch = made.data.batch("test", torch.arange(16))
    shifted, flat = batch.values.roll(4, 1), torch.zeros_like(batch.values)
    own, moved, nothing = (made.modules.losses(output, batch) for output in (batch.values, shifted, flat))
    assert all(float(term.values.abs().max()) == 0 for term in own.values())
    assert (moved["waveform"].values > nothing["waveform"].values).float().mean() > 0.5
    assert (moved["spectrum"].values < nothing["spectrum"].values).all()


def test_better_signals_score_better(site: Path) -> None:
    made = modality()
    right = made.data.samples("validation", torch.arange(200))
    noise = [type(signal)(0.05 * torch.randn(256), signal.label) for signal in right]
    wrong = [type(signal)(signal.values, (signal.label + 1) % 4) for signal in right]
    good, empty, swapped = (
        {metric.name: metric.value for metric in made.own.score_generation(samples, made.data, None).metrics}
        for samples in (right, noise, wrong)
    )
    assert good["obeyed"] > 0.95 and swapped["obeyed"] < 0.05 and empty["obeyed"] < 0.05
    assert good["mean_spectrum"] < 1 < empty["mean_spectrum"]
    assert (good["beating"], empty["beating"]) == (1, 0)


def test_its_own_tests_pass(site: Path) -> None:
    tests = runpy.run_path(str(EXAMPLE / "tests" / "test_signals.py"))
    found = [test for name, test in tests.items() if name.startswith("test_")]
    assert found
    for test in found:
        test()
