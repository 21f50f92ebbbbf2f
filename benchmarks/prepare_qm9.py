"""How long preparing QM9 takes, how much memory, and how fast the result opens and yields batches.

    python benchmarks/prepare_qm9.py [SOURCE] [--workers N]

SOURCE is whatever `--data` takes; without it, QM9 from the installed package qm9pack (else downloaded). Prints what was
read and left out, seconds to the opened data set (by the clock, and of all cores together, which other work on the
machine changes less), the peak resident memory of all processes together, the size of the cache, seconds to open it
again in a fresh process, and molecules per second of augmented batches. Linux only: memory is read from /proc.
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
start, before = time.perf_counter(), time.process_time()
data = open_data(DataRequest(sys.argv[1], Path(sys.argv[2])), MoleculeConfig(), "qm9")
opened, cpu = time.perf_counter() - start, time.process_time() - before
known = int((~data.properties("train").isnan()).any(0).sum())
rows = torch.randint(data.size("train"), (400, 64))
generator = torch.Generator().manual_seed(0)
start = time.perf_counter()
for row in rows:
    data.batch("train", row, generator)
rate = rows.numel() / (time.perf_counter() - start)
print(opened, cpu, rate, "rdkit" in sys.modules, known)
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
    parser.add_argument("source", nargs="?", default="qm9", help="any source that --data takes (default: qm9)")
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
        size = sum(file.stat().st_size for file in Path(cache).rglob("*") if "downloads" not in file.parts)
        command = [sys.executable, "-c", REOPEN, arguments.source, cache]
        again = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    opened, opened_cpu, rate, rdkit, known = again
    print(f"data        {data.card.description}: {data.card.kept} kept of {data.card.read}")
    for entry in data.card.excluded:
        print(f"            left out: {entry.count:,}, {entry.reason}")
    for note in data.card.notes:
        print(f"            {note}")
    print(f"prepared in {seconds:.1f} s with {arguments.workers or cores()} processes (load average {load:.1f})")
    print(f"            {cpu:.1f} s of CPU time, all processes together")
    print(f"peak memory {peak.bytes / 2**20:.0f} MiB, all processes together")
    print(f"cache       {size / 2**20:.0f} MiB, {known} properties")
    print(f"reopened in {float(opened):.2f} s ({float(opened_cpu):.2f} s of CPU time), RDKit loaded: {rdkit}")
    print(f"batches     {float(rate):,.0f} molecules/s, 64 at a time, rotated, one thread")


if __name__ == "__main__":
    main()
