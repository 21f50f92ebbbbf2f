"""How long training waits for a checkpoint that is written beside it, and how much slower its steps are meanwhile.

    python benchmarks/checkpoint_wait.py [--preset imagenet256-base] [--repeats 3] [--folder DIR]

The weights, average and optimizer state of an image preset, with random numbers, are saved as a run saves them. `waits`
is what the call takes, `writes` until the folder has its name; `whole` is the sum, which training waited for when it
did not go on. Meanwhile this process multiplies matrices: `slower` is their time over that without a checkpoint.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from unite_mm.config import RunOptions, resolve
from unite_mm.progress import Silent
from unite_mm.registry import discover
from unite_mm.registry.build import build_network, load_modalities
from unite_mm.storage.runs import checkpoints_of
from unite_mm.training.distribution import launch
from unite_mm.training.recipes import make_recipe
from unite_mm.training.run_folder import RunFolder
from unite_mm.training.state import TrainState


def build(preset: str) -> TrainState:
    """The state of a run after one step."""
    settings = ("image.lpips_weight=0", "train.max_steps=1", "train.devices=1", "train.accelerator=cpu")
    config = resolve(RunOptions(modalities=("image",), preset=preset, assignments=settings), discover())
    statistics_of_images = {"image": {"classes": ["a", "b"], "class_counts": [1, 1]}}
    network = build_network(config, load_modalities(config), statistics_of_images)
    state = TrainState(config, network, make_recipe(config, network))
    state.begin()
    for parameter in state.optimizers.parameters:
        parameter.grad = torch.randn_like(parameter)
    state.update(0.0)
    state.optimizers.zero_grad()
    return state


def product() -> float:
    """Seconds of a matrix product between the small calls that a step is made of."""
    left = torch.ones(512, 512)
    began = time.perf_counter()
    for _ in range(20):
        left = (left @ left).mul_(1e-3).add_(1.0)
    return time.perf_counter() - began


def measure(state: TrainState, folder: RunFolder) -> tuple[float, float, float]:
    """Seconds that the call takes, that writing takes after it, and how much slower products are meanwhile."""
    alone = statistics.median(product() for _ in range(20))
    state.step += 1
    began = time.perf_counter()
    ranks = launch(state.config.train)
    with folder.saving(ranks):
        folder.save(state, ranks)
        waited = time.perf_counter() - began
        beside = []
        while not checkpoints_of(folder.path) or not checkpoints_of(folder.path)[-1].name.endswith(f"{state.step:04d}"):
            beside.append(product())
        written = time.perf_counter() - began - waited
    return waited, written, statistics.median(beside) / alone


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="imagenet256-base")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; by default among temporary files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    state = build(args.preset)
    size = sum(value.numel() * value.element_size() for stem in state.tensors().values() for value in stem.values())
    print(f"{args.preset}: {size / 1e9:.2f} GB a checkpoint")
    place = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        folder = RunFolder(place, state.config, {}, Silent())
        print("waits, s  writes, s  whole, s  slower")
        for _ in range(args.repeats):
            waited, written, slower = measure(state, folder)
            print(f"{waited:8.2f}  {written:9.2f}  {waited + written:8.2f}  {slower:6.2f}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
