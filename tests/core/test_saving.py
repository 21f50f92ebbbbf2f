"""Checkpoints are written while the run trains on: what they hold, what of errors, what is left at the end."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from unite_mm.cli.main import run
from unite_mm.storage import checkpoint
from unite_mm.storage.checkpoint import FolderWriter, read_tensors
from unite_mm.storage.runs import checkpoints_of
from unite_mm.training.background import Background
from unite_mm.training.state import TrainState

TRAIN = ["train", "--modality", "points", "--set", "train.batch_size=8", "--max-steps"]
PATIENCE = 60


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process draw nothing at their end."""
    monkeypatch.setattr("unite_mm.cli.train._save_picture", lambda folder, progress: None)


def test_training_goes_on_while_a_checkpoint_is_written_that_holds_its_own_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing the checkpoint of step 4 waits until step 7 has changed the weights."""
    reached, steps, seen = threading.Event(), [], {}
    write, update = FolderWriter.write, TrainState.update

    def late(self: FolderWriter, tensors: Any, *rest: int) -> dict[str, str]:
        if self.target.name.endswith("4"):
            assert reached.wait(PATIENCE)
        return write(self, tensors, *rest)

    def counted(self: TrainState, progress: float) -> None:
        update(self, progress)
        steps.append(self.step + 1)
        if steps[-1] == 4:
            seen.update({name: value.detach().clone() for name, value in self.network.state_dict().items()})
            seen.update({f"average of {name}": value.clone() for name, value in self.ema.average.items()})
        if steps[-1] == 7:
            reached.set()

    monkeypatch.setattr(FolderWriter, "write", late)
    monkeypatch.setattr(TrainState, "update", counted)
    folder = tmp_path / "run"
    assert run([*TRAIN, "8", "--set", "train.checkpoint_every=4", "--out", str(folder)]) == 0
    assert [path.name[-2:] for path in checkpoints_of(folder)] == ["04", "08"]
    saved = read_tensors(checkpoints_of(folder)[0], "weights")
    average = read_tensors(checkpoints_of(folder)[0], "ema")
    saved |= {f"average of {name}": value for name, value in average.items()}
    assert saved.keys() == seen.keys()
    assert all(torch.equal(saved[name], seen[name]) for name in seen)
    last = read_tensors(checkpoints_of(folder)[1], "weights")
    assert any(not torch.equal(last[name], saved[name]) for name in last)


@pytest.mark.parametrize("failing", [4, 8, 12])
def test_a_full_disk_ends_the_run_with_a_message_and_keeps_what_is_there(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the first checkpoint, in between and at the last; training ends soon and not at its end."""
    save, update = checkpoint.save_file, TrainState.update
    steps: list[int] = []

    def full(tensors: Any, path: Path) -> None:
        save(tensors, path)
        if path.parent.name.endswith(f"{failing:02d}"):
            raise OSError(28, "No space left on device")

    def counted(self: TrainState, progress: float) -> None:
        if self.step == failing:  # as a step would that takes longer than the writing
            for thread in threading.enumerate():
                if thread.name == "checkpoint":
                    thread.join(PATIENCE)
        update(self, progress)
        steps.append(self.step + 1)

    monkeypatch.setattr(checkpoint, "save_file", full)
    monkeypatch.setattr(TrainState, "update", counted)
    folder = tmp_path / "run"
    words = ["--set", "train.checkpoint_every=4", "--set", "train.keep_checkpoints=9", "--out", str(folder)]
    assert run([*TRAIN, "12", *words]) == 1
    said = capsys.readouterr().err
    assert f"could not write {folder / 'checkpoints' / f'step-{failing:09d}'}: No space left" in said
    assert "Traceback" not in said
    assert [path.name[-2:] for path in checkpoints_of(folder)] == ["04", "08", "12"][: failing // 4 - 1]
    assert [path.name for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")] == []
    assert failing <= steps[-1] <= failing + 1  # the writing may have failed before the next step begins


def test_what_ends_a_run_waits_for_the_checkpoint_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message of a loss that is not finite says that this one is kept."""
    write, update = FolderWriter.write, TrainState.update
    failed = threading.Event()

    def late(self: FolderWriter, tensors: Any, *rest: int) -> dict[str, str]:
        assert failed.wait(PATIENCE)
        return write(self, tensors, *rest)

    def failing(self: TrainState, progress: float) -> None:
        if self.step == 4:
            failed.set()
            raise torch.OutOfMemoryError("out of memory")
        update(self, progress)

    monkeypatch.setattr(FolderWriter, "write", late)
    monkeypatch.setattr(TrainState, "update", failing)
    folder = tmp_path / "run"
    assert run([*TRAIN, "8", "--set", "train.checkpoint_every=4", "--out", str(folder)]) == 1
    assert [path.name[-2:] for path in checkpoints_of(folder)] == ["04"]


def test_work_beside_is_done_one_after_the_other_and_its_error_is_raised_once() -> None:
    beside, order = Background("work"), []
    gate = threading.Event()

    def first() -> None:
        assert gate.wait(PATIENCE)
        order.append("first")
        raise ValueError("of the first")

    beside.settle()
    beside.start(first)
    assert not beside.failed and order == []
    gate.set()
    with pytest.raises(ValueError, match="of the first"):
        beside.start(lambda: order.append("never"))
    assert not beside.failed
    beside.start(lambda: order.append("second"))
    beside.settle()
    assert order == ["first", "second"]
