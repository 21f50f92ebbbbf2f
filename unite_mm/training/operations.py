"""How much a training step computes: operations of matrix products, convolutions and attention, and seconds."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from unite_mm.progress import Progress
from unite_mm.registry.build import build_network, open_modalities
from unite_mm.training.feed import BatchFeed
from unite_mm.training.noise import Shard
from unite_mm.training.recipes import make_recipe
from unite_mm.training.shift import with_shift
from unite_mm.training.state import TrainState
from unite_mm.utils.threads import torch_threads
from unite_mm_schemas.base import MOST_STEPS
from unite_mm_schemas.config import RunConfig

ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4])
    ),
}
"""Operations of what torch's counter does not know."""

COUNTED = 4
"""Steps that are counted; batches of other lengths cost something else."""


@dataclass(frozen=True)
class StepCost:
    """What a training step costs.

    Attributes:
        operations: of its forward and backward passes, two for each multiplication with its sum; the mean of the
            counted steps. The optimizer's are left out.
        seconds: of those passes on this machine; the least of the counted steps.
        parameters: of the network.
    """

    operations: float
    seconds: float
    parameters: int


def counter() -> FlopCounterMode:
    """Torch's counter of operations, with what it does not know."""
    return FlopCounterMode(display=False, custom_mapping=ATTENTION)


def step_cost(config: RunConfig, cache: Path, progress: Progress) -> StepCost:
    """Count steps of a run on its own data, and time them with the threads of the run; nothing is trained.

    Args:
        config: the run; where its recipe has stages, each counts with its share of the run, and where it has a warm-up,
            steps after that count.
        cache: where prepared data lies.
        progress: where to show the preparation of data.

    Raises:
        UsageError, UniteError: the configuration or data cannot be used.
    """
    opened = open_modalities(config, cache, progress)
    modalities = {name: entry.modality for name, entry in opened.items()}
    network = build_network(config, modalities, {name: entry.statistics for name, entry in opened.items()})
    config = with_shift(config, network)
    device = torch.device("cuda" if config.train.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    recipe = make_recipe(config, network.to(device).train())
    recipe.start({name: entry.statistics for name, entry in opened.items()})
    TrainState(config, network, recipe)  # gives the recipe the average that it may look at
    feeds = {
        name: BatchFeed(config.train, number, entry.data, network.modules_of(name).layout, device, Shard())
        for number, (name, entry) in enumerate(opened.items())
    }

    def autocast() -> AbstractContextManager[Any]:
        mixed = config.train.precision == "bf16-mixed"
        return torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()

    def one_step(step: int) -> None:
        network.zero_grad(set_to_none=True)
        for name, feed in feeds.items():
            recipe.backward(name, feed.batch(step), feed.noise(step), autocast)
        if device.type == "cuda":
            torch.cuda.synchronize()

    operations = seconds = 0.0
    ends = (0.0, *recipe.boundaries, 1.0)
    for stage, (first, last) in enumerate(pairwise(ends), 1):
        recipe.enter(stage)
        recipe.step = MOST_STEPS  # later than any warm-up
        taken = []
        with torch_threads(config.train.threads):
            for step in range(COUNTED):
                with counter() as counted:
                    one_step(step)
                operations += (last - first) * counted.get_total_flops() / COUNTED
                start = time.perf_counter()
                one_step(step)
                taken.append(time.perf_counter() - start)
        seconds += (last - first) * min(taken)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return StepCost(operations, seconds, parameters)
