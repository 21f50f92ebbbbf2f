"""Stopped anywhere, resumed: the losses are those of a run that was never stopped, bit for bit."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers.commands import Command
from helpers.repository import TOY
from safetensors.torch import save_file

from unite_mm.api import UNITE
from unite_mm.cli.main import run
from unite_mm.errors import UniteError
from unite_mm.storage import checkpoint
from unite_mm.storage.checkpoint import read_record, read_tensors, write_folder
from unite_mm.storage.runs import checkpoints_of, newest_checkpoint

STEPS = 40


def train(folder: Path, *more: str) -> Command:
    words = ["train", "--modality", "points", "--out", str(folder), "--max-steps", str(STEPS), *more]
    return Command(*words, output=folder.with_suffix(".txt"))


def losses(folder: Path) -> list[tuple[int, float, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(r["step"], r["reconstruction"], r["flow"]) for r in records if r["kind"] == "train"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "whole"
    train(folder).end()
    return folder


def test_a_longer_run_has_the_records_of_one_that_was_never_stopped(uninterrupted, tmp_path):
    """Also where its first part ended with a validation of its own, and where a run that is done is resumed again."""
    folder = tmp_path / "run"
    for words in (["--max-steps", "25"], ["--resume"], ["--resume"]):
        train(folder, *words).end()
    found, expected = (
        [
            (record["kind"], record["step"])
            for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        ]
        for run in (folder, uninterrupted)
    )
    assert found == expected and ("validation", 25) not in found


def written(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("awaited", ["step-000000010", ".writing-step-000000020", "step-000000030"])
def test_killed_and_resumed_run_has_the_same_losses(uninterrupted, tmp_path, awaited):
    folder = tmp_path / "run"
    process = train(folder)
    process.wait_for(lambda: written(folder / "checkpoints" / awaited))
    process.send(signal.SIGKILL)  # nothing can be cleaned up
    process.end(-signal.SIGKILL)
    assert [path.name for path in checkpoints_of(folder)] != []
    train(folder, "--resume").end()
    assert losses(folder) == losses(uninterrupted)
    assert [step for step, *_ in losses(folder)] == list(range(1, STEPS + 1))
    last = checkpoints_of(folder)[-1].name
    for stem in ("weights", "ema", "optimizer"):
        left = read_tensors(folder / "checkpoints" / last, stem)
        right = read_tensors(uninterrupted / "checkpoints" / last, stem)
        assert all(torch.equal(left[name], right[name]) for name in right) and left.keys() == right.keys()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_save_and_end_cleanly(uninterrupted, tmp_path, number):
    folder = tmp_path / "run"
    process = train(folder, "--set", "train.checkpoint_every=1000")
    process.wait_for(lambda: written(folder / "metrics.jsonl"))
    process.send(number)
    assert "Traceback" not in process.end()
    saved = checkpoints_of(folder)
    assert len(saved) == 1 and 0 < read_record(saved[0]).step < STEPS
    train(folder, "--resume").end()
    assert losses(folder) == losses(uninterrupted)


def test_damaged_newest_checkpoint_is_reported_and_the_one_before_is_used(uninterrupted):
    folders = checkpoints_of(uninterrupted)
    assert len(folders) == 2
    weights = folders[-1] / "weights.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-8] + b"\0" * 8)
        found, record, problems = newest_checkpoint(uninterrupted)
        assert found == folders[0] and record.step == STEPS - 10
        assert len(problems) == 1 and "weights.safetensors is missing or damaged" in problems[0]
    finally:
        weights.write_bytes(content)
    assert newest_checkpoint(uninterrupted)[0] == folders[1]


def test_full_disk_leaves_nothing_half_written(uninterrupted, tmp_path, monkeypatch):
    record = read_record(checkpoints_of(uninterrupted)[-1])
    target = tmp_path / "checkpoints" / "step-000000001"
    write_folder(target, {"weights": {"a": torch.ones(2)}}, record)

    def full(tensors, path):
        save_file(tensors, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UniteError, match="No space left") as caught:
        write_folder(target, {"weights": {"a": torch.zeros(2)}}, record)
    assert "free some disk space" in caught.value.hint
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert torch.equal(read_tensors(target, "weights")["a"], torch.ones(2))


def test_non_finite_loss_stops_with_a_message_and_keeps_the_checkpoint(tmp_path):
    folder = tmp_path / "run"
    poisoned = ["--set", "points.nan_after=1990", "--set", "train.checkpoint_every=1", "--set", "train.seed=2"]
    said = train(folder, *poisoned).end(1)
    assert "stopped being finite at step" in said and "Traceback" not in said
    _, record, problems = newest_checkpoint(folder)
    assert record.step >= 1 and not problems
    weights = read_tensors(checkpoints_of(folder)[-1], "weights")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_exported_folder_is_all_a_model_needs(uninterrupted, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOY))
    model = UNITE.from_pretrained(uninterrupted)
    model.save_pretrained(tmp_path / "export")
    names = sorted(path.name for path in (tmp_path / "export").iterdir())
    assert names == ["README.md", "record.json", "weights.safetensors"]
    again = UNITE.from_pretrained(tmp_path / "export")
    for left, right in zip(model.generate(3, seed=1), again.generate(3, seed=1), strict=True):
        assert torch.equal(left, right)
    raw = UNITE.from_pretrained(uninterrupted, ema=False)
    assert not torch.equal(next(raw.network.parameters()), next(model.network.parameters()))


def test_a_run_of_an_older_format_is_refused_with_what_to_do(uninterrupted, tmp_path, capsys):
    """Its weights have other names and its seeds mean other numbers: nothing of it may load as if it were today's."""
    old = tmp_path / "old"
    shutil.copytree(uninterrupted, old)
    for path in (old / "config.json", *old.glob("checkpoints/*/record.json")):
        content = json.loads(path.read_text())
        content.get("config", content)["schema_version"] = 1
        path.write_text(json.dumps(content))
    for words in (
        ["sample", str(old), "-n", "1", "-o", str(tmp_path / "a.csv")],
        ["train", "--resume", "--out", str(old)],
    ):
        assert run(words) == 1
        message = capsys.readouterr().err
        assert "was written by an older unite-mm: format 1" in message and "or train again" in message
