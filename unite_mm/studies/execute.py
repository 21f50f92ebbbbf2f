"""Running a study: every run in a process of its own, several at once, continued where it was stopped.

A run has ended when its record holds a report; everything before that is done again from what is left on disk, so that
it does not matter where a study was stopped. Training resumes exactly, and scoring starts anew.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from pydantic import ValidationError

from unite_mm.errors import UniteError, UsageError
from unite_mm.progress import Progress
from unite_mm.storage.checkpoint import read_record
from unite_mm.storage.runs import checkpoints_of
from unite_mm.studies.plan import PlannedRun
from unite_mm.training.run_log import NAME
from unite_mm.utils.files import write_text
from unite_mm.utils.lock import check_free
from unite_mm_schemas.metrics import MetricsReport
from unite_mm_schemas.study import StudyRun

CHILD = (sys.executable, "-m", "unite_mm.cli.child")
"""A command in a process that ends with the one that started it."""

POLL = 0.2
PATIENCE = 120.0
"""Seconds that a process of an earlier call may take to end."""

TAIL = 4096


class StoppedError(Exception):
    """A run was asked to stop before its end."""


def read_run(run: PlannedRun) -> StudyRun | None:
    """What a run has recorded; None where it never began.

    Raises:
        UsageError: it was begun with other settings.
    """
    try:
        found = StudyRun.model_validate_json(run.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UsageError(f"{run.record} cannot be read", "remove it and the run's folder, to run it again") from error
    for what, before, now in (("train", found.train, run.train), ("evaluate", found.evaluate, run.evaluate)):
        if before != now:
            changed = sorted(set(before) ^ set(now))
            raise UsageError(
                f"{run.name} was begun with other settings of {what}: {', '.join(changed)}",
                "name another folder with -o, or remove the run's folder and record",
            )
    return found


def has_ended(run: PlannedRun) -> bool:
    """Whether all of a run is done."""
    found = read_run(run)
    return found is not None and found.steps is not None


class Execution:
    """The runs of a study at work.

    Args:
        runs: all of them.
        cache: folder of prepared data.
        jobs: how many at once.
        progress: where to show the whole.
        ended: called after every run that ends, under a lock.
    """

    def __init__(
        self, runs: Sequence[PlannedRun], cache: Path, jobs: int, progress: Progress, ended: Callable[[], None]
    ) -> None:
        self.runs, self.cache, self.jobs, self.progress, self.ended = runs, cache, jobs, progress, ended
        self.failed: dict[str, str] = {}
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    def run(self) -> None:
        """Run what has not ended.

        Raises:
            UsageError: a run was begun with other settings; nothing was started.
            UniteError: runs failed; the others have ended.
        """
        left = [run for run in self.runs if not has_ended(run)]
        if len(left) < len(self.runs):
            self.progress.say(f"{len(self.runs) - len(left)} of {len(self.runs)} runs have ended already")
        total = sum(_length(run) for run in self.runs)
        done = total - sum(_length(run) for run in left)
        with self.progress.task("Study", total, done) as advance, ThreadPoolExecutor(self.jobs) as pool:
            waiting = [pool.submit(self._one, run, advance) for run in left]
            try:
                wait(waiting, return_when=FIRST_EXCEPTION)
                for future in waiting:
                    if future.done() and not future.cancelled():
                        future.result()
            except BaseException:
                self._stop()
                for future in waiting:
                    future.cancel()
                raise
        if self.failed:
            name, reason = next(iter(self.failed.items()))
            raise UniteError(
                f"{len(self.failed)} of {len(self.runs)} runs failed; {name}: {reason}",
                "the others have ended; the same command tries the failed ones again",
            )

    def _one(self, run: PlannedRun, advance: Callable[[int], None]) -> None:
        """Train and score one run; what fails is kept for the end."""
        try:
            self._train(run, advance)
            self._state(run, "being scored")
            report = self._evaluate(run)
        except UniteError as error:
            with self._lock:
                self.failed[run.name] = error.message
                self._states.pop(run.name, None)
            self.progress.say(f"{run.name} failed: {error.message}; see {run.log}")
            return
        steps = read_record(checkpoints_of(run.folder)[-1], verify=False).step
        with self._lock:
            self._states.pop(run.name, None)
            self._write(run, steps, report)
            self.progress.say(f"{run.name} has ended")
            self.ended()

    def _write(self, run: PlannedRun, steps: int | None, report: MetricsReport | None) -> None:
        record = StudyRun(
            variant=run.variant, seed=run.seed, train=run.train, evaluate=run.evaluate, steps=steps, report=report
        )
        write_text(run.record, record.model_dump_json(indent=1) + "\n")

    def _train(self, run: PlannedRun, advance: Callable[[int], None]) -> None:
        _wait_until_free(run.folder)
        if read_run(run) is None:
            self._write(run, None, None)
        shown = 0

        def show() -> None:
            nonlocal shown
            now = min(_reached(run), _length(run))
            if now > shown:
                with self._lock:
                    advance(now - shown)
                shown = now
            self._state(run, f"{now:,} of {_length(run):,}")

        if not _trained(run):
            if (run.folder / "config.json").is_file():
                words = ["train", "--resume", "--out", str(run.folder)]
            else:  # stopped before it had begun
                shutil.rmtree(run.folder, ignore_errors=True)
                words = ["train", *run.train, "--out", str(run.folder)]
            self._command([*words, "--cache", str(self.cache), "--workers", "1"], run, show)
            if not _trained(run):
                raise UniteError("its training was stopped before its end")
        with self._lock:
            advance(_length(run) - shown)

    def _evaluate(self, run: PlannedRun) -> MetricsReport | None:
        if not run.evaluate:
            return None
        folder = run.folder / "evaluation"
        shutil.rmtree(folder, ignore_errors=True)  # of a call that was stopped
        words = ["evaluate", str(run.folder), *run.evaluate, "-o", str(folder), "--cache", str(self.cache)]
        self._command(words, run, lambda: None)
        return MetricsReport.model_validate_json((folder / "metrics.json").read_text(encoding="utf-8"))

    def _command(self, words: Sequence[str], run: PlannedRun, show: Callable[[], None]) -> None:
        """Run a command to its end.

        Raises:
            UniteError: it failed; the message is the command's own.
            StoppedError: the study is being stopped.
        """
        with run.log.open("ab") as log:
            with self._lock:
                if self._stopping:
                    raise StoppedError
                child = subprocess.Popen([*CHILD, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                self._children.add(child)
            while child.poll() is None:
                time.sleep(POLL)
                show()
            with self._lock:
                self._children.discard(child)
        show()
        if self._stopping:
            raise StoppedError
        if child.returncode:
            raise UniteError(_complaint(run.log) or f"its process ended with {child.returncode}")

    def _stop(self) -> None:
        """Ask the processes to end; they save what they have."""
        with self._lock:
            self._stopping = True
            for child in self._children:
                child.terminate()

    def _state(self, run: PlannedRun, text: str) -> None:
        with self._lock:
            self._states[run.name] = text
            self.progress.note("; ".join(f"{name}: {state}" for name, state in self._states.items()))


def _length(run: PlannedRun) -> int:
    """Steps of a run, or seconds where the clock decides."""
    return run.steps if run.steps is not None else int(run.seconds or 0)


def _reached(run: PlannedRun) -> int:
    """Steps, or seconds, of the newest record of a run."""
    path = run.folder / NAME
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - TAIL))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            record = json.loads(line)
            if record.get("kind") == "train":
                return int(record["step"] if run.steps is not None else record["seconds"])
        except (ValueError, KeyError, AttributeError):
            continue
    return 0


def _trained(run: PlannedRun) -> bool:
    """Whether the newest checkpoint is that of the end."""
    found = checkpoints_of(run.folder)
    if not found:
        return False
    try:
        record = read_record(found[-1])
    except UniteError:
        return False
    return record.step >= run.steps if run.steps is not None else record.seconds >= (run.seconds or 0)


def _wait_until_free(folder: Path) -> None:
    """Wait for a process of an earlier call, which ends once it has saved.

    Raises:
        UsageError: it does not.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            check_free(folder)
            return
        except UsageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL)


def _complaint(log: Path) -> str:
    """The last error that a command printed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "")
