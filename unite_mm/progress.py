"""Progress reporting that library code can call without knowing how it is shown."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

TaskContext = AbstractContextManager[Callable[[int], None]]
"""Context manager that yields the function to advance one bar."""


class Progress(Protocol):
    """Shows long work to the user. Implementations: `Silent`, and a bar in the command line."""

    def task(self, title: str, total: int | None, done: int = 0) -> TaskContext:
        """Open a bar called `title`; the context yields `advance(n)`.

        Args:
            title: what is being done.
            total: how much there is to do; None: unknown.
            done: how much of it was done before, which says nothing about the speed.
        """
        ...

    def say(self, message: str) -> None:
        """Show one line above the bars."""
        ...

    def note(self, message: str) -> None:
        """Show or replace a short status line beside the bars: throughput, newest losses."""
        ...


class Silent:
    """Shows nothing: the default of the Python interface."""

    @contextmanager
    def task(self, title: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Yield an `advance` that does nothing."""
        del title, total, done
        yield lambda n: None

    def say(self, message: str) -> None:
        """Drop the message."""
        del message

    def note(self, message: str) -> None:
        """Drop the message."""
        del message
