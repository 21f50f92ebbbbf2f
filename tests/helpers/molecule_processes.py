"""What tests of molecules run in processes of their own; workers can import these functions by name."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from unite_mm.contract import DataRequest
from unite_mm_molecule.config import MoleculeConfig


class Recorder:
    """A `Progress` that keeps titles and messages, and counts what bars were told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.messages: list[str] = []
        self.done = 0

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        del total
        self.titles.append(title)

        def advance(count: int) -> None:
            self.done += count

        yield advance

    def say(self, message: str) -> None:
        self.messages.append(message)

    def note(self, message: str) -> None:
        del message


class Barrier(Protocol):
    """A barrier of `multiprocessing`."""

    def wait(self) -> int: ...


class Answers(Protocol):
    """A queue of `multiprocessing`."""

    def put(self, answer: tuple[int, str]) -> None: ...


def prepare_at_once(source: str, cache: str, barrier: Barrier, answers: Answers) -> None:
    """Prepare a source when all processes are ready; answer how often it was done here, and the hash of the splits."""
    from unite_mm_molecule.data.prepare import open_prepared

    progress = Recorder()
    barrier.wait()
    request = DataRequest(source, Path(cache), progress=progress, workers=1)
    prepared = open_prepared(request, MoleculeConfig(), "qm9")
    answers.put((len(progress.titles), prepared.card.split_hash))


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
