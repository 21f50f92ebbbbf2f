"""What several devices need: launch, precision, waiting for each other, agreeing, writing once.

Devices, precision and process launch come from Lightning Fabric. No recipe asks how many devices there are.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from unite_mm.errors import UniteError, UsageError
from unite_mm.training.fabric import Fabric
from unite_mm.training.noise import Shard
from unite_mm.utils.cores import threads_for
from unite_mm_schemas.config import TrainConfig

_START = 600.0
"""Seconds that processes may be apart when they start, at least."""

_ROLL_CALL = timedelta(seconds=10)
"""How long ranks have to answer when they are called because an exchange has failed."""

_EXCHANGE = re.compile(r"gloo|nccl|^Dist\w*Error", re.IGNORECASE)
"""Errors of an exchange between processes."""

_T = TypeVar("_T")


def launch(settings: TrainConfig) -> "Ranks":
    """Start the processes of a run, each with its share of the CPU's cores; one, where that was left open.

    Where torchrun or SLURM has started them, on one machine or several, this one takes its place among them.

    Raises:
        UsageError: what they started does not fit the run.
    """
    devices, machines = settings.devices or 1, nodes(settings.devices or 1)
    torch.set_num_threads(settings.threads or threads_for(devices))
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=devices,
            num_nodes=machines,
            precision=settings.precision,
            strategy=_strategy(settings) if devices * machines > 1 else "auto",
        )
        fabric.launch()
    except (ValueError, RuntimeError, KeyError) as error:
        if not started_elsewhere(devices):
            raise
        raise UsageError(
            f"this process cannot take its place among those that were started: {' '.join(str(error).split())}",
            "docs/clusters.md shows how torchrun and SLURM start a run",
        ) from error
    # An exchange of its own for calling the ranks: on GPUs the run's own cannot say who does not answer.
    roll = dist.new_group(backend="gloo") if fabric.world_size > 1 else None
    return Ranks(fabric, settings.timeout, roll=roll)


def _strategy(settings: TrainConfig) -> Any:
    from lightning_fabric.strategies.ddp import DDPStrategy

    return DDPStrategy(timeout=_patience(timedelta(seconds=settings.timeout)))


def _patience(timeout: timedelta) -> timedelta:
    """How long an exchange waits in which nobody is named."""
    return max(timeout, timedelta(seconds=_START))


def is_first_process(devices: int) -> bool:
    """Whether this process speaks for its run, before anything is launched.

    The processes for further devices run the same command: Fabric and torchrun number them in `RANK` and `LOCAL_RANK`,
    SLURM in `SLURM_PROCID`, where Fabric takes them for parts of one run.

    Args:
        devices: of the run, on this machine.
    """
    names = ["RANK", "LOCAL_RANK"] + (["SLURM_PROCID"] if devices * nodes(devices) > 1 and _in_slurm() else [])
    return all(os.environ.get(name, "0") == "0" for name in names)


def started_elsewhere(devices: int) -> bool:
    """Whether torchrun or SLURM starts the processes of the run, so that none of them starts the others."""
    several = devices * nodes(devices) > 1 and _in_slurm()
    return any(count > 1 for count in (_number("WORLD_SIZE"), _number("SLURM_NTASKS") if several else 1))


def processes_started_elsewhere() -> int | None:
    """How many processes torchrun or SLURM has started for the run on this machine; None where neither has.

    The processes that a run starts itself find the same variables: see `unite_mm.training.parallel.handed_on`.
    """
    if local := _number("LOCAL_WORLD_SIZE", 0) or _number("WORLD_SIZE", 0):
        return local
    if not _in_slurm():
        return None
    return _number("SLURM_NTASKS_PER_NODE", 0) or max(1, _number("SLURM_NTASKS") // _number("SLURM_NNODES")) or None


def nodes(devices: int) -> int:
    """Machines that take part in the run, as torchrun or SLURM says; 1 without them.

    SLURM's tasks are parts of one run where they are as many as the devices of all its machines; else each is a run of
    its own.

    Args:
        devices: of the run, on each machine.
    """
    if "WORLD_SIZE" in os.environ and "LOCAL_WORLD_SIZE" in os.environ:
        return max(1, _number("WORLD_SIZE") // _number("LOCAL_WORLD_SIZE"))
    if _in_slurm() and devices * _number("SLURM_NNODES") == _number("SLURM_NTASKS"):
        return _number("SLURM_NNODES")
    return 1


def goes_on() -> bool:
    """Whether a run folder that holds the run already is gone on with: torchrun or SLURM may run this command again.

    torchrun tells every process how often it may (`--max-restarts`), but not every one that it has.
    """
    return _number("TORCHELASTIC_MAX_RESTARTS", 0) > 0 or _number("SLURM_RESTART_COUNT", 0) > 0


def _number(name: str, otherwise: int = 1) -> int:
    """A positive number from the environment."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and 0 < int(text) < 10**6 else otherwise


def _in_slurm() -> bool:
    """Whether Fabric takes its processes from SLURM: in a job step, and not in an interactive shell."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


class Ranks:
    """The processes of a run, seen from one of them.

    Args:
        fabric: launched.
        timeout: seconds that one rank waits for another.
        group: by which they exchange on the CPU; None: the run's own, on its devices.
        roll: by which they are called; None: they are not.

    Attributes:
        shard: this rank's part of every batch.
    """

    def __init__(
        self,
        fabric: Fabric,
        timeout: float = 1800.0,
        *,
        group: dist.ProcessGroup | None = None,
        roll: dist.ProcessGroup | None = None,
    ) -> None:
        self._fabric = fabric
        self._timeout = timedelta(seconds=timeout)
        self._group, self._roll = group, roll
        self.shard = Shard(fabric.global_rank, fabric.world_size)

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks for the run: only it writes records, checkpoints and progress."""
        return self._fabric.is_global_zero

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self._fabric.device

    @property
    def _meets_on(self) -> torch.device:
        """Where the tensors lie that the ranks exchange."""
        return self.device if self._group is None else torch.device("cpu")

    def beside(self) -> "Ranks":
        """The same ranks, for what another thread exchanges beside the run; all of them call this together.

        Meetings of one group must come in one order, which two threads cannot keep.
        """
        if self.shard.ranks == 1:
            return self
        with self._meeting():
            group = dist.new_group(backend="gloo", timeout=_patience(self._timeout))
        return Ranks(self._fabric, self._timeout.total_seconds(), group=group)

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of forward passes in the precision of the run."""
        return self._fabric.autocast()

    def reduce(self, average: Callable[[], None]) -> None:
        """Call `average`, which reduces gradients over all ranks, once all of them have come.

        Raises:
            UniteError: a rank does not come in time; the message names it.
        """
        with self._meeting():
            if self._roll is not None:
                dist.monitored_barrier(self._roll, self._timeout)
            average()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """While the run trains: torch itself exchanges rows of weights on the way, wherever they are gathered.

        Raises:
            UniteError: another rank has ended or does not come.
        """
        try:
            yield
        except RuntimeError as error:
            if self.shard.ranks > 1 and _EXCHANGE.search(f"{type(error).__name__}: {error}"):
                raise self._left_alone(error) from error
            raise

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """While the ranks exchange something: says in one line if another does not come, or has ended."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.shard.ranks == 1:
                raise
            raise self._left_alone(error) from error

    def _left_alone(self, error: RuntimeError) -> UniteError:
        """What is said where another process did not come to a meeting."""
        missing = self._missing(error)
        for process in getattr(self._fabric.strategy.launcher, "procs", ()):
            process.kill()  # one that hangs would stay for ever
        who = "another process" if missing is None else f"process {missing} of {self.shard.ranks}"
        return UniteError(
            f"{who} has ended, or did not come within train.timeout={self._timeout.total_seconds():g} s",
            "see what it printed last; --resume goes on from the newest checkpoint",
        )

    def _missing(self, error: RuntimeError) -> int | None:
        """Which rank did not come, as the error says or a call of all ranks finds out; None: only the first knows."""
        if self.shard.ranks == 2:
            return 1 - self.shard.rank
        if self._roll is not None and "monitoredBarrier" not in str(error):
            try:
                dist.monitored_barrier(self._roll, _ROLL_CALL)
            except RuntimeError as found:
                error = found
        named = re.search(r"\bRanks? (\d+) failed", str(error))
        return int(named[1]) if named else None

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; the same answer on all."""
        if self.shard.ranks == 1:
            return flag
        shared = torch.tensor(float(flag), device=self._meets_on)
        with self._meeting():
            dist.all_reduce(shared, dist.ReduceOp.MAX, self._group)
        return bool(shared > 0)

    def from_first(self, value: float) -> float:
        """The value that the first rank has, on all ranks."""
        if self.shard.ranks == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self._meets_on)
        with self._meeting():
            dist.broadcast(shared, 0, self._group)
        return float(shared)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """The mean over all ranks of scalars that every rank has under the same names."""
        if self.shard.ranks == 1:
            return {name: float(value) for name, value in values.items()}
        shared = torch.stack([value.detach().float().to(self._meets_on) for value in values.values()])
        with self._meeting():
            dist.all_reduce(shared, group=self._group)
        return dict(zip(values, (shared / self.shard.ranks).tolist(), strict=True))

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on the CPU; the same on all."""
        if self.shard.ranks == 1:
            return values.cpu()
        shared = values.to(self._meets_on)
        with self._meeting():
            dist.all_reduce(shared, dist.ReduceOp.SUM, self._group)
        return shared.cpu()

    def together(self, action: Callable[[], _T]) -> _T:
        """What `action` returns on this rank, once it has on all of them.

        Raises:
            UniteError: it has on any rank.
        """
        failure: UniteError | None = None
        try:
            found = action()
        except UniteError as error:
            failure = error
        if self.any(failure is not None):
            raise failure or UniteError("another process of the run has failed", "see what it printed")
        return found

    def gathered(self, content: bytes) -> list[bytes]:
        """Bytes of all ranks, in their order; every rank gives as many."""
        if self.shard.ranks == 1:
            return [content]
        own = torch.tensor(list(content), dtype=torch.uint8, device=self._meets_on)
        all_of_them = [torch.empty_like(own) for _ in range(self.shard.ranks)]
        with self._meeting():
            dist.all_gather(all_of_them, own, self._group)
        return [bytes(one.tolist()) for one in all_of_them]
