"""Where a training step of any modality spends its time: parts of the step, and the kernels or operators of it.

    python benchmarks/run_step.py --modality qm9 --data embedded --preset small [--cache FOLDER] [--set KEY=VALUE ...]
                                  [--repeats 10] [--device cpu] [--threads 1] [--no-profile]

It builds what `train` would build, on one device, makes steps until the shapes of the batches have been met, and then
times, with the device waited for in between: preparing the batch, gradients, clipping, optimizers with the average of
the weights; and whole steps without waiting in between. On a GPU the rest is idle time, as the profile shows.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from step_profile import where_kernels_go
from torch.profiler import ProfilerActivity, profile

from unite_mm.config import RunOptions, resolve
from unite_mm.progress import Silent
from unite_mm.registry import discover
from unite_mm.registry.build import open_modalities
from unite_mm.training.allocator import keep_freed_memory
from unite_mm.training.distribution import launch
from unite_mm.training.optim import Optimizers
from unite_mm.training.trainer import Trainer


def build(args: argparse.Namespace) -> Trainer:
    """The trainer of the run that the flags describe, ready for its first step."""
    assignments = (*args.set, f"train.accelerator={args.device}", "train.devices=1", f"train.threads={args.threads}")
    options = RunOptions(
        modalities=(args.modality,),
        preset=args.preset,
        sources=(args.data,) if args.data else (),
        assignments=(*assignments, "train.max_steps=1000000"),
    )
    config = resolve(options, discover())
    opened = open_modalities(config, args.cache, Silent(), 0)
    trainer = Trainer(config, Path(tempfile.mkdtemp()) / "run", opened, launch(config.train), Silent())
    trainer.network.train()
    return trainer


def whole_step(trainer: Trainer) -> None:
    """One optimizer step."""
    trainer.train_step(0.5)
    trainer.state.step += 1


def parts(trainer: Trainer, wait: Callable[[], None]) -> dict[str, float]:
    """Seconds of each part of one step, waiting for the device after each."""
    taken: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        found = work()
        wait()
        taken[name] = time.perf_counter() - start
        return found

    name, feed = next(iter(trainer.feeds.items()))
    optimizers: Optimizers = trainer.state.optimizers
    optimizers.zero_grad()
    batch = timed("batch", lambda: feed.batch(trainer.state.step))
    noise = feed.noise(trainer.state.step)
    timed("gradients", lambda: trainer.gradients(name, batch, noise, trainer.ranks.autocast))
    timed("clipping", trainer.state.clip)
    timed("optimizers and average", lambda: trainer.state.update(0.5))
    trainer.state.step += 1
    return taken


def main() -> None:
    """Build, warm up, time, profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modality", required=True)
    parser.add_argument("--data", help="the modality's usual data if left out")
    parser.add_argument("--preset")
    parser.add_argument("--cache", type=Path, default=user_cache_path("unite-mm"))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--warm-up", type=int, default=20, help="steps before anything is timed")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    keep_freed_memory()
    trainer = build(args)
    cuda = trainer.ranks.device.type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if cuda else lambda: None
    start = time.perf_counter()
    whole_step(trainer)
    wait()
    print(f"first step: {time.perf_counter() - start:.1f} s")
    for _ in range(args.warm_up):
        whole_step(trainer)
    wait()
    found = [parts(trainer, wait) for _ in range(args.repeats)]
    size = trainer.config.train.batch_size
    medians = {name: statistics.median(row[name] for row in found) for name in found[0]}
    for name, seconds in medians.items():
        print(f"{name:>22} {1000 * seconds:>8.1f} ms")
    start = time.perf_counter()
    for _ in range(args.repeats):
        whole_step(trainer)
    wait()
    seconds = (time.perf_counter() - start) / args.repeats
    print(f"{'whole step':>22} {1000 * seconds:>8.1f} ms, {size / seconds:,.0f} samples/s at batch {size}")
    if args.profile and cuda:
        where_kernels_go(lambda: whole_step(trainer), {})
    elif args.profile:
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            whole_step(trainer)
        print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60))


if __name__ == "__main__":
    main()
