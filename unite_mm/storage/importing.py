"""Foreign checkpoints become exported folders: a plugin's importer reads the file, the core checks and writes.

A plugin names its importers in its manifest; each is a function `(path, options) -> Imported` that raises `UsageError`
where the file is not what it should be. Code in a foreign file must never run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unite_mm.contract import Imported
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin, discover
from unite_mm.registry.build import build_network, load_modalities, software_versions
from unite_mm.storage.checkpoint import load_state
from unite_mm.storage.pretrained import export_model
from unite_mm_schemas.checkpoint import CheckpointRecord, ModalityRecord


def find_importer(name: str, modality: str | None = None) -> Plugin:
    """The plugin whose importer `name` is meant: the named one, or the only one that has it.

    Raises:
        UsageError: there is none, or several leave the choice open.
    """
    plugins = discover().plugins if modality is None else {modality: discover().get(modality)}
    having = [plugin for plugin in plugins.values() if plugin.importer(name) is not None]
    if not having:
        who = "no installed modality" if modality is None else f"modality {modality!r}"
        raise UsageError(f"{who} imports {name} checkpoints", "unite-mm plugins list shows what is installed")
    if len(having) > 1:
        names = ", ".join(plugin.name for plugin in having)
        raise UsageError(f"several modalities import {name} checkpoints", f"choose one with --modality: {names}")
    return having[0]


def import_checkpoint(plugin: Plugin, name: str, path: Path, options: Mapping[str, Any], folder: Path) -> Imported:
    """Read a foreign checkpoint and write it as an exported folder, whole or not at all.

    Args:
        plugin: whose importer.
        name: of the importer.
        path: the file.
        options: the importer's own, by name with underscores; None where not given.
        folder: where to write; must not exist, or be empty.

    Raises:
        UsageError: the file or an option is refused, or the folder is not empty.
        UniteError: the importer cannot be loaded, its result fits no model, or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not empty", "name another folder")
    imported: Imported = plugin.load_importer(name)(path, options)
    modalities = load_modalities(imported.config)
    network = build_network(imported.config, modalities, imported.statistics)
    load_state(network, imported.state, str(path))
    registry = discover()
    record = CheckpointRecord(
        kind="export",
        step=imported.step,
        config=imported.config,
        modalities={
            own: ModalityRecord(
                distribution=registry.get(own).distribution,
                contract=registry.get(own).manifest.contract,
                statistics=dict(statistics),
            )
            for own, statistics in imported.statistics.items()
        },
        versions=software_versions(),
        files={},
    )
    export_model(network, record, folder)
    return imported
