"""What a run would do, without doing it: parameters, memory, batches, steps."""

from dataclasses import dataclass
from pathlib import Path

from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.registry.build import BYTES, open_modalities, outline_network
from unite_mm.training.data_order import BatchStream
from unite_mm.training.distribution import nodes
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


def describe(config: RunConfig, cache: Path, progress: Progress) -> Forecast:
    """What `--dry-run` shows; opens the data and counts the parameters, makes no weights and trains nothing.

    Raises:
        UsageError: the configuration or data cannot be used.
    """
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
    need = Need(network, counts["  trained by Muon"], counts["  trained by AdamW"])
    held, memory_rows = _memory(need, config)
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
    return Forecast(rows + recipe.facts(), held, _device_memory(config.train.accelerator))


@dataclass(frozen=True)
class Need:
    """What the state of a run takes.

    Attributes:
        network: what is trained.
        muon: how many numbers Muon trains.
        adamw: how many AdamW does.
    """

    network: Network
    muon: int
    adamw: int

    def held(self, ranks: int = 1) -> int:
        """Bytes of each device without activations, where weights, average and moments lie in rows over some ranks.

        Gradients are whole, because they add up over the passes of a step; so is what lies outside of blocks while a
        step is computed, and two blocks at a time.
        """
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        trained = self.muon + self.adamw
        lasting = parameters + trained + self.muon + 2 * self.adamw  # average, a momentum or two moments
        if ranks == 1:
            return BYTES * (lasting + trained)
        blocks = [sum(p.numel() for p in block.parameters()) for block in self.network.blocks()]
        passing = parameters - sum(blocks) + 2 * max(blocks, default=0)
        return BYTES * (-(-lasting // ranks) + trained + passing)


def _memory(need: Need, config: RunConfig) -> tuple[int, list[tuple[str, str]]]:
    """Bytes that each device holds as the run is configured, and rows that say so, of each strategy there could be."""
    devices = config.train.devices or 1
    machines = nodes(devices)
    title, strategy = "memory without activations", config.train.strategy
    if devices * machines == 1:
        return need.held(), [(title, f"{size_text(need.held())} per device")]
    shares = {"ddp": 1, "fsdp": devices * machines}
    if (machines > 1 and devices > 1) or strategy == "hybrid":
        shares["hybrid"] = devices
    found = {name: need.held(ranks) for name, ranks in shares.items()}
    texts = [f"{size_text(size)} per device under {name}" for name, size in found.items()]
    rows = [("" if number else title, text) for number, text in enumerate(texts)]
    return found[strategy or "ddp"], rows


def _device_memory(accelerator: str) -> int:
    """Bytes of the device that trains."""
    found = device_memory() if accelerator in ("auto", "cuda") else None
    return machine_memory() if found is None else found
