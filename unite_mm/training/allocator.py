"""Keeps the C allocator from returning memory to the system after every step.

With glibc's defaults, tensors of a few hundred kilobytes are mapped and unmapped anew each step, and training on a CPU
spends a good part of its time in page faults: small models most of all, but a tenth of it at the published sizes too.
A threshold cannot prevent that for the largest tensors, because glibc takes none above 32 MiB.
"""

import ctypes
import sys

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory; does nothing on other C libraries."""
    if not sys.platform.startswith("linux"):
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    set_option(M_MMAP_MAX, 0)
    set_option(M_TRIM_THRESHOLD, 2**31 - 1)
    set_option(M_TOP_PAD, 64 << 20)
