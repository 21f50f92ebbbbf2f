"""The command line in processes of its own, forked from one that has loaded the libraries.

Loading them takes four seconds, and a test of interrupted runs needs several processes. These read their words, write,
hear signals and end as `unite-mm WORDS` does. Tests of the start itself begin with a fresh interpreter.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from unite_mm.cli.main import main

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["torch._dynamo", "unite_mm.cli.train", "unite_mm.training.trainer", "unite_mm.api"])


def _command(words: tuple[str, ...], output: str, environment: dict[str, str]) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["unite-mm", *words]
    main()


class Command:
    """`unite-mm WORDS` at work.

    Args:
        words: the command line.
        output: file for what it prints, on both streams.
        environment: all of its variables; None: those of the test, and one thread.
    """

    def __init__(self, *words: str, output: Path, environment: dict[str, str] | None = None) -> None:
        whole = {**os.environ, "OMP_NUM_THREADS": "1"} if environment is None else environment
        self.output = output
        self._process = FORKED.Process(target=_command, args=(words, str(output), whole))
        self._process.start()

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait until something holds, which must be before the command ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.running(), f"it ended before the awaited point: {self.said()}"
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def end(self, code: int = 0, seconds: float = 120) -> str:
        """Wait for its end with an exit code, negative for a signal; what it has printed."""
        self._process.join(seconds)
        if self.running():
            self._process.kill()
            self._process.join()
            raise AssertionError(f"it did not end: {self.said()}")
        assert self._process.exitcode == code, self.said()
        return self.said()

    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""
