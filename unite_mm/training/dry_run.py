"""What a run would do, without doing it: parameters, memory, batches, steps; on request, what it needs of a cluster."""

from dataclasses import dataclass
from pathlib import Path

from unite_mm.errors import UsageError
from unite_mm.kit.messages import first_line
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.registry.build import OpenModality, open_modalities, outline_network
from unite_mm.training.cluster import Cluster, Weights, check
from unite_mm.training.cluster import rows as cluster_rows
from unite_mm.training.data_order import BatchStream
from unite_mm.training.distribution import nodes
from unite_mm.training.outline import count_samples
from unite_mm.training.quality import cost_of_scoring
from unite_mm.training.recipes import make_recipe
from unite_mm.training.shift import with_shift
from unite_mm.utils.memory import device_memory, machine_memory, size_text
from unite_mm_schemas.config import RunConfig


@dataclass(frozen=True)
class Forecast:
    """What a run would be.

    Attributes:
        rows: (what, how much), to be shown.
        held: bytes of each device without activations: weights, average, gradients, moments.
        memory: bytes that a device has.
    """

    rows: list[tuple[str, str]]
    held: int
    memory: int

    def check(self) -> None:
        """Refuse what cannot be trained here.

        Raises:
            UsageError: a device has less memory than the run needs without activations.
        """
        if self.held > self.memory:
            raise UsageError(
                f"this run needs {size_text(self.held)} of memory without activations, and there are "
                f"{size_text(self.memory)}",
                "lower trunk.width, trunk.depth or the sizes of the modality",
            )


def describe(config: RunConfig, cache: Path, progress: Progress, cluster: Cluster | None = None) -> Forecast:
    """What `--dry-run` shows; opens the data and counts the parameters, makes no weights and trains nothing.

    Args:
        config: the run.
        cache: where prepared data lies.
        progress: where to show the preparation of data.
        cluster: what else the run is planned for; None: for this machine alone.

    Raises:
        UsageError: the configuration or data cannot be used, or the GPUs of the cluster cannot share the batch.
    """
    if cluster is not None:
        check(config, cluster)
    opened = open_modalities(config, cache, progress)
    modalities = {name: entry.modality for name, entry in opened.items()}
    network = outline_network(config, modalities, {name: entry.statistics for name, entry in opened.items()})
    config = with_shift(config, network)
    counts = {"parameters": sum(p.numel() for p in network.parameters())}
    counts["  shared trunk"] = sum(p.numel() for p in network.encoder.trunk.parameters())
    recipe = make_recipe(config, network)
    groups = recipe.groups()
    counts["  trained by Muon"] = sum(p.numel() for _, p in groups.muon)
    counts["  trained by AdamW"] = sum(p.numel() for _, p in groups.adamw)
    rows = [(name, f"{value:,}") for name, value in counts.items()]
    weights = Weights.of(network, counts["  trained by Muon"], counts["  trained by AdamW"])
    held, memory_rows = _memory(weights, config)
    rows += memory_rows
    for name, entry in opened.items():
        sizes = ", ".join(f"{entry.data.size(split):,} {split}" for split in entry.data.card.splits)
        stream = BatchStream(
            entry.data.size("train"), entry.data.lengths("train"), config.train.batch_size, config.train.seed
        )
        rows.append((f"{name} data", f"{entry.data.card.description}: {sizes}"))
        rows.append((f"{name} batches per epoch", f"{stream.batches_per_epoch:,} of {config.train.batch_size}"))
        layout = network.modules_of(name).layout
        rows.append((f"{name} latents", f"up to {layout.registers} registers of {layout.channels} channels"))
        if config.train.max_steps is not None:
            epochs = config.train.max_steps / stream.batches_per_epoch
            rows.append((f"{name} epochs", f"{epochs:,.2f}"))
    settings = config.train
    length = f"{settings.max_steps:,} steps" if settings.max_steps is not None else f"{settings.max_time or 0:,.0f} s"
    rows.append(("length", length))
    scoring = cost_of_scoring(config)
    if scoring is not None:
        rows.append(("samples scored on the way", scoring))
    rows += recipe.facts()
    if cluster is not None:
        rows += _planned(config, cluster, weights, network, opened)
    return Forecast(rows, held, _device_memory(config.train.accelerator))


def _planned(
    config: RunConfig, cluster: Cluster, weights: Weights, network: Network, opened: dict[str, OpenModality]
) -> list[tuple[str, str]]:
    """Rows of the plan for a cluster.

    Raises:
        UsageError: the step cannot be counted.
    """
    try:
        costs = count_samples(config, network, opened)
    except Exception as error:  # a plugin that asks for values, or for weights of another network
        raise UsageError(
            f"a step of this run cannot be counted without computing it: {first_line(error)}",
            "leave out --nodes; `benchmarks/run_step.py` times steps on the machine itself",
        ) from error
    return cluster_rows(config, cluster, weights, costs, {name: entry.data for name, entry in opened.items()})


def _memory(weights: Weights, config: RunConfig) -> tuple[int, list[tuple[str, str]]]:
    """Bytes that each device holds as the run is configured, and rows that say so, of each strategy there could be."""
    devices = config.train.devices or 1
    machines = nodes(devices)
    title, strategy = "memory without activations", config.train.strategy
    if devices * machines == 1:
        return weights.held(), [(title, f"{size_text(weights.held())} per device")]
    shares = {"ddp": 1, "fsdp": devices * machines}
    if (machines > 1 and devices > 1) or strategy == "hybrid":
        shares["hybrid"] = devices
    found = {name: weights.held(ranks) for name, ranks in shares.items()}
    texts = [f"{size_text(size)} per device under {name}" for name, size in found.items()]
    rows = [("" if number else title, text) for number, text in enumerate(texts)]
    return found[strategy or "ddp"], rows


def _device_memory(accelerator: str) -> int:
    """Bytes of the device that trains."""
    found = device_memory() if accelerator in ("auto", "cuda") else None
    return machine_memory() if found is None else found
