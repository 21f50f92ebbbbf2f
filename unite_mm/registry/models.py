"""Trained models that plugins ship, and the folder that a path, the name of one of them or one on a hub stands for.

Reads manifests alone, as discovery does: no plugin and no torch is imported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unite_mm.errors import UsageError
from unite_mm.registry.discovery import Registry, discover
from unite_mm.registry.hub import fetch, is_hub_name, parse_hub_name
from unite_mm.registry.plugin import Plugin
from unite_mm.utils.validation import did_you_mean


@dataclass(frozen=True)
class ShippedModel:
    """A trained model that came with a plugin. Its folder is part of the installation: nothing is written there.

    Attributes:
        name: what commands take in place of a run folder.
        description: one line.
        folder: an exported folder.
        plugin: whose manifest lists it.
    """

    name: str
    description: str
    folder: Path
    plugin: Plugin


def shipped_models(registry: Registry | None = None) -> list[ShippedModel]:
    """All shipped models, sorted by name.

    Args:
        registry: what is installed; None: as discovery finds it.
    """
    found = [
        ShippedModel(entry.name, entry.description, plugin.folder / entry.folder, plugin)
        for plugin in (registry or discover()).plugins.values()
        for entry in plugin.manifest.models
    ]
    return sorted(found, key=lambda model: (model.name, model.plugin.name))


def shipped_model(name: str, registry: Registry | None = None) -> ShippedModel:
    """The shipped model of a name.

    Raises:
        UsageError: there is none, or two plugins ship one of that name.
    """
    models = shipped_models(registry)
    found = _named(name, models)
    if found is None:
        known = ", ".join(dict.fromkeys(model.name for model in models))
        near = did_you_mean(name, [model.name for model in models])
        hint = f"`unite-mm models list` shows: {known}" if known else "no installed plugin ships a model"
        raise UsageError(f"there is no model {name!r}", " ".join(filter(None, [near, hint])))
    return found


def model_folder(named: str | Path) -> Path:
    """The folder meant by what a command takes as RUN: an existing path, a hub's model, the shipped model of that name.

    Raises:
        UsageError: it is none of them, two plugins ship a model of that name, or the hub refuses.
        UniteError: the hub does not answer.
    """
    path = Path(named)
    if path.exists():
        return path
    if is_hub_name(named):
        return fetch(str(named))
    models = shipped_models()
    found = _named(str(named), models)
    if found is None:
        near = did_you_mean(str(named), [model.name for model in models])
        known = "a name from `unite-mm models list`, or hf:ORG/NAME"
        hint = f"give a run folder (it holds `checkpoints/`), an exported folder, {known}"
        raise UsageError(f"{named} does not exist, and no model has that name", " ".join(filter(None, [near, hint])))
    return found.folder


def shipped_at(named: str | Path) -> ShippedModel | None:
    """The shipped model whose folder a path or a name stands for; None where it is anything else."""
    path = Path(named)
    models = shipped_models()
    if not path.exists():
        return _named(str(named), models)
    place = path.resolve()
    return next((model for model in models if model.folder.resolve() == place), None)


def name_of(named: str | Path) -> str | None:
    """The name of a shipped model or of a hub's, in whose folder nothing is written; None for a folder of a user's."""
    shipped = shipped_at(named)
    if shipped is not None:
        return shipped.name
    if is_hub_name(named) and not Path(named).exists():
        return parse_hub_name(str(named)).name.rpartition("/")[2]
    return None


def _named(name: str, models: Sequence[ShippedModel]) -> ShippedModel | None:
    """The model of a name; None where there is none.

    Raises:
        UsageError: there are two.
    """
    found = [model for model in models if model.name == name]
    if len(found) > 1:
        owners = " and ".join(f"modality {model.plugin.name!r} of {model.plugin.distribution}" for model in found)
        raise UsageError(f"the model {name!r} is claimed by {owners}", "name its folder, or uninstall one of them")
    return found[0] if found else None
