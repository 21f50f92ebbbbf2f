"""What a run leaves in its folder, and who may train there: locks, records, changes on resume, data."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.commands import Command
from unite_mm_toy.points import RingData

from unite_mm.cli.main import run
from unite_mm.errors import UniteError, UsageError
from unite_mm.progress import Silent
from unite_mm.storage.checkpoint import read_record
from unite_mm.storage.runs import checkpoints_of, newest_checkpoint
from unite_mm.training.display import StoppedAtOnce, StopRequest
from unite_mm.training.distribution import is_first_process, started_elsewhere
from unite_mm.training.run_folder import RunFolder
from unite_mm.training.run_log import NAME, RunLog, keep_records
from unite_mm.training.trainer import Trainer
from unite_mm.utils.cores import cores, threads_for
from unite_mm.utils.files import check_writable
from unite_mm.utils.lock import LOCK, check_free, locked
from unite_mm_schemas.metrics import MetricsReport

TRAIN = ["train", "--modality", "points", "--set", "train.batch_size=8", "--max-steps"]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process draw nothing at their end."""
    monkeypatch.setattr("unite_mm.cli.train._save_picture", lambda folder, progress: None)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_that_was_killed_while_it_pruned_leaves_nothing_behind(tmp_path: Path) -> None:
    """Also where it has nothing left to train, and so saves and prunes no more."""
    words = [*TRAIN, "2", "--out", str(tmp_path / "run")]
    assert run(words) == 0
    folder = tmp_path / "run" / "checkpoints"
    for name in (".removing-step-000000001", ".writing-step-000000002", "mine"):
        (folder / name).mkdir()
    assert run(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["mine", "step-000000002"]


# ---------------------------------------------------------------------------------------------------------------- locks

HOLDER = """
import sys, time
from pathlib import Path
from unite_mm.utils.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """Another process that has locked `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    yield other
    other.kill()
    other.communicate()


def test_a_lock_names_the_process_and_goes_with_it(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for take in (lambda: locked(folder).__enter__(), lambda: check_free(folder)):
        with pytest.raises(UsageError, match=f"run is in use by process {holder.pid} on ") as caught:
            take()
        assert f"kill {holder.pid}" in caught.value.hint
    (folder / LOCK).write_text("not what it was")
    with pytest.raises(UsageError, match="in use by another process"):
        check_free(folder)
    holder.kill()  # SIGKILL: it cleans up nothing
    holder.wait()
    assert (folder / LOCK).exists()
    check_free(folder)
    with locked(folder):
        pass
    assert not (folder / LOCK).exists()


def test_a_thread_enters_its_own_lock_again_and_no_other_does(tmp_path: Path) -> None:
    refused = []

    def other() -> None:
        try:
            with locked(tmp_path / "run"):
                pass
        except UsageError as error:
            refused.append(error.message)

    with locked(tmp_path / "run"), locked(tmp_path / "x" / ".." / "run"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()}" in refused[0]
    assert not (tmp_path / "run").exists()  # nothing was put into it


@pytest.mark.parametrize("words", [[*TRAIN, "2", "--out"], ["train", "--resume", "--out"]], ids=["start", "resume"])
def test_no_command_trains_where_another_process_does(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run([*TRAIN, "2", "--out", str(folder)]) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        capsys.readouterr()
        assert run([*words, str(folder)]) == 2
        assert f"is in use by process {other.pid}" in capsys.readouterr().err
    finally:
        other.kill()
        other.communicate()
    (folder / LOCK).unlink()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_two_starts_at_once_make_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    both = [Command(*TRAIN, "3", output=tmp_path / f"{number}.txt") for number in range(2)]
    for one in both:
        one.end()
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert newest_checkpoint(folder)[1].step == 3
        assert not (folder / LOCK).exists()


def test_names_of_one_second_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unite_mm.cli.train._default_folder", lambda config: Path("runs") / "points-now")
    for _ in range(3):
        assert run([*TRAIN, "1"]) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["points-now", "points-now-2", "points-now-3"]


# -------------------------------------------------------------------------------------------------------------- records

ODD = [b"5", b"null", b"[]", b'"x"', b"{}", b'{"step": "1"}', b'{"step": null}', b'{"step": 1.5}', b'{"step": true}',
       b'{"step": [1]}', b"", b"   ", b"\xff\xfe", b"{", b"[" * 100_000, b'{"step": ' + b"9" * 5000 + b"}"]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd[:16]))
def test_an_odd_line_never_blocks_resuming(odd: bytes, tmp_path: Path) -> None:
    path = tmp_path / NAME
    good = [json.dumps({"kind": "train", "step": step}).encode() for step in (1, 2, 3)]
    path.write_bytes(b"\n".join([good[0], odd, *good[1:]]) + b'\n{"kind": "tr')
    assert keep_records(path, 2, 1) == 1
    assert path.read_bytes() == b"\n".join(good[:2]) + b"\n"


def test_a_file_of_records_that_stays_as_it_is_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n')
    os.chmod(path, 0o444)
    before = path.stat()
    assert keep_records(path, 2, 1) == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert keep_records(tmp_path / "absent", 2, 1) == 0


def test_records_are_written_aside_and_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed or out of space at any moment: the old file or the new one, never a part."""
    path = tmp_path / NAME
    whole = b"".join(b'{"step": %d}\n' % step for step in range(1000))
    path.write_bytes(whole)

    def full(*_: object) -> None:
        assert path.read_bytes() == whole
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            with pytest.raises(UniteError, match=r"could not write the records in .*: No space left"):
                RunLog(tmp_path, 500, 1, Silent())
        assert path.read_bytes() == whole
        assert [entry.name for entry in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("moment", ["record", "checkpoint"])
def test_a_removed_run_folder_ends_the_run_with_a_message(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    kind, method = {"record": (RunLog, "write"), "checkpoint": (RunFolder, "save")}[moment]
    usual = getattr(kind, method)

    def removed(*words: object) -> None:
        if folder.exists():
            shutil.rmtree(folder)
        usual(*words)

    monkeypatch.setattr(kind, method, removed)
    assert run([*TRAIN, "2", "--out", str(folder)]) == 1
    error = capsys.readouterr().err
    assert f"error: {folder} was removed while its run trained" in error
    assert "Traceback" not in error
    assert not folder.exists()


# -------------------------------------------------------------------------------------------------- resuming, the data


@pytest.fixture
def file_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Lets the toy modality take a file as source: its content is the hash of the splits."""
    usual = RingData.__init__

    def opened(self: RingData, config: object, name: str, request: object) -> None:
        path = Path(request.source)
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        usual(self, config, name, replace(request, source="ring"))
        self.card = self.card.model_copy(update={"split_hash": path.read_text()})

    monkeypatch.setattr(RingData, "__init__", opened)
    (tmp_path / "here.txt").write_text("a")
    return tmp_path / "here.txt"


def test_data_that_have_moved_are_named_with_data(
    file_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    resume = ["train", "--resume", "--out", folder, "--max-steps"]
    assert run([*TRAIN, "1", "--data", str(file_data), "--out", folder]) == 0
    there = file_data.rename(tmp_path / "there.txt")
    (tmp_path / "other.txt").write_text("b")
    capsys.readouterr()
    for command in ([*resume, "2"], ["evaluate", folder]):
        assert run(command) == 2
        assert "if the data lie elsewhere now, name them with --data" in capsys.readouterr().err
    config = (tmp_path / "run" / "config.json").read_bytes()
    assert run([*resume, "2", "--data", str(tmp_path / "other.txt")]) == 2
    assert "differ from those the run was trained on" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == config
    assert run([*resume, "2", "--data", str(there)]) == 0
    assert run([*resume, "3"]) == 0
    (change,) = [one for one in newest_checkpoint(tmp_path / "run")[1].changes if one.key.endswith("source")]
    assert (change.step, change.before, change.after) == (1, str(file_data), str(there))


def test_data_are_compared_before_there_is_a_checkpoint(
    file_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    failing = ["--set", "points.nan_after=0", "--data", str(file_data), "--out", str(folder)]
    assert run([*TRAIN, "1", *failing]) == 1
    error = capsys.readouterr().err
    assert "then --resume goes on from the beginning" in error
    assert "is kept" not in error
    file_data.write_text("b")
    assert run(["train", "--resume", "--out", str(folder)]) == 2
    assert "differ from those the run was trained on" in capsys.readouterr().err


def test_evaluate_refuses_other_data_unless_they_are_named(
    file_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run([*TRAIN, "1", "--data", str(file_data), "--out", str(folder)]) == 0
    score = ["evaluate", str(folder), "--samples", "4", "--steps", "1", "--no-pictures"]
    assert run(score) == 0
    report = folder / "evaluation" / "metrics.json"
    assert MetricsReport.model_validate_json(report.read_text()).split_hash == "a"
    report.unlink()
    file_data.write_text("b")
    capsys.readouterr()
    assert run(score) == 2
    assert "the model was trained on other data or another split" in capsys.readouterr().err
    assert not report.exists()
    assert run([*score, "--data", str(file_data)]) == 0
    assert "may be training samples" in capsys.readouterr().err
    found = MetricsReport.model_validate_json(report.read_text())
    assert found.split_hash == "b"
    assert all("may be training samples" in score.notes[-1] for score in found.scores)


def test_what_the_message_about_a_loss_advises_can_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    blown = ["--set", "optim.learning_rate=1e6", "--set", "optim.clip=1e12", "--set", "train.checkpoint_every=1"]
    assert run([*TRAIN, "9", *blown, "--set", "optim.warmup_steps=0", "--out", str(folder)]) == 1
    assert "lower optim.learning_rate or optim.clip" in capsys.readouterr().err
    for settings, steps in ((("optim.learning_rate=1e-5", "optim.clip=1"), 2), (("optim.clip=2",), 3)):
        words = [word for setting in settings for word in ("--set", setting)]
        run(["train", "--resume", "--out", str(folder), "--max-steps", str(steps), *words])
        assert "cannot change" not in capsys.readouterr().err


def test_changes_are_kept_from_checkpoint_to_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "run")
    assert run([*TRAIN, "1", "--out", folder]) == 0
    for steps, setting in ((2, "optim.learning_rate=1e-5"), (3, "optim.clip=0.5"), (4, "sampling.steps=7")):
        assert run(["train", "--resume", "--out", folder, "--max-steps", str(steps), "--set", setting]) == 0
        key, _, value = setting.partition("=")
        assert (
            f"from here on {key} is {float(value) if '.' in value or 'e' in value else value}"
            in capsys.readouterr().err
        )
    found = [(one.step, one.key) for one in newest_checkpoint(tmp_path / "run")[1].changes if "max_" not in one.key]
    assert found == [(1, "optim.learning_rate"), (2, "optim.clip"), (3, "sampling.steps")]


def test_an_older_checkpoint_in_use_is_told_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "run", tmp_path / "a.csv"
    assert run([*TRAIN, "2", "--set", "train.checkpoint_every=1", "--out", str(folder)]) == 0
    (checkpoints_of(folder)[-1] / "record.json").write_text("{}")
    capsys.readouterr()
    for words in (
        ["sample", str(folder), "-n", "2", "--steps", "1", "-o", str(out)],
        ["reconstruct", str(folder), str(out), "-o", str(tmp_path / "b.csv")],
        ["evaluate", str(folder), "--samples", "2", "--steps", "1", "--no-pictures"],
        [*TRAIN, "1", "--init-trunk", str(folder), "--out", str(tmp_path / "other")],
    ):
        assert run(words) == 0
        error = capsys.readouterr().err
        assert error.count("using step-000000001 instead") == 1, words
        assert "warning: " in error


def test_an_empty_held_out_split_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = RingData.size
    monkeypatch.setattr(RingData, "size", lambda self, split: 0 if split != "train" else usual(self, split))
    assert run([*TRAIN, "1", "--out", str(tmp_path / "run")]) == 0
    assert "note: the points data have no validation and no test split" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- where evaluations go


def test_evaluations_go_where_they_are_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out, file = tmp_path / "run", tmp_path / "new" / "scores", tmp_path / "a.csv"
    assert run([*TRAIN, "1", "--out", str(folder)]) == 0
    quick = ["evaluate", str(folder), "--samples", "2", "--steps", "1", "--no-pictures"]
    assert run([*quick, "-o", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"metrics.json", "report.html", "samples.csv"}
    assert not (folder / "evaluation").exists()
    file.write_text("1.0,0.0\n")
    assert run(["evaluate", "--modality", "points", "--samples", str(file), "-o", str(tmp_path / "file")]) == 0
    assert {path.name for path in (tmp_path / "file").iterdir()} == {"metrics.json", "report.html"}
    (out / "samples.csv").unlink()
    (out / "samples.csv").mkdir()
    (out / "samples.csv" / "mine.txt").write_text("x")
    assert run([*quick, "-o", str(out)]) == 2
    assert (out / "samples.csv" / "mine.txt").exists()
    capsys.readouterr()
    for flags in (["-o", str(file / "below")], ["--report", str(file / "report.json")]):
        assert run([*quick, *flags]) == 2
        said = capsys.readouterr()
        assert "results cannot be written to" in said.err
        assert said.out == ""


def test_writing_is_tried_without_leaving_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "hidden")

    monkeypatch.setattr(Path, "touch", denied)
    with pytest.raises(OSError, match="Permission denied") as caught:
        check_writable(tmp_path / "a")
    assert caught.value.filename == str(tmp_path)


# -------------------------------------------------------------------------------------- processes, threads and signals

SLURM = {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}


@pytest.mark.parametrize(
    ("environment", "devices", "first", "elsewhere"),
    [
        ({}, 1, True, False),
        ({}, 2, True, False),
        ({"LOCAL_RANK": "1"}, 2, False, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, 2, True, True),
        ({"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}, 2, False, True),
        (SLURM | {"SLURM_PROCID": "0"}, 2, True, True),
        (SLURM | {"SLURM_PROCID": "1"}, 2, False, True),
        (SLURM | {"SLURM_PROCID": "1"}, 1, True, False),  # runs of their own, a device each
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}, 2, True, False),
        ({"SLURM_PROCID": "1"}, 2, True, False),
    ],
)
def test_who_speaks_for_a_run(
    environment: dict[str, str], devices: int, first: bool, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (is_first_process(devices), started_elsewhere(devices)) == (first, elsewhere)


@pytest.mark.parametrize(
    ("limit", "processes", "allowed", "expected"),
    [(None, 1, 8, 8), (None, 2, 8, 4), (None, 16, 8, 1), ("1", 1, 8, 1), ("2", 2, 8, 2), ("16", 1, 8, 8),
     ("3,2", 1, 8, 3), ("", 1, 8, 8), ("0", 1, 8, 8), ("x", 1, 8, 8), ("-1", 1, 8, 8), (None, 1, 1, 1)],
)  # fmt: skip
def test_threads_are_the_cores_allotted_and_never_more_than_asked_for(
    limit: str | None, processes: int, allowed: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unite_mm.utils.cores.cores", lambda: allowed)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if limit is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert threads_for(processes) == expected
    assert cores() >= 1


@pytest.mark.parametrize("ignored", [False, True])
def test_a_hangup_stops_a_run_unless_it_is_ignored(ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        stop = StopRequest(Silent())
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.made is not ignored
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_with_nothing_to_save_a_signal_ends_at_once_even_where_an_exception_is_lost(number: int) -> None:
    class Lost:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)  # what is raised in here is swallowed

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        stop = StopRequest(Silent(), lambda: True)
        with pytest.raises(StoppedAtOnce), stop.listening():
            Lost()
            time.sleep(30)
        assert stop.made
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_closed_terminal_saves_the_run(tmp_path: Path) -> None:
    """All output of the run goes to the terminal that is closed."""
    import fcntl
    import pty
    import termios

    folder = tmp_path / "run"
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "unite_mm.cli.main", *TRAIN, "1000000", "--out", str(folder)]
    one = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.close(slave)
    reader = threading.Thread(target=_drain, args=(master, folder))
    reader.start()
    reader.join()
    os.close(master)
    assert one.wait(timeout=120) == 0
    assert read_record(checkpoints_of(folder)[-1]).step >= 1


def _drain(master: int, folder: Path) -> None:
    """Read what a terminal shows until the run in a folder has recorded something."""
    import select

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not ((folder / NAME).exists() and (folder / NAME).stat().st_size):
        if select.select([master], [], [], 0.05)[0]:
            os.read(master, 65536)


def test_a_signal_that_comes_while_the_ranks_agree_is_not_lost() -> None:
    """It waits for them a good part of each step, and is heard at the next one."""

    class Agreeing:
        def any(self, flag: bool) -> bool:
            os.kill(os.getpid(), signal.SIGTERM)
            return flag

    trainer = object.__new__(Trainer)
    trainer.stop, trainer.ranks = StopRequest(Silent()), Agreeing()
    trainer.folder = SimpleNamespace(save_failed=False)
    trainer._progress_share = lambda: 0.0
    with trainer.stop.listening():
        assert [trainer._done(), trainer._done()] == [False, True]
