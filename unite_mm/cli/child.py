"""A command in a process that ends with the one that started it: `python -m unite_mm.cli.child WORDS`.

Where the system can tell it (Linux), it gets SIGTERM when its parent is gone, however that ended; training then saves.
"""

import ctypes
import signal
import sys

from unite_mm.cli.main import main

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask for SIGTERM when the process that started this one ends."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    end_with_parent()
    main()
