"""Commands of the program as child processes of one that has imported everything: a start takes milliseconds.

A forked child runs the real entry point with arguments, standard streams, process group and exit handlers of its own;
what it lacks of a fresh interpreter are the imports and the end of the interpreter. `Program` therefore starts every
50th command as a fresh one.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Before torch is loaded: a process with threads cannot be forked.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

FRESH = 50
"""Every so many commands one is a fresh interpreter."""

TIMED_OUT = 124
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; minus the signal that ended it; 124 past the time limit.
        printed: standard output and error.
        peak: most memory of the process or of one of its children, in MiB. What a forked child shares with its parent
            counts, about 600 MiB.
        seconds: how long it computed, itself and its children: on a busy machine the clock says nothing.
        clock: how long it took by the clock.
    """

    code: int
    printed: str
    peak: float
    seconds: float
    clock: float


class Child:
    """A process that was started, in a group of its own.

    Args:
        pid: the process.
        output: the file that it writes to.
    """

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self.output = pid, output
        self.started = time.monotonic()
        self._descriptor = os.pidfd_open(pid)

    def runs(self, seconds: float = 0) -> bool:
        """Whether it still runs after so long a wait."""
        return not select.select([self._descriptor], [], [], seconds)[0]

    def kill(self) -> Ended:
        """End it and all its children at once."""
        os.killpg(self.pid, signal.SIGKILL)
        return self.wait(None)

    def wait(self, seconds: float | None) -> Ended:
        """Wait for its end; kill it where that takes longer than so many seconds."""
        late = seconds is not None and self.runs(seconds)
        if late:
            os.killpg(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        taken = time.monotonic() - self.started
        os.close(self._descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # children that it left behind
        code = TIMED_OUT if late else os.waitstatus_to_exitcode(status)
        return Ended(
            code,
            self.output.read_text(errors="replace"),
            usage.ru_maxrss / 1024,
            usage.ru_utime + usage.ru_stime,
            taken,
        )


def forked(work: Callable[[], object], output: Path) -> Child:
    """Do something in a forked child; its exit code is that of the `SystemExit` it raises, or 1 after another error."""
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"{len(threads)} threads: this process cannot be forked"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, output)
    code = 1
    try:
        _become_own_process(output)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # what an interpreter would print, and exit with
        traceback.print_exc()
    finally:
        try:
            threading._shutdown()  # type: ignore[attr-defined] # what an interpreter does at its end
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _become_own_process(output: Path) -> None:
    """In a forked child: a session, standard streams and random numbers of its own."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor, number in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(descriptor, number)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()


def fresh(words: Sequence[object], output: Path) -> Child:
    """Start a command in a new interpreter."""
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "unite_mm.cli.main", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process.returncode = 0  # it is waited for here, not by this object
    return Child(process.pid, output)


class Program:
    """The program, as trials run it.

    Args:
        scratch: folder for what commands print.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.count = scratch, 0
        self.last: Ended | None = None

    def start(self, words: Sequence[object]) -> Child:
        """Start a command."""
        self.count += 1
        output = self.scratch / "printed"
        if self.count % FRESH == 0:
            return fresh(words, output)

        def work() -> None:
            from unite_mm.cli.main import main

            sys.argv = ["unite-mm", *map(str, words)]
            main()

        return forked(work, output)

    def run(self, words: Sequence[object], limit: float = 3600) -> Ended:
        """Run a command to its end, or to a limit in seconds of the clock."""
        self.last = self.start(words).wait(limit)
        return self.last

    def import_what_it_needs(self, *commands: Sequence[object]) -> None:
        """Run commands in a child, and import here all modules that it had at its end."""
        listed = self.scratch / "modules.json"

        def work() -> None:
            from unite_mm.cli.main import run

            for words in commands:
                if run(list(map(str, words))):
                    raise SystemExit(1)
            listed.write_text(json.dumps(list(sys.modules)))

        ended = forked(work, self.scratch / "printed").wait(3600)
        assert ended.code == 0, ended.printed
        for name in json.loads(listed.read_text()):
            try:
                importlib.import_module(name)
            except Exception:  # what only its package can load
                continue
        gc.freeze()  # children that collect garbage need not copy all of it
