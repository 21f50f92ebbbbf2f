"""`train` without flags for processes, threads and compiling, as real commands."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import Command

from unite_mm.cli.main import run
from unite_mm.training import trainer
from unite_mm.utils.cores import cores
from unite_mm_schemas.config import RunConfig

AUTO = ("--set", "train.threads=auto")  # the preset of the toy modality names a number
TRAIN = ("train", "--modality", "points", *AUTO)
LONG = (*TRAIN, "--max-steps", "1000000", "--set", "train.log_every=1")


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "unite_mm.cli.main", *map(str, words)]


def settings(folder: Path) -> Any:
    return RunConfig.model_validate_json((folder / "config.json").read_text()).train


def test_a_few_steps_take_one_process_and_say_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    said = Command(*TRAIN, "--max-steps", "2", "--out", str(folder), output=tmp_path / "said.txt").end()
    assert f"1 process of 1 thread, blocks not compiled ({cores()} core" in said
    found = settings(folder)
    assert (found.devices, found.threads, found.compile, found.accelerator) == (1, 1, False, "cpu")


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="a second process needs a second core")
def test_a_long_run_takes_more_processes_and_keeps_them_on_resume(tmp_path: Path) -> None:
    """Slow: two starts of two processes. The compiler does not work here, which is said."""
    folder = tmp_path / "run"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CXX": str(tmp_path / "no-compiler")}
    words = command(*LONG, "--set", "train.batch_size=16", "--out", folder)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    log, deadline = folder / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "interrupted: " in out
    assert "2 processes of 1 thread, ddp, blocks not compiled" in err
    assert err.count("note: no working C++ compiler was found, so the blocks are not compiled") == 1
    found = settings(folder)
    assert (found.devices, found.threads, found.compile) == (2, 1, False)

    again = command("train", "--resume", "--out", folder, "--max-steps", int(json.loads(_last(log))["step"]) + 2)
    done = subprocess.run(again, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "2 processes of 1 thread, ddp, blocks not compiled" in done.stderr
    assert "note: the run goes on as it began; a new one would be 1 process" in done.stderr
    assert (settings(folder).devices, settings(folder).compile) == (2, False)


def _last(log: Path) -> str:
    return log.read_text().splitlines()[-1]


def test_a_dry_run_shows_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*LONG, "--dry-run", "--devices", "4", "--set", "train.threads=3", "--set", "train.compile=true"]) == 0
    assert "4 processes of 3 threads, ddp, compiled blocks" in " ".join(capfd.readouterr().out.split())


def test_a_call_from_python_starts_no_other_processes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither `run` with arguments of its own nor `trainer.train`, however long the run is."""
    assert run([*LONG, "--dry-run", "--set", "train.compile=false"]) == 0
    assert "1 process of" in capfd.readouterr().out
    folder = tmp_path / "run"
    assert run([*TRAIN, "--max-steps", "1", "--out", str(folder)]) == 0
    config = RunConfig.model_validate_json((folder / "config.json").read_text())
    open_ends = {"devices": None, "threads": None, "compile": None}
    config = config.model_copy(update={"train": config.train.model_copy(update=open_ends)})
    trainer.train(config, tmp_path / "again", cache=tmp_path / "cache")
    found = settings(tmp_path / "again")
    assert (found.devices, found.compile) == (1, False)


@pytest.mark.parametrize("words", ["--devices x", "--devices 0", "--devices auto1"])
def test_devices_are_a_number_or_auto(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*TRAIN, "--dry-run", *words.split()]) == 2
    assert "devices" in capfd.readouterr().err
    assert run([*TRAIN, "--dry-run", "--devices", "auto"]) == 0


def test_a_fine_tune_of_the_decoder_decides_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, finer = tmp_path / "run", tmp_path / "finer"
    assert run([*TRAIN, "--max-steps", "1", "--set", "train.threads=2", "--out", str(folder)]) == 0
    assert settings(folder).threads == 2
    words = ["--recipe", "decoder", "--init", str(folder), "--max-steps", "1", "--out", str(finer)]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run(["train", *words]) == 0
    assert (settings(finer).devices, settings(finer).threads) == (1, 1)
