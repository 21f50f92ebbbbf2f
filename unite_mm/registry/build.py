"""From a run configuration to modalities, data and a model: the one place where plugins are loaded."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from unite_mm.contract import DataRequest, Modality, ModalityData, Statistics
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.random_streams import Stream, stream_seed
from unite_mm.registry import discover
from unite_mm_schemas.checkpoint import ModalityRecord
from unite_mm_schemas.config import RunConfig


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
    config: RunConfig, modalities: Mapping[str, Modality], statistics: Mapping[str, Statistics]
) -> Network:
    """A network with fresh weights, decided by `config.train.seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(Stream.START_WEIGHTS, config.train.seed))
        width = config.trunk.width
        modules = {name: modality.build_modules(statistics[name], width) for name, modality in modalities.items()}
        return Network(config.trunk, config.latent, modules, shared_weights=config.regime.shared_weights)


def software_versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "unite-mm": version("unite-mm")}
