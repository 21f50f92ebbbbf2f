"""What tests run in other processes, whose workers import it by name; and a progress that keeps what it is told."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Recorder:
    """A `Progress` that keeps titles and messages, and counts what bars were told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.messages: list[str] = []
        self.done = 0

    @contextmanager
    def task(self, title: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        del total
        self.titles.append(title)

        def advance(count: int) -> None:
            self.done += count

        yield advance

    def say(self, message: str) -> None:
        self.messages.append(message)

    def note(self, message: str) -> None:
        del message


def square(value: int) -> int:
    return value * value


def misbehave(value: int) -> int:
    """Crashes its process at 1, hangs at 2, fails at 100."""
    if value == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if value == 2:
        threading.Event().wait()
    if value == 100:
        raise ValueError("a bug of one's own")
    return value


def open_slowly(root: Path, answers: Any) -> None:
    """Open a source whose preparation takes a moment; puts how often it was prepared here, and the content."""
    from unite_mm.contract import DataRequest
    from unite_mm.kit.cache import PluginCache

    prepared = 0

    def prepare(folder: Path) -> None:
        nonlocal prepared
        prepared += 1
        time.sleep(0.3)
        (folder / "n").write_text("7")

    cache = PluginCache(DataRequest("x", root), "points")
    content = cache.open(cache.folder("x", [1]), prepare, lambda folder: int((folder / "n").read_text()))
    answers.put((prepared, content))
