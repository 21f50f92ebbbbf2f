"""The records of a run: `metrics.jsonl` and TensorBoard."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from unite_mm.errors import UniteError
from unite_mm.progress import Progress
from unite_mm.utils.files import write_aside

NAME = "metrics.jsonl"


class RunLog:
    """Appends records to `metrics.jsonl` and TensorBoard.

    Args:
        folder: the run folder.
        step: the step training starts from; later records of an interrupted run are dropped, so that the file reads
            like that of a run that was never stopped.
        validate_every: steps between validations; the validation at the end of an earlier part is dropped too.
        progress: where to say what was dropped beside them.

    Raises:
        UniteError: the records cannot be written.
    """

    def __init__(self, folder: Path, step: int, validate_every: int, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.path = folder / NAME
        self.progress = progress
        self._hook = threading.excepthook
        try:
            odd = keep_records(self.path, step, validate_every)
            self.stream = self.path.open("a", encoding="utf-8")
            # Its thread that writes would print a traceback; what it fails with is raised here, at the next record.
            threading.excepthook = self._uncaught
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        except OSError as error:
            threading.excepthook = self._hook
            raise self._unwritten(error) from error
        if odd:
            progress.say(f"{self.path}: lines that are no records were left out: {odd:,}")

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """One record: `kind` is `train`, `validation` or `generation`.

        Raises:
            UniteError: it cannot be written.
        """
        try:
            if not self.path.exists():
                raise FileNotFoundError
            self.stream.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            self.stream.flush()
            for name, value in values.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)
        except OSError as error:
            raise self._unwritten(error) from error

    def close(self) -> None:
        """Flush and close both; every record of `metrics.jsonl` is on its way already."""
        try:
            for stream in (self.stream, self.board):
                try:
                    stream.close()
                except OSError as error:
                    self.progress.say(f"the last records of TensorBoard are lost: {self._unwritten(error).message}")
        finally:
            threading.excepthook = self._hook

    def _unwritten(self, error: OSError) -> UniteError:
        if not self.folder.exists():
            return removed(self.folder)
        return UniteError(
            f"could not write the records in {self.folder}: {error.strerror or 'the file was removed'}",
            "free some disk space or restore the folder, then continue with --resume; checkpoints are kept",
        )

    def _uncaught(self, arguments: threading.ExceptHookArgs) -> None:
        if type(arguments.thread).__module__.startswith("tensorboard."):
            return
        self._hook(arguments)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first; lines that are no records are passed over.

    Args:
        folder: the run folder; one without records gives none.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    found = []
    for line in _lines(path):
        if _record(line) is not None:
            found.append(json.loads(line))
    return found


def removed(folder: Path) -> UniteError:
    """The error of a run whose folder is gone."""
    return UniteError(f"{folder} was removed while its run trained", "start the run again; nothing of it is left")


def keep_records(path: Path, step: int, validate_every: int) -> int:
    """Drop from `metrics.jsonl` what a run that was never stopped would not hold at a step; written aside and renamed.

    That is the records of later steps, the validation at the end of a part that was to be the last, and lines that are
    no records.

    Args:
        path: the file; it need not exist.
        step: the last step whose records stay.
        validate_every: steps between validations.

    Returns:
        How many lines were no records, beside a torn last one.
    """
    if not path.exists():
        return 0
    odd, changes = 0, False
    for line in _lines(path):
        stays = _stays(line, step, validate_every)
        changes |= not stays or not line.endswith(b"\n")
        odd += stays is None and line.endswith(b"\n")
    if changes:

        def write(aside: Path) -> None:
            with aside.open("wb") as stream:
                for line in _lines(path):
                    if _stays(line, step, validate_every):
                        stream.write(line.rstrip(b"\r\n") + b"\n")
                stream.flush()
                os.fsync(stream.fileno())

        write_aside(path, write)
    return odd


def _lines(path: Path) -> Iterator[bytes]:
    stream: IO[bytes]
    with path.open("rb") as stream:
        yield from stream


def _record(line: bytes) -> tuple[int, Any] | None:
    """The step and the kind of a record; None where a line is no record."""
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = record.get("step") if isinstance(record, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    return found, record.get("kind")


def _stays(line: bytes, step: int, validate_every: int) -> bool | None:
    """Whether a line is a record that stays; None where it is no record."""
    record = _record(line)
    if record is None:
        return None
    found, kind = record
    return found <= step and not (kind == "validation" and found % validate_every)
