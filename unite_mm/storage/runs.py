"""The checkpoints of a run: `checkpoints/step-<digits>`, found, chosen and pruned.

Only folders of such a name count, and only intact ones: a damaged folder is passed over with a message, never kept in
place of a good one and never removed. Whatever else lies there is the user's.
"""

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from unite_mm.errors import UniteError, UniteWarning, UsageError
from unite_mm.storage.checkpoint import USE_ANOTHER, read_record
from unite_mm.utils.lock import Hold, free_to_remove
from unite_mm_schemas.base import RECORD
from unite_mm_schemas.checkpoint import CheckpointRecord

FOLDER = "checkpoints"
PREFIX = "step-"
_NAME: Final = re.compile(rf"{PREFIX}([0-9]+)")
_LEFT_BEHIND: Final = re.compile(rf"\.(writing|replaced|removing)-{PREFIX}[0-9]+")

TRIES = 100
"""How often the newest checkpoint is looked for while a run replaces what was found."""


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / FOLDER / f"{PREFIX}{step:09d}"


def step_of(folder: Path) -> int | None:
    """The step that the name of a checkpoint's folder says; None: it is no such name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else None


def checkpoints_of(run: Path) -> list[Path]:
    """Checkpoint folders of a run, damaged ones too, oldest first."""
    found = []
    try:
        for path in (run / FOLDER).iterdir():
            if (step := step_of(path)) is not None and path.is_dir():
                found.append((step, path.name, path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for *_, path in sorted(found)]


def read_checkpoint(folder: Path) -> CheckpointRecord:
    """The record of a run's checkpoint, after checking that all of it is whole and belongs to the step of its name.

    Raises:
        UniteError: it is damaged.
    """
    record = read_record(folder)
    if step_of(folder) != record.step:
        raise UniteError(f"{folder} holds step {record.step}", USE_ANOTHER)
    return record


def newest_checkpoint(run: Path) -> tuple[Path, CheckpointRecord, list[str]]:
    """The newest intact checkpoint of a run, and messages about damaged newer ones.

    Raises:
        UniteError: there is none.
    """
    with held_checkpoint(run) as found:
        return found


@contextmanager
def held_checkpoint(run: Path) -> Iterator[tuple[Path, CheckpointRecord, list[str]]]:
    """`newest_checkpoint`, which a run that trains does not remove while the context is open."""
    with ExitStack() as stack:
        for _ in range(TRIES):
            found, problems = _search(run, stack)
            if found is not None:
                folder, record = found
                instead = f"; using {folder.name} instead"
                yield folder, record, [f"{problem.message}{instead}" for problem in problems]
                return
            if problems:
                raise _nothing_intact(run, problems)
        raise UniteError(f"{run} holds no checkpoint", "check the folder, or train without --resume")


def _search(run: Path, stack: ExitStack) -> tuple[tuple[Path, CheckpointRecord] | None, list[UniteError]]:
    """The newest intact checkpoint and what is wrong with newer ones.

    Nothing at all where there is none, or where a folder went while it was read: then the search must begin anew.
    """
    problems: list[UniteError] = []
    for folder in reversed(checkpoints_of(run)):
        hold = Hold(folder / RECORD)
        try:
            record = read_checkpoint(folder)
        except UniteError as error:
            there = hold.is_there
            hold.release()
            if not there:
                return None, []
            problems.append(error)
        else:
            stack.callback(hold.release)
            return (folder, record), problems
    return None, problems


def _nothing_intact(run: Path, problems: list[UniteError]) -> UniteError:
    hint = problems[0].hint
    if hint == USE_ANOTHER:
        hint = "restore the folder from a copy, or train again"
    return UniteError("; ".join(problem.message for problem in problems) + f"; {run} has no intact checkpoint", hint)


@contextmanager
def held_model(folder: Path) -> Iterator[tuple[Path, CheckpointRecord, Hold]]:
    """The folder that holds the tensors, and its record: `folder` itself, or the newest intact checkpoint of a run.

    Newer ones that are damaged are named in a `UniteWarning`.

    Raises:
        UsageError: there is no model in the folder.
        UniteError: there is one, but it is damaged.
    """
    problems: list[str] = []
    with ExitStack() as stack:
        if (folder / RECORD).is_file():
            where, record = folder, read_record(folder)
        elif (folder / FOLDER).is_dir():
            where, record, problems = stack.enter_context(held_checkpoint(folder))
        else:
            what, hint = "holds neither a checkpoint nor an exported model", ""
            if not folder.exists():
                what = "does not exist"
            elif folder.is_file():
                what, hint = "is a file, and a model is a folder", "; a file of samples is scored by evaluate --samples"
            raise UsageError(
                f"{folder} {what}", f"give a run folder (it holds `checkpoints/`) or an exported folder{hint}"
            )
        for problem in problems:
            warnings.warn(problem, UniteWarning, stacklevel=5)
        hold = Hold(where / RECORD)
        stack.callback(hold.release)
        yield where, record, hold


class Pruning:
    """Removes the oldest checkpoints of the run that this process trains.

    What was once found intact is looked into again only when its files have changed.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._intact: dict[str, tuple[object, ...]] = {}

    def keep(self, count: int) -> None:
        """Remove all but the newest `count` intact checkpoints, and what interrupted work left behind.

        A checkpoint that somebody reads right now stays until the next time, and damaged ones stay for good.
        """
        intact = [path for path in checkpoints_of(self.run) if not path.is_symlink() and self._is_intact(path)]
        for folder in intact[:-count]:
            self._remove(folder)
        self.tidy()

    def tidy(self) -> None:
        """Remove what interrupted work left behind, if any."""
        folder = self.run / FOLDER
        for path in folder.iterdir() if folder.is_dir() else ():
            if _LEFT_BEHIND.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def _is_intact(self, folder: Path) -> bool:
        try:
            now = _state(folder)
            if self._intact.get(folder.name) != now:
                read_checkpoint(folder)
                self._intact[folder.name] = now
        except (OSError, UniteError):
            self._intact.pop(folder.name, None)
            return False
        return True

    def _remove(self, folder: Path) -> None:
        aside = folder.with_name(f".removing-{folder.name}")
        with free_to_remove(folder / RECORD) as free:
            if not free:
                return
            try:
                folder.rename(aside)  # readers find it whole or not at all
            except OSError:
                return
        self._intact.pop(folder.name, None)
        shutil.rmtree(aside, ignore_errors=True)


def _state(folder: Path) -> tuple[object, ...]:
    """What changes when a file of a folder does."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.stat()) for entry in entries)
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found)
