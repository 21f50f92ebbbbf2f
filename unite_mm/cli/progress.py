"""Progress in the terminal: bars while somebody watches, plain lines now and then in a log."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from unite_mm.progress import TaskContext
from unite_mm.utils.durations import duration
from unite_mm.utils.text import printable

LINE_EVERY = 15.0
"""Seconds between the lines of a task in a log."""

WORTH_A_LINE = 2.0
"""Seconds from which on a finished task is worth a line in a log."""


class _Rate(TextColumn):
    """Things per second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{rate(speed)}/s" if speed else "", style="progress.data.speed")


class _Counts(TextColumn):
    """How much is done, of how much; nothing where nothing is counted."""

    def __init__(self) -> None:
        super().__init__("", justify="right")

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(f"{task.completed:,.0f}" if task.completed else "")
        return Text(f"{task.completed:,.0f}/{task.total:,.0f}")


class _Left(TimeRemainingColumn):
    """How long it still takes, where that is known."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else Text("left ") + super().render(task)


class _Bars(Progress):
    """The bars, with a status line under them."""

    status = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.status:
            yield Text(f"  {self.status}", style="dim")


def rate(value: float) -> str:
    """A number per second, three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


class TerminalProgress:
    """`unite_mm.progress.Progress` on a terminal or a log; use it as a context manager.

    Args:
        console: where to write; None: standard error, so that results on standard output stay clean.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars: _Bars | None = None
        self._note = ""

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bars = _Bars(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                _Counts(),
                _Rate(),
                TimeElapsedColumn(),
                _Left(),
                console=self.console,
                transient=True,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def task(self, title: str, total: int | None, done: int = 0) -> TaskContext:
        """Open a bar called `title`; the context yields `advance(n)`; see `unite_mm.progress.Progress`."""
        return self._bar(title, total, done) if self._bars is not None else self._lines(title, total, done)

    def say(self, message: str) -> None:
        """Show one line above the bars."""
        self.console.print(printable(message), markup=False, highlight=False, soft_wrap=True)

    def note(self, message: str) -> None:
        """Show or replace the status line under the bars; in a log it ends the next line of the task."""
        self._note = printable(message)
        if self._bars is not None:
            self._bars.status = self._note

    @contextmanager
    def _bar(self, title: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
        assert self._bars is not None
        bars = self._bars
        identity = bars.add_task(printable(title), total=total, completed=done)
        try:
            yield lambda n: bars.advance(identity, n)
        finally:
            bars.remove_task(identity)
            bars.status = ""

    @contextmanager
    def _lines(self, title: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
        start = time.monotonic()
        state = {"done": done, "next": start + LINE_EVERY}

        def advance(n: int) -> None:
            state["done"] += n
            now = time.monotonic()
            if now >= state["next"]:
                state["next"] = now + LINE_EVERY
                note = f" ({self._note})" if self._note else ""
                self.say(_line(title, int(state["done"]), total, now - start, done) + note)

        self._note = ""
        yield advance
        spent = time.monotonic() - start
        if spent >= WORTH_A_LINE:
            done_now = f"{int(state['done']):,} in " if state["done"] else ""  # nothing is counted where nothing can be
            self.say(f"{title}: {done_now}{duration(spent)}")


def _line(title: str, done: int, total: int | None, spent: float, before: int = 0) -> str:
    """`Generating: 300/1,000, 25/s, 28 s left`; what was done before counts as done, not for the speed."""
    of = f"/{total:,}" if total else ""
    text = f"{title}: {done:,}{of}, {rate((done - before) / spent)}/s"
    if total and before < done < total:
        text += f", {duration(spent * (total - done) / (done - before))} left"
    return text
