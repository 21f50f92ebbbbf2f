"""Locks: one process at a time in a folder, and folders that are being read are not removed.

The operating system holds these locks (`flock`) and drops them with the process, however it ends: none goes stale.
Where a file system has no locks, everything goes on without.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from unite_mm.errors import UsageError

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The file in a locked folder; it holds who locked it."""

PATIENCE = 5
"""How often a lock is tried, 20 ms apart."""

_held: dict[Path, int] = {}
"""Folders that this process has locked, with the thread that did."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the context is open; the thread that holds it may enter again.

    The folder is made where it is missing, and removed at the end if nothing was put into it.

    Raises:
        UsageError: another process is in it; the message names it.
        OSError: the folder cannot be made, or not written to.
    """
    own = folder.resolve()
    if _held.get(own) == threading.get_ident():
        yield
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(folder / LOCK, folder)
    _held[own] = threading.get_ident()
    try:
        yield
    finally:
        del _held[own]
        (folder / LOCK).unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)
        if made:
            _remove_if_empty(folder)


def check_free(folder: Path) -> None:
    """Refuse a folder that another process has locked.

    Raises:
        UsageError: one has; the message names it.
    """
    path = folder / LOCK
    if fcntl is None or not path.is_file() or folder.resolve() in _held:
        return
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(path, folder) from None
    except OSError:
        return


def _acquire(path: Path, folder: Path) -> int | None:
    """The descriptor that holds the lock; None where there are no locks."""
    if fcntl is None:
        return None
    tries = 0
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            tries += 1
            if tries == PATIENCE:
                raise _in_use(path, folder) from None
            time.sleep(0.02)  # somebody may only be looking
            continue
        except OSError:  # this file system has none
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            break
        os.close(descriptor)  # its holder has just removed it: what was locked is no file of this name any more
    who = {"process": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    who["program"] = Path(sys.argv[0]).name if sys.argv else ""
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(who).encode())
    return descriptor


def _in_use(path: Path, folder: Path) -> UsageError:
    try:
        who = json.loads(path.read_bytes())
        process, host, since = int(who["process"]), str(who["host"]), str(who["since"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return UsageError(f"{folder} is in use by another process", "wait until it ends, or stop it")
    return UsageError(
        f"{folder} is in use by process {process} on {host}, since {since}",
        f"wait until it ends, or stop it: kill {process}",
    )


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


class Hold:
    """Keeps a file's folder from being removed by `free_to_remove`, until it is released.

    Args:
        path: the file; where it cannot be opened nothing is held.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            self._descriptor = None
            return
        if fcntl is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return  # about to be removed, which `is_there` tells; or no locks here

    @property
    def is_there(self) -> bool:
        """Whether what was there at the beginning is still there under its name."""
        if self._descriptor is None:
            return self.path.parent.exists() and not self.path.exists()
        return _is_at(self._descriptor, self.path)

    def release(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def free_to_remove(path: Path) -> Iterator[bool]:
    """Whether nobody holds a file; while the context is open nobody gets hold of it either."""
    if fcntl is None:
        yield True
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            yield True
            return
        yield True
    finally:
        os.close(descriptor)
