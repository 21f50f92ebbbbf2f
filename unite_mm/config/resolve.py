"""The configuration of a run, new or resumed."""

from collections.abc import Mapping
from typing import Any

from unite_mm.config.assignments import assignment_layers, source_layer
from unite_mm.config.complete import complete
from unite_mm.config.files import read_yaml
from unite_mm.config.layers import KIND, check_shape, flatten
from unite_mm.config.options import Layer, RunOptions
from unite_mm.config.presets import expand, preset_layers
from unite_mm.config.regimes import regime_layer
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin, Registry
from unite_mm_schemas.config import RunConfig

_CHANGEABLE_ON_RESUME = ("train.", "sampling.", "optim.")
_FIXED_ON_RESUME = ("optim.optimizer",)
"""What decides which state a checkpoint holds."""


def resolve(options: RunOptions, registry: Registry) -> RunConfig:
    """The complete configuration of a new run.

    Raises:
        UsageError: anything in it is wrong; the message says what and where it was set.
    """
    file = {} if options.file is None else read_yaml(options.file)
    check_shape(str(options.file), file)
    plugins = _select(options, file, registry)
    below = preset_layers(plugins, options.preset) if options.start is None else [options.start]
    layers = [*below, *([] if options.regime is None else [regime_layer(options.regime)]), *options.base]
    if options.file is not None:
        layers.append(Layer(str(options.file), expand(file, plugins, str(options.file))))
    layers += assignment_layers(options.assignments, plugins)
    layers += [source_layer(text, plugins) for text in options.sources]
    layers.append(Layer("the command line", options.flags))
    config = complete(layers, plugins)
    if config.train.max_steps is None and config.train.max_time is None:
        raise UsageError("no run length given", "add --max-steps N or --max-time 30m")
    return config


def resolve_resumed(saved: RunConfig, options: RunOptions, registry: Registry) -> RunConfig:
    """The configuration of a resumed run: what it was started with, but for what may change.

    That is length, devices, records, sampling, scores, rates and clipping, and where the data lie; whether they are the
    same data is seen when they are opened.

    Raises:
        UsageError: something that decides what the run computes would change.
    """
    given = (options.preset, options.file, options.regime, options.start)
    if any(option is not None for option in given) or options.base:
        raise UsageError(
            "--resume takes the configuration of the run folder",
            "leave out --preset, --regime, --config, --recipe and --init-trunk",
        )
    if options.modalities and set(options.modalities) != set(saved.modalities):
        raise UsageError(f"the run was started with {', '.join(saved.modalities)}", "leave --modality out")
    plugins = [registry.get(name) for name in saved.modalities]
    layers = [Layer("the run folder", saved.model_dump(mode="json"))]
    layers += assignment_layers(options.assignments, plugins)
    layers += [source_layer(text, plugins) for text in options.sources]
    layers.append(Layer("the command line", options.flags))
    config = complete(layers, plugins)
    # Settings that a later version added have their defaults in both.
    for key, *_ in settings_that_differ(complete(layers[:1], plugins), config):
        if not _is_free(key):
            raise UsageError(f"{key} cannot change on --resume", "start a new run in another folder")
    return config


def settings_that_differ(before: RunConfig, after: RunConfig) -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ between two configurations, with both values; None where there is none."""
    old, new = flatten(before.model_dump(mode="json")), flatten(after.model_dump(mode="json"))
    # A section of another kind has other keys: its kind is what the user has changed.
    keys = sorted(old.keys() | new.keys(), key=lambda key: (not key.endswith(f".{KIND}"), key))
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _is_free(key: str) -> bool:
    """Whether a setting may change on `--resume`."""
    if key.startswith("modalities."):
        _, _, inner = key.partition(".")[2].partition(".")
        return inner == "source" or inner.startswith("config.metrics.")
    return key.startswith(_CHANGEABLE_ON_RESUME) and key not in _FIXED_ON_RESUME


def _select(options: RunOptions, file: Mapping[str, Any], registry: Registry) -> list[Plugin]:
    """The plugins of the run, each once, in the order named."""
    listed = list(file.get("modalities") or {})
    if options.start is not None:
        return _started(options, options.start, registry)
    names = list(dict.fromkeys(options.modalities)) or listed
    for name in listed:
        if name not in names:
            raise UsageError(f"{options.file} configures the modality {name!r}, which --modality does not select")
    if not names:
        known = ", ".join(registry.plugins) or "none is installed"
        raise UsageError("no modality given", f"add --modality NAME; there are: {known}")
    return [registry.get(name) for name in names]


def _started(options: RunOptions, start: Layer, registry: Registry) -> list[Plugin]:
    """The plugins of the configuration that a run starts from."""
    if options.preset is not None:
        raise UsageError(f"--preset cannot be combined with {start.origin}", "change settings with --set or --config")
    if options.regime is not None:
        raise UsageError(f"--regime cannot be combined with {start.origin}", "a trained model keeps its regime")
    trained = list(start.values["modalities"])
    if options.modalities and set(options.modalities) != set(trained):
        raise UsageError(f"{start.origin}: that model has {', '.join(trained)}", "leave --modality out")
    return [registry.get(name) for name in trained]
