"""How many cores this process may use."""

import os
import sys
from contextlib import suppress
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where a container says how much time of the processor it gets in a period."""


def cores() -> int:
    """Cores that this process may use, at least 1: those it is bound to, or fewer where its control group says so."""
    return max(1, min([_bound_to(), *_quota()]))


def thread_limit() -> int | None:
    """The threads of a process that `OMP_NUM_THREADS` asks for; None where it does not."""
    # OpenMP allows a list, one number for each level of nesting; the first is the outermost.
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(limit) if limit.isascii() and limit.isdecimal() and int(limit) > 0 else None


def threads_for(processes: int) -> int:
    """Threads for each of several processes that share the cores, at least 1 and never more than `OMP_NUM_THREADS`."""
    wanted = max(1, cores() // processes)
    return min(wanted, thread_limit() or wanted)


def _bound_to() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota() -> list[int]:
    """Whole cores of time that the control group of a container allows, where it limits them."""
    with suppress(OSError, ValueError):  # no control group, or no limit: `max`
        quota, period = QUOTA.read_text(encoding="ascii").split()
        return [int(quota) // int(period)]
    return []
