"""One of two processes that compute steps together; importable by the processes that a test starts."""

import multiprocessing
from collections.abc import Sequence
from typing import Any

import torch
from unite_mm_toy.points import PointBatch

from helpers.toy_models import all_gradients, make_batch, make_noise, make_regime
from unite_mm.contract import Registers
from unite_mm.training import reduction
from unite_mm.training.noise import Shard
from unite_mm.training.optim import Optimizers
from unite_mm_schemas.config import OptimConfig

Case = tuple[str, int, dict[str, Any]]
"""A regime, one of its stages, and further sections of the configuration."""


def one_rank(rank: int, port: int, cases: Sequence[Case], queue: "multiprocessing.Queue[Any]") -> None:
    """Reduce the gradients of this rank's half of a batch, case by case; the first rank puts them into the queue."""
    torch.set_num_threads(1)
    reduction.BUCKET = 1000  # so that there are several
    store = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found = []
    for name, stage, changes in cases:
        recipe = make_regime(name, stage=stage, **changes)
        optimizers = Optimizers(recipe.groups(), OptimConfig())
        optimizers.zero_grad()
        joined = make_batch(8)
        part = slice(4 * rank, 4 * rank + 4)
        registers = Registers(joined.registers.mask[part], True)
        assert joined.condition is not None
        batch = PointBatch(joined.points[part], registers, joined.condition[part])
        recipe.backward("points", batch, make_noise(recipe.network, 8, Shard(rank, 2)))
        reduction.reduce_gradients(optimizers.parameters)
        found.append({key: value.numpy() for key, value in all_gradients(recipe).items()})
    if rank == 0:
        queue.put(found)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
