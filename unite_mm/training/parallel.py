"""How a run uses the machine it finds: processes, threads for each, compiled blocks or not, weights whole or in rows.

`train.devices`, `train.threads`, `train.compile` and `train.strategy` say it; what of them is `auto` is decided once,
when a run begins, by `decide`: a pure function of the configuration and of the machine, as `observe` finds it. The
configuration of the run then holds numbers, so that `--resume` and the run's other processes do the same. The figures
behind the rules are in docs/experiments/default-command.md.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from unite_mm.errors import UsageError
from unite_mm.training.distribution import nodes, processes_started_elsewhere
from unite_mm.utils.compilers import find_compiler
from unite_mm.utils.cores import cores, thread_limit
from unite_mm.utils.memory import device_memory, machine_memory
from unite_mm_schemas.combinations import FINE_TUNES, not_sharded
from unite_mm_schemas.config import RunConfig, Strategy, TrainConfig

DECIDED = "UNITE_MM_PARALLEL"
"""Environment variable that tells the processes a run starts for its other devices what was decided."""

Kind = Literal["cpu", "cuda", "mps"]

PROCESSES_PAY_AFTER = 60.0
"""Seconds from which on a run on a CPU earns the start of further processes, which takes some 5 s."""

COMPILING_PAYS_AFTER: dict[Kind, float] = {"cpu": 600, "cuda": 1800, "mps": float("inf")}
"""Seconds from which on a run earns what compiling takes: some 45 s of two cores, a minute and more beside a GPU."""

LEAST_SAMPLES = 8
"""Samples of a batch that each CPU process has at least: with fewer, a step is mostly calls."""

PROCESS_BYTES = 2 << 30
"""Memory of a CPU process beside its weights, gradients and moments: torch, data, activations."""

COPIES = 5
"""Numbers that a parameter takes in all: itself, its gradient, its average and two moments."""

ROOM = 0.5
"""Share of a device's memory that these may fill; the rest is for activations."""

TOKENS = 16
"""Tokens of a sample, where nobody has opened the data yet: those of a small molecule."""

PRODUCTS = {"cpu": 8e9, "cuda": 5e12, "mps": 5e11}
"""Products with a weight in a second of training, of a core or of a GPU."""


@dataclass(frozen=True)
class Machine:
    """What a machine offers a run.

    Attributes:
        kind: of the devices that compute.
        cores: that the run may use.
        gpus: of that kind.
        memory: bytes.
        device_memory: bytes of each GPU; None: the processes share the memory of the machine.
        compiler: the name of a compiler that works; None: none was found, or none was looked for.
        thread_limit: threads of each process that the user asked for in the environment.
        started: processes that torchrun or SLURM have started for the run on this machine; None: they have not.
        nodes: machines on which they have.
        may_start: whether the run may start processes of its own: the command line may, a library call may not.
    """

    kind: Kind = "cpu"
    cores: int = 1
    gpus: int = 0
    memory: int = 8 << 30
    device_memory: int | None = None
    compiler: str | None = None
    thread_limit: int | None = None
    started: int | None = None
    nodes: int = 1
    may_start: bool = True


@dataclass(frozen=True)
class Decision:
    """How a run uses its machine.

    Attributes:
        config: the run, with nothing left open.
        text: it in words.
        notes: what the user should know.
    """

    config: RunConfig
    text: str
    notes: tuple[str, ...] = ()


def settle(config: RunConfig, *, may_start: bool, resumed: bool = False) -> Decision:
    """Decide for the machine that this is; what the configuration says already stays.

    Args:
        config: the run.
        may_start: whether it may start processes of its own.
        resumed: say what this machine would do otherwise.

    Raises:
        UsageError: as `decide`.
    """
    machine = observe(config, may_start=may_start, resumed=resumed)
    if resumed and machine.started is not None:  # whoever started the processes says how many there are this time
        config = config.model_copy(update={"train": config.train.model_copy(update={"devices": None})})
    decision = decide(config, machine)
    return replace(decision, notes=differences(decision.config, machine)) if resumed else decision


def decide(config: RunConfig, machine: Machine) -> Decision:
    """What is fastest on a machine for a run of this length; the same machine and run give the same decision.

    Raises:
        UsageError: there are fewer GPUs than the run was told to use, or processes that were started elsewhere cannot
            share the batch.
    """
    settings = config.train
    _check_gpus(settings, machine)
    seconds = expected_seconds(config, machine)
    compiles = seconds >= COMPILING_PAYS_AFTER[machine.kind]
    devices = settings.devices or _devices(config, machine, seconds)
    _check_started(settings, machine, devices)
    wanted = max(1, machine.cores // devices)
    changes: dict[str, Any] = {
        "devices": devices,
        "threads": settings.threads or min(wanted, machine.thread_limit or wanted),
        "compile": compiles and machine.compiler is not None if settings.compile is None else settings.compile,
        "strategy": _strategy(config, machine, devices),
    }
    if settings.devices is None and settings.accelerator == "auto":
        changes["accelerator"] = machine.kind
    decided = config.model_copy(update={"train": settings.model_copy(update=changes)})
    notes = _notes(settings, machine, compiles)
    return Decision(decided, describe(decided.train, machine), notes)


def expected_seconds(config: RunConfig, machine: Machine) -> float:
    """Seconds that a run takes: its length in time, or a rough guess from the size of the trunk.

    The guess is too small where samples have more tokens than a small molecule: such a run may miss a gain, and a short
    run never pays for one.
    """
    settings = config.train
    if settings.max_steps is None:
        return settings.max_time or 0.0
    passes = 1 if config.recipe.kind in FINE_TUNES else 1 + config.flow.draws
    products = _trunk_weights(config) * TOKENS * settings.batch_size * passes * len(config.modalities)
    return settings.max_steps * products / (PRODUCTS[machine.kind] * (machine.cores if machine.kind == "cpu" else 1))


def differences(config: RunConfig, machine: Machine) -> tuple[str, ...]:
    """What the user of a resumed run should know of a machine that would run it otherwise."""
    open_ends = {"devices": None, "threads": None, "compile": None}
    anew = decide(config.model_copy(update={"train": config.train.model_copy(update=open_ends)}), machine)
    notes = []
    settings, other = config.train, anew.config.train
    if machine.kind == "cpu" and machine.cores < (settings.devices or 1) * (settings.threads or 1):
        notes.append(f"note: the run goes on as it began, as {describe(settings, machine)}")
    elif (settings.devices, settings.compile) != (other.devices, other.compile):
        flags = "--devices auto --set train.threads=auto --set train.compile=auto"
        notes.append(
            f"note: the run goes on as it began; a new one would be {anew.text} here, which {flags} takes: "
            "its losses then differ by rounding"
        )
    return tuple(notes)


def _check_gpus(settings: TrainConfig, machine: Machine) -> None:
    """Refuse a run that was told to use GPUs, or began on them, where they are not."""
    if machine.kind == "cpu" or machine.started is not None or (settings.devices or 1) <= machine.gpus:
        return
    wanted = "a GPU" if settings.devices in (None, 1) else f"{settings.devices} GPUs"
    there = f"there {'is' if machine.gpus == 1 else 'are'} {machine.gpus or 'none'} here"
    raise UsageError(
        f"train.accelerator={settings.accelerator}: the run asks for {wanted}, and {there}",
        "--set train.accelerator=auto --devices auto takes what there is",
    )


def _check_started(settings: TrainConfig, machine: Machine, devices: int) -> None:
    """Refuse processes of torchrun or SLURM that do not fit the run."""
    if machine.started is None:
        return
    if machine.nodes > 1 and devices != machine.started:
        raise UsageError(
            f"train.devices={devices}, but {machine.started} processes were started on each of {machine.nodes} "
            "machines",
            "leave --devices out: it follows from what was started",
        )
    if settings.batch_size % (devices * machine.nodes):
        raise UsageError(
            f"{devices * machine.nodes} processes were started for the run, and train.batch_size="
            f"{settings.batch_size} is no multiple",
            "start another number of processes, or change train.batch_size",
        )


def _strategy(config: RunConfig, machine: Machine, devices: int) -> Strategy | None:
    """Where weights and optimizer state lie; nothing to decide for one process."""
    asked = config.train.strategy
    if asked == "hybrid" and machine.nodes > 1 and devices == 1:
        raise UsageError(
            "train.strategy=hybrid: weights lie in rows over the processes of a machine, and each has one",
            "use train.strategy=fsdp or ddp",
        )
    if asked is not None or devices * machine.nodes == 1:
        return asked
    room = ROOM * (machine.device_memory or machine.memory / devices)
    state = _state_bytes(config)
    if state <= room or not_sharded(config.recipe, config.alignment, config.latent_gradient):
        return "ddp"
    gradients = state / COPIES  # they add up whole
    several = machine.nodes > 1 and devices > 1
    return "hybrid" if several and gradients + (state - gradients) / devices <= room else "fsdp"


def _state_bytes(config: RunConfig) -> int:
    """About what the trunk's parameters, gradients, average and moments take, and as much again for all else."""
    return 2 * COPIES * 4 * _trunk_weights(config)


def _trunk_weights(config: RunConfig) -> int:
    return 12 * config.trunk.width**2 * config.trunk.depth


def _devices(config: RunConfig, machine: Machine, seconds: float) -> int:
    batch = config.train.batch_size
    if machine.started is not None:
        return machine.started
    if machine.kind != "cpu" or not machine.may_start or seconds < PROCESSES_PAY_AFTER:
        return 1
    each = PROCESS_BYTES + _state_bytes(config)
    most = min(machine.cores // (config.train.threads or 1), machine.memory // each, batch // LEAST_SAMPLES)
    return max((count for count in range(1, most + 1) if batch % count == 0), default=1)


def _notes(settings: TrainConfig, machine: Machine, compiles: bool) -> tuple[str, ...]:
    notes = []
    if compiles and settings.compile is None and machine.compiler is None and machine.kind != "mps":
        which = "C++ compiler" if machine.kind == "cpu" else "Triton and a C compiler"
        notes.append(f"note: no working {which} was found, so the blocks are not compiled and training is slower")
    if settings.devices is None and machine.started is None and machine.gpus > 1:
        notes.append(f"note: one of {machine.gpus} GPUs is used; --devices {machine.gpus} takes all of them")
    return tuple(notes)


def describe(settings: TrainConfig, machine: Machine) -> str:
    """How a run uses its machine, in words: `2 processes of 1 thread, compiled blocks (2 cores, g++)`."""

    def counted(count: int, word: str, plural: str = "s") -> str:
        return f"{count} {word}{plural if count > 1 else ''}"

    devices, threads = settings.devices or 1, settings.threads or 1
    what = counted(devices, "GPU") if machine.kind != "cpu" else counted(devices, "process", "es")
    blocks = "compiled blocks" if settings.compile else "blocks not compiled"
    blocks += ", recorded steps" if machine.kind == "cuda" and settings.cuda_graphs else ""
    where = f" on each of {machine.nodes} machines" if machine.nodes > 1 else ""
    where += f", {settings.strategy}" if devices * machine.nodes > 1 else ""
    found = counted(machine.cores, "core") + (f", {machine.compiler}" if settings.compile and machine.compiler else "")
    return f"{what} of {counted(threads, 'thread')}{where}, {blocks} ({found})"


# ------------------------------------------------------------------------------------------------------- what there is


def observe(config: RunConfig, *, may_start: bool, resumed: bool = False) -> Machine:
    """The machine that this process runs on; a compiler is looked for only where the decision depends on it."""
    kind = _kind(config.train.accelerator)
    started = processes_started_elsewhere()
    found = Machine(
        kind=kind,
        cores=cores(),
        gpus=torch.cuda.device_count() if kind == "cuda" else int(kind == "mps"),
        memory=machine_memory(),
        device_memory=device_memory() if kind == "cuda" else None,
        thread_limit=thread_limit(),
        started=started,
        nodes=nodes(started or config.train.devices or 1),
        may_start=may_start,
    )
    open_end = config.train.compile is None or resumed
    if not open_end or expected_seconds(config, found) < COMPILING_PAYS_AFTER[kind]:
        return found
    return replace(found, compiler=find_compiler(kind))


def _kind(accelerator: str) -> Kind:
    if accelerator in ("cuda", "mps"):
        return "cuda" if accelerator == "cuda" else "mps"
    if accelerator == "auto" and torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator == "auto" and torch.backends.mps.is_available() else "cpu"


# ----------------------------------------------------------------------------------------- the run's other processes


@contextmanager
def handed(config: RunConfig) -> Iterator[None]:
    """Tell the processes that the run starts inside what was decided; those of other runs are told nothing."""
    settings = config.train
    names = ("devices", "threads", "compile", "accelerator", "strategy")
    os.environ[DECIDED] = json.dumps({name: getattr(settings, name) for name in names})
    try:
        yield
    finally:
        os.environ.pop(DECIDED, None)


def handed_on(config: RunConfig) -> RunConfig | None:
    """The run as the process that started this one has decided; None where none has."""
    if DECIDED not in os.environ:
        return None
    return config.model_copy(update={"train": config.train.model_copy(update=json.loads(os.environ[DECIDED]))})
