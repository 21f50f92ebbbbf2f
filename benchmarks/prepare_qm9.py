"""How long preparing QM9 from its raw files takes, how much memory, and how fast the result opens and yields batches.

    python benchmarks/prepare_qm9.py qm9.zip [--workers N]

Prints seconds from the raw file to the opened data set (by the clock, and of all cores together, which other work on
the machine changes less), the peak resident memory of all processes together, seconds to open it again in a fresh
process, and molecules per second of augmented batches. Linux only: memory is read from /proc.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REOPEN = """
import sys, time
from pathlib import Path
import torch
from unite_mm.contract import DataRequest
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.dataset import open_data
torch.set_num_threads(1)
start = time.perf_counter()
data = open_data(DataRequest(sys.argv[1], Path(sys.argv[2])), MoleculeConfig(), "qm9")
opened = time.perf_counter() - start
rows = torch.randint(data.size("train"), (400, 64))
generator = torch.Generator().manual_seed(0)
start = time.perf_counter()
for row in rows:
    data.batch("train", row, generator)
rate = rows.numel() / (time.perf_counter() - start)
print(opened, rate, "rdkit" in sys.modules)
"""


def resident(process: int) -> int:
    """Resident bytes of a process and all its descendants; shared pages count once for each."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        children = Path(f"/proc/{process}/task").glob("*/children")
        total = pages * os.sysconf("SC_PAGE_SIZE")
        return total + sum(resident(int(child)) for listed in children for child in listed.read_text().split())
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in usage)


class Peak:
    """Samples the memory of this process and its descendants ten times a second."""

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.bytes = max(self.bytes, resident(os.getpid()))


def main() -> None:
    """Prepare into an empty cache, then open again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="qm9.zip, a folder with the raw files, or any source that --data takes")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    arguments = parser.parse_args()

    from unite_mm.contract import DataRequest
    from unite_mm.kit.parallel import cores
    from unite_mm_molecule.config import MoleculeConfig
    from unite_mm_molecule.data.dataset import open_data

    with tempfile.TemporaryDirectory() as cache:
        with Peak() as peak:
            before, start = cpu_seconds(), time.perf_counter()
            data = open_data(
                DataRequest(arguments.source, Path(cache), workers=arguments.workers), MoleculeConfig(), "qm9"
            )
            seconds = time.perf_counter() - start
        cpu = cpu_seconds() - before
        load = os.getloadavg()[0]
        command = [sys.executable, "-c", REOPEN, arguments.source, cache]
        again = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    print(f"data        {data.card.description}: {data.card.kept} kept of {data.card.read}")
    print(f"prepared in {seconds:.1f} s with {arguments.workers or cores()} processes (load average {load:.1f})")
    print(f"            {cpu:.1f} s of CPU time, all processes together")
    print(f"peak memory {peak.bytes / 2**20:.0f} MiB, all processes together")
    print(f"reopened in {float(again[0]):.2f} s, RDKit loaded: {again[2]}")
    print(f"batches     {float(again[1]):,.0f} molecules/s, 64 at a time, rotated, one thread")


if __name__ == "__main__":
    main()
