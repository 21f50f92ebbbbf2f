"""From a run configuration to modalities, data and a model: the one place where plugins are loaded."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from unite_mm.contract import DataRequest, Modality, ModalityData, ModalityModules, Statistics
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.model.trunk import Trunk
from unite_mm.progress import Progress
from unite_mm.random_streams import Stream, global_stream
from unite_mm.registry import discover
from unite_mm.utils.memory import Allowance, LargeOnMeta, machine_memory, size_text
from unite_mm_schemas.checkpoint import ModalityRecord
from unite_mm_schemas.config import RunConfig, TrunkConfig

BYTES = 4
"""Of a parameter, its average, its gradient and each of its optimizer's moments: all are float32."""

ROUNDING = 2**26
"""Bytes beyond the parameters that a network may take while it is built: tables, and what is not saved."""


@dataclass(frozen=True)
class OpenModality:
    """A modality with its data opened for a run."""

    modality: Modality
    data: ModalityData
    statistics: Statistics
    record: ModalityRecord


def load_modalities(config: RunConfig) -> dict[str, Modality]:
    """The modalities a configuration names, each with its own validated configuration.

    Raises:
        UsageError: a plugin is missing or broken, or its configuration is refused.
    """
    registry = discover()
    loaded = {}
    for name, run in config.modalities.items():
        plugin = registry.get(name)
        loaded[name] = plugin.load_implementation()(plugin.validate(run.config), name)
    return loaded


def open_modalities(config: RunConfig, cache: Path, progress: Progress, workers: int = 0) -> dict[str, OpenModality]:
    """Load the plugins and open each one's data.

    Raises:
        UsageError: no modality is named, a plugin or its data cannot be used.
    """
    if not config.modalities:
        raise UsageError(
            "the configuration names no modality", "add --modality NAME; `unite-mm plugins list` names them"
        )
    registry = discover()
    opened = {}
    for name, modality in load_modalities(config).items():
        plugin = registry.get(name)
        request = DataRequest(plugin.source(config.modalities[name].source), cache, progress, workers)
        data = modality.open_data(request)
        statistics = modality.statistics(data)
        record = ModalityRecord(
            distribution=plugin.distribution,
            contract=plugin.manifest.contract,
            statistics=dict(statistics),
            card=data.card,
        )
        opened[name] = OpenModality(modality, data, statistics, record)
    return opened


def build_network(
    config: RunConfig,
    modalities: Mapping[str, Modality],
    statistics: Mapping[str, Statistics],
    most: int | None = None,
) -> Network:
    """A network with fresh weights, decided by `config.train.seed` alone.

    Args:
        config: the run.
        modalities: its modalities.
        statistics: each one's facts of its training split.
        most: bytes that the weights may have, where a file is known to hold them; None: as much as the machine has.

    Raises:
        UsageError: it would be larger; it is refused before the memory for it is taken.
    """
    if most is None:
        limit = machine_memory()
        text = f"the weights alone need more than the {size_text(limit)} of memory that there are"
        hint = "lower trunk.width, trunk.depth or the sizes of the modality; --dry-run counts what they need"
    else:
        limit = most
        text = f"the sizes in the record do not fit its weights, a file of {size_text(most)}"
        hint = "use another checkpoint: this one was changed, or put together from two"
    allowance = Allowance(limit, text, hint)
    trunk = BYTES * trunk_parameters(config.trunk) * (1 if config.regime.shared_weights else 2)
    allowance.take(trunk)
    allowance.left += ROUNDING
    with global_stream(Stream.START_WEIGHTS, config.train.seed), allowance:
        modules = _modules(config, modalities, statistics)
        allowance.left += trunk
        network = Network(config.trunk, config.latent, modules, config.regime)
    return _with_teachers(network, modalities, statistics)


def outline_network(
    config: RunConfig, modalities: Mapping[str, Modality], statistics: Mapping[str, Statistics]
) -> Network:
    """A network without memory, for counting: its parameters, or at least the large ones, are on the meta device."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                modules = _modules(config, modalities, statistics)
        except (RuntimeError, NotImplementedError):  # a plugin that asks for the values of a small tensor
            with LargeOnMeta():
                modules = _modules(config, modalities, statistics)
        with torch.device("meta"):
            network = Network(config.trunk, config.latent, modules, config.regime)
    return _with_teachers(network, modalities, statistics)


def _with_teachers(
    network: Network, modalities: Mapping[str, Modality], statistics: Mapping[str, Statistics]
) -> Network:
    """The network, with teachers that are made when they are asked for."""
    network.teachers = {name: partial(own.teacher, statistics[name]) for name, own in modalities.items()}
    return network


def trunk_parameters(trunk: TrunkConfig) -> int:
    """Parameters of a trunk, counted without making it: all blocks are alike.

    On the meta device small tensors would cost a second and a half: torch then imports its compiler.
    """
    with torch.random.fork_rng(devices=[]), LargeOnMeta():
        one, two = (Trunk(trunk.model_copy(update={"depth": depth})) for depth in (1, 2))
    first, second = (sum(parameter.numel() for parameter in made.parameters()) for made in (one, two))
    return first + (trunk.depth - 1) * (second - first)


def _modules(
    config: RunConfig, modalities: Mapping[str, Modality], statistics: Mapping[str, Statistics]
) -> dict[str, ModalityModules]:
    return {name: modality.build_modules(statistics[name], config.trunk.width) for name, modality in modalities.items()}


def software_versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "unite-mm": version("unite-mm")}
