"""How many cores this process may use."""

import os
import sys


def cores() -> int:
    """Cores that this process may use, at least 1: those it is bound to, which may be fewer than the machine has."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(processes: int) -> int:
    """Threads for each of several processes that share the cores, at least 1 and never more than `OMP_NUM_THREADS`."""
    wanted = max(1, cores() // processes)
    # OpenMP allows a list, one number for each level of nesting; the first is the outermost.
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(wanted, int(limit)) if limit.isascii() and limit.isdecimal() and int(limit) > 0 else wanted
