"""The configuration of one plugin, for work that needs no run."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from unite_mm.config.assignments import assignment_layers
from unite_mm.config.complete import check_shared, complete
from unite_mm.config.layers import merge, only
from unite_mm.config.presets import preset_layers
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin


def resolve_plugin(plugin: Plugin, preset: str | None = None, assignments: Sequence[str] = ()) -> dict[str, Any]:
    """A plugin's own complete configuration: what a run without other settings would use.

    Args:
        plugin: the plugin.
        preset: take this preset's `modality:` settings; None: the default preset's.
        assignments: `NAME.key=value` pairs.

    Raises:
        UsageError: a setting is wrong, or does not belong to the plugin.
    """
    layers = only(preset_layers([plugin], preset), modalities=True)
    for layer in assignment_layers(assignments, [plugin]):
        if set(layer.values) != {"modalities"}:
            raise UsageError(f"{layer.origin}: only {plugin.name}.KEY=VALUE can be set here")
        layers.append(layer)
    return complete(layers, [plugin]).modalities[plugin.name].config


def check_preset(plugin: Plugin, name: str) -> None:
    """Check a preset as far as it goes without the plugin's code: its file, and the sections that all runs share.

    Raises:
        UsageError: something is wrong; the message names the preset.
    """
    check_shared(only(preset_layers([plugin], name), modalities=False))


def with_settings(
    plugin: Plugin, config: Mapping[str, Any], assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> BaseModel:
    """A plugin's own configuration with other settings in `metrics` or `sampling`, sections that change no model.

    Args:
        plugin: the plugin.
        config: its complete configuration.
        assignments: `NAME.metrics.key=value` or `NAME.sampling.key=value` pairs.
        flags: further settings of `metrics` by key.

    Raises:
        UsageError: a setting is wrong, or belongs to another section.
    """
    values = plugin.validate(config).model_dump(mode="json")
    known = values.get("metrics")
    for layer in assignment_layers(assignments, [plugin]):
        own = layer.values.get("modalities", {}).get(plugin.name, {}).get("config", {})
        sections = [key for key in ("metrics", "sampling") if isinstance(values.get(key), Mapping)]
        if not own or not all(key in sections and isinstance(value, Mapping) for key, value in own.items()):
            settable = " or ".join(f"{plugin.name}.{key}.KEY=VALUE" for key in sections)
            raise UsageError(
                f"{layer.origin}: the configuration of a trained model cannot change",
                f"only {settable} can be set here; solver, steps and the like have flags"
                if settable
                else "leave it out",
            )
        values = merge(values, own)
    for key, value in (flags or {}).items():
        if not isinstance(known, Mapping) or key not in known:
            raise UsageError(f"--{key}: modality {plugin.name!r} has no such setting", "leave it out")
        values = merge(values, {"metrics": {key: value}})
    return plugin.validate(values)


def sampling_settings(plugin: Plugin, assignments: Sequence[str]) -> dict[str, Any]:
    """Options of a plugin's own for generation, nested by key, as `generate(options=...)` takes them.

    Args:
        plugin: the plugin.
        assignments: `NAME.sampling.key=value` pairs; `sampling.` may be left out.

    Raises:
        UsageError: one sets something else.
    """
    values: dict[str, Any] = {}
    for layer in assignment_layers(assignments, [plugin]):
        own = layer.values.get("modalities", {}).get(plugin.name, {}).get("config")
        if not isinstance(own, Mapping):
            raise UsageError(
                f"{layer.origin}: the configuration of a trained model cannot change",
                f"only {plugin.name}.sampling.KEY=VALUE can be set here; solver, steps and the like have flags",
            )
        inner = own.get("sampling", own)
        if not isinstance(inner, Mapping):
            raise UsageError(f"{layer.origin}: `sampling` is a section", f"set {plugin.name}.sampling.KEY=VALUE")
        values = merge(values, inner)
    return values
