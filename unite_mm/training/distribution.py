"""What several devices need: launch, precision, reducing and clipping gradients, agreeing, writing once.

Devices, precision and process launch come from Lightning Fabric. No recipe asks how many devices there are.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unite_mm.training.fabric import Fabric
from unite_mm.training.noise import Shard
from unite_mm.utils.cores import threads_for
from unite_mm_schemas.config import TrainConfig


def launch(settings: TrainConfig) -> "Ranks":
    """Start the processes of a run, each with its share of the CPU's cores; one, where that was left open."""
    devices = settings.devices or 1
    torch.set_num_threads(settings.threads or threads_for(devices))
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=devices,
        precision=settings.precision,
        strategy="ddp" if devices > 1 else "auto",
    )
    fabric.launch()
    return Ranks(fabric)


def is_first_process(devices: int) -> bool:
    """Whether this process speaks for its run, before anything is launched.

    The processes for further devices run the same command: Fabric and torchrun number them in `RANK` and `LOCAL_RANK`,
    SLURM in `SLURM_PROCID`, where Fabric takes them for parts of one run.

    Args:
        devices: of the run.
    """
    names = ["RANK", "LOCAL_RANK"] + (["SLURM_PROCID"] if devices > 1 and _in_slurm() else [])
    return all(os.environ.get(name, "0") == "0" for name in names)


def started_elsewhere(devices: int) -> bool:
    """Whether torchrun or SLURM starts the processes of the run, so that none of them starts the others."""
    tasks = os.environ.get("SLURM_NTASKS", "1") if devices > 1 and _in_slurm() else "1"
    return any(count.isdecimal() and int(count) > 1 for count in (os.environ.get("WORLD_SIZE", "1"), tasks))


def processes_started_elsewhere() -> int | None:
    """How many processes torchrun or SLURM has started for the run on this machine; None where neither has.

    The processes that a run starts itself find the same variables: see `unite_mm.training.parallel.handed_on`.
    """
    names = ["LOCAL_WORLD_SIZE", "WORLD_SIZE"] + (["SLURM_NTASKS_PER_NODE", "SLURM_NTASKS"] if _in_slurm() else [])
    found = (os.environ.get(name, "") for name in names)
    return next((int(count) for count in found if count.isdecimal() and int(count) > 0), None)


def _in_slurm() -> bool:
    """Whether Fabric takes its processes from SLURM: in a job step, and not in an interactive shell."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


class Ranks:
    """The processes of a run, seen from one of them.

    Args:
        fabric: launched.

    Attributes:
        shard: this rank's part of every batch.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.shard = Shard(fabric.global_rank, fabric.world_size)

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks for the run: only it writes records, checkpoints and progress."""
        return self._fabric.is_global_zero

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self._fabric.device

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of forward passes in the precision of the run."""
        return self._fabric.autocast()

    def reduce_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients over all ranks, once, after every backward pass of the step."""
        reduce_gradients(parameters)

    def clip_gradients(self, parameters: list[nn.Parameter], limit: float) -> Tensor:
        """Scale reduced gradients down to a global norm of `limit`; returns the norm they had, ()."""
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; the same answer on all."""
        if self.shard.ranks == 1:
            return flag
        shared = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return bool(shared > 0)

    def from_first(self, value: float) -> float:
        """The value that the first rank has, on all ranks."""
        if self.shard.ranks == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on the CPU; the same on all."""
        if self.shard.ranks == 1:
            return values.cpu()
        shared = values.to(self.device)
        dist.all_reduce(shared, dist.ReduceOp.SUM)
        return shared.cpu()

    def save(self, write: Callable[[], None]) -> None:
        """Call `write` on the first rank; the others wait for it."""
        if self.is_first:
            write()
        self._fabric.barrier()


def reduce_gradients(parameters: list[nn.Parameter]) -> None:
    """Average the gradients over all ranks, once, after every backward pass of the step.

    DistributedDataParallel's own hook would fire in each backward pass and leave out what the last did not touch.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def average(values: Tensor) -> Tensor:
    """The mean of a tensor over all ranks: what a rank needs to know of the joined batch while it computes a step."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    shared = values.clone()
    dist.all_reduce(shared)
    return shared / dist.get_world_size()
