"""What a run would need of a cluster: memory of each GPU for every strategy, operations, time, rates of data.

Nothing here is measured: operations and kept activations are counted (`unite_mm.training.outline`), time follows from
the share of a GPU's rate that training reaches. docs/experiments/paper-figures.md compares both with measurements.

Dimensions: R GPUs of all machines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from unite_mm.contract import ModalityData
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.registry.build import BYTES
from unite_mm.training.outline import SampleCost
from unite_mm.utils.memory import size_text
from unite_mm_schemas.config import RunConfig

TFLOPS = {"bf16-mixed": 989.0, "32-true": 67.0}
"""Rate of a GPU in 10^12 operations per second as its maker states it (H100 and H200, without sparsity)."""

SHARE = {True: 0.30, False: 0.11}
"""Share of that rate which whole steps reach, with compiled blocks and without: measured with 217M parameters on 512
tokens. Small models wait for calls and reach less: 38M parameters on 18 tokens a twelfth of it."""

KEPT_COMPILED = 0.7
"""Share of the activations that compiled blocks keep, the rest being computed again: measured with the same."""

GATHERED = 2
"""Blocks whose weights a GPU holds whole while weights are sharded: one in use, one on its way."""


@dataclass(frozen=True)
class Cluster:
    """What a run is planned for.

    Attributes:
        nodes: machines.
        devices: GPUs of each.
        tflops: rate of a GPU in 10^12 operations per second; None: as `TFLOPS` says.
        share: of that rate that training reaches; None: as `SHARE` says.
    """

    nodes: int = 1
    devices: int = 1
    tflops: float | None = None
    share: float | None = None

    @property
    def gpus(self) -> int:
        """R."""
        return self.nodes * self.devices


@dataclass(frozen=True)
class Weights:
    """Parameters of a run, in numbers.

    Attributes:
        all: of the network.
        muon: trained by Muon, which keeps one moment.
        adamw: trained by AdamW, which keeps two.
        block: of the largest block, trained or not.
        outside: that are in no block.
    """

    all: int
    muon: int
    adamw: int
    block: int
    outside: int

    @classmethod
    def of(cls, network: Network, muon: int, adamw: int) -> "Weights":
        """Count those of a network."""
        sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in network.blocks()]
        whole = sum(parameter.numel() for parameter in network.parameters())
        return cls(whole, muon, adamw, max(sizes, default=0), whole - sum(sizes))

    def held(self, among: int = 1) -> int:
        """Bytes of a device without activations: weights and, of what is trained, gradients, average and moments.

        Args:
            among: devices over which weights, average and moments lie in rows. Gradients are whole, because they add up
                over the passes of a step; so is, while a step is computed, what lies outside of blocks, and two blocks.
        """
        trained = self.muon + self.adamw
        lasting = self.all + trained + self.muon + 2 * self.adamw
        passing = self.outside + GATHERED * self.block if among > 1 else 0
        return BYTES * (-(-lasting // among) + trained + passing)


@dataclass(frozen=True)
class Estimate:
    """What a run needs and how fast it is.

    Attributes:
        memory: bytes of a GPU by strategy: `ddp`, `fsdp` (sharded among all GPUs), `hybrid` (among those of a machine).
        activations: bytes of a GPU, part of each of these.
        operations: of a step, on all GPUs.
        seconds: of a step, without what the exchange between GPUs takes.
        samples: per second, of each modality.
    """

    memory: dict[str, int]
    activations: int
    operations: float
    seconds: float
    samples: float


def check(config: RunConfig, cluster: Cluster) -> None:
    """Refuse a plan whose GPUs cannot share the batch.

    Raises:
        UsageError: they cannot.
    """
    if config.train.batch_size % cluster.gpus:
        raise UsageError(
            f"train.batch_size={config.train.batch_size} is no multiple of the {cluster.gpus} GPUs of "
            f"--nodes {cluster.nodes} --devices {cluster.devices}",
            "change one of them",
        )


def estimate(config: RunConfig, cluster: Cluster, weights: Weights, costs: Mapping[str, SampleCost]) -> Estimate:
    """What a run needs of each GPU, and how fast it is.

    Modalities take turns within a step, so the largest graph of any of them counts.

    Args:
        config: the run.
        cluster: what it is planned for.
        weights: its parameters.
        costs: of a sample of each modality.
    """
    batch = config.train.batch_size // cluster.gpus
    kept = 1.0 if config.train.compile is False else KEPT_COMPILED
    activations = int(max(cost.fixed + kept * cost.activations * batch for cost in costs.values()))
    memory = {"ddp": weights.held() + activations}
    if cluster.gpus > 1:
        memory["fsdp"] = weights.held(cluster.gpus) + activations
        memory["hybrid"] = weights.held(cluster.devices) + activations
    operations = config.train.batch_size * sum(cost.operations for cost in costs.values())
    rate, share = rate_of(config, cluster)
    seconds = operations / (cluster.gpus * rate * share)
    return Estimate(memory, activations, operations, seconds, config.train.batch_size / seconds)


def rate_of(config: RunConfig, cluster: Cluster) -> tuple[float, float]:
    """Operations per second of a GPU, and the share of them that training reaches."""
    tflops = TFLOPS[config.train.precision] if cluster.tflops is None else cluster.tflops
    return tflops * 1e12, SHARE[config.train.compile is not False] if cluster.share is None else cluster.share


def rows(
    config: RunConfig,
    cluster: Cluster,
    weights: Weights,
    costs: Mapping[str, SampleCost],
    data: Mapping[str, ModalityData],
) -> list[tuple[str, str]]:
    """What `--dry-run --nodes` shows: rows (what, how much)."""
    found, size = estimate(config, cluster, weights, costs), config.train.batch_size
    rate, share = rate_of(config, cluster)
    measured = "" if cluster.share is not None else " (as by a model of 217M parameters; small ones reach less)"
    compiled = "blocks not compiled" if config.train.compile is False else "compiled blocks"
    machines, gpus = f"{cluster.nodes} machine{'s' * (cluster.nodes > 1)}", f"{cluster.devices} GPU"
    shown = [
        ("planned for", f"{machines} of {gpus}{'s' * (cluster.devices > 1)}, {compiled}"),
        ("batch", f"{size:,}, {size // cluster.gpus:,} on each GPU"),
        ("activations", f"{size_text(found.activations)} per GPU"),
    ]
    shown += [(f"memory with {name}", f"{size_text(count)} per GPU") for name, count in found.memory.items()]
    steps = config.train.max_steps
    if steps is None:
        length = f"{int((config.train.max_time or 0) / found.seconds):,} steps in {config.train.max_time or 0:,.0f} s"
    else:
        length = f"{_duration(steps * found.seconds)} for {steps:,} steps"
    shown += [
        ("operations per step", f"{found.operations / 1e12:,.4g} T"),
        ("rate of a GPU", f"{rate / 1e12:,g} Tflop/s, of which {share:.3g} is reached{measured}"),
        ("expected time", f"{found.seconds:,.3g} s a step, {length}; without exchange between GPUs"),
    ]
    for name, cost in costs.items():
        shown.append(
            (f"{name} per second", f"{_count(found.samples)} samples, {_count(found.samples * cost.tokens)} tokens")
        )
        each = found.samples / cluster.nodes
        needed = f"{_count(each)} samples/s, {_rate(each * cost.batch_bytes)} to the GPUs"
        stored = stored_bytes(data[name])
        needed += "" if stored is None else f", {_rate(each * stored)} of the source's files"
        shown.append((f"{name} data per machine", needed))
    return shown


def stored_bytes(data: ModalityData) -> float | None:
    """Bytes of the source's files for each sample that was read from them; None where there are no files."""
    total = sum(file.bytes for file in data.card.files)
    return total / data.card.read if total and data.card.read else None


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _rate(count: float) -> str:
    return f"{_count(count / 1e6)} MB/s"


def _duration(seconds: float) -> str:
    """`4.2 min`, `3.1 h` or `12 days`."""
    for unit, length in (("days", 86_400 * 2), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:,.3g} {unit}"
    return f"{seconds:,.3g} s"
