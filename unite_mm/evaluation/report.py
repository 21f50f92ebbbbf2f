"""What every evaluation reports with: its settings, the seconds of each stage, pictures that may fail, its file."""

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unite_mm.errors import UniteError, UsageError
from unite_mm.progress import Progress
from unite_mm.utils.files import check_writable, write_text
from unite_mm_schemas.metrics import MetricsReport

Settings = dict[str, str | int | float | bool | None]


class Clock:
    """Wall-clock seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to a stage."""
        start = time.monotonic()
        yield
        spent = self.seconds.get(name, 0.0) + time.monotonic() - start
        self.seconds[name] = round(spent, 3)


def write_report(report: MetricsReport, path: Path) -> None:
    """Write `metrics.json`, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_text(path, report.model_dump_json(indent=2) + "\n")


def check_results(folder: Path | None, files: Iterable[Path], hint: str) -> None:
    """Refuse, before any work, what the results of an evaluation cannot be written to.

    Args:
        folder: where all of it goes; None: nowhere.
        files: reports beside it.
        hint: how to choose another folder.

    Raises:
        UsageError: it cannot be written to.
    """
    for path, target in [*([] if folder is None else [(folder, folder)]), *((file, file.parent) for file in files)]:
        try:
            check_writable(target)
            if path is not folder and path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        except OSError as error:
            raise UsageError(f"results cannot be written to {path}: {error.strerror or error}", hint) from error


@contextmanager
def optional_picture(name: str, progress: Progress) -> Iterator[None]:
    """A picture that cannot be drawn is no reason to lose the numbers: say so and go on."""
    try:
        yield
    except UniteError as error:
        progress.say(f"{name} was not drawn: {error.message}")
