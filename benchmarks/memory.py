"""Peak memory of training against the number of flow minibatches.

    python benchmarks/memory.py [--draws 1 4 14] [--batch 256] [--width 128]

Trains a few steps of the `tiny` preset on the embedded molecules in a fresh process for each number of flow
minibatches (one per pass, `flow.chunk=1`) and prints the peak resident memory, and what it adds to the memory held
before the first step: with every minibatch back-propagated at once, neither should grow.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from unite_mm.config import RunOptions, resolve
from unite_mm.progress import Silent
from unite_mm.registry import discover
from unite_mm.registry.build import open_modalities
from unite_mm.training.distribution import launch
from unite_mm.training.trainer import Trainer


def own_peak() -> float:
    """Most resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # `ru_maxrss` of a child begins at what its parent held when it started it
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(draws: int, batch: int, width: int, steps: int) -> tuple[float, float]:
    """Memory in MiB before the first step and at the peak of this process."""
    settings = (
        f"flow.draws={draws}",
        "flow.chunk=1",
        f"train.batch_size={batch}",
        f"trunk.width={width}",
        "train.threads=1",
        "train.accelerator=cpu",
    )
    options = RunOptions(
        modalities=("qm9",), sources=("embedded",), assignments=settings, flags={"train": {"max_steps": 9}}
    )
    config = resolve(options, discover())
    with tempfile.TemporaryDirectory() as folder:
        opened = open_modalities(config, Path(folder), Silent(), workers=1)
        trainer = Trainer(config, Path(folder) / "run", opened, launch(config.train), Silent())
        before = own_peak()
        for trainer.state.step in range(steps):
            trainer.train_step(0.0)
    return before, own_peak()


def main() -> None:
    """Measure each number of draws in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 4, 14])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(*measure(args.one, args.batch, args.width, args.steps))
        return
    first: float | None = None
    print(f"{'draws':>5}  {'peak MiB':>9}  {'added by training MiB':>21}  {'peak / first':>12}")
    for draws in args.draws:
        more = ["--one", str(draws), "--batch", str(args.batch), "--width", str(args.width), "--steps", str(args.steps)]
        result = subprocess.run([sys.executable, __file__, *more], check=True, capture_output=True, text=True)
        before, peak = map(float, result.stdout.split()[-2:])
        first = first or peak
        print(f"{draws:>5}  {peak:>9.0f}  {peak - before:>21.0f}  {peak / first:>12.3f}", flush=True)


if __name__ == "__main__":
    main()
