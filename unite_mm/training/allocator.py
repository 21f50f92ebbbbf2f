"""Keeps the C allocator from returning memory to the system after every step.

With glibc's defaults, tensors of a few hundred kilobytes are mapped and unmapped anew each step, and small models on a
CPU spend a good part of their time in page faults. Raising two thresholds keeps the memory in the process.
"""

import ctypes
import sys

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory; does nothing on other C libraries."""
    if not sys.platform.startswith("linux"):
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    set_option(M_MMAP_THRESHOLD, 32 << 20)
    set_option(M_TRIM_THRESHOLD, 2**31 - 1)
    set_option(M_TOP_PAD, 64 << 20)
