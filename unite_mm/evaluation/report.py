"""What every evaluation reports with: its settings, the seconds of each stage, pictures that may fail, its file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unite_mm.errors import UniteError
from unite_mm.progress import Progress
from unite_mm.utils.files import write_text
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


@contextmanager
def optional_picture(name: str, progress: Progress) -> Iterator[None]:
    """A picture that cannot be drawn is no reason to lose the numbers: say so and go on."""
    try:
        yield
    except UniteError as error:
        progress.say(f"{name} was not drawn: {error.message}")
