"""Resolves a run's configuration: preset, then `--config` file, then `--set key=value`, then flags.

Every source becomes a `Layer`, a nested mapping with a name for messages; later layers win key by key. The result is a
validated `RunConfig` that also holds each plugin's own configuration, complete with its defaults.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from unite_mm.errors import UsageError
from unite_mm.registry import Plugin, Registry
from unite_mm.utils.validation import did_you_mean, first_error, suggest_key
from unite_mm_schemas.config import RunConfig

_LENGTHS = ("max_steps", "max_time")
_CHANGEABLE_ON_RESUME = ("train.", "sampling.")


@dataclass(frozen=True)
class Layer:
    """One source of settings.

    Attributes:
        origin: what a message calls it, such as `--set trunk.width=192`.
        values: nested mapping in the shape of `RunConfig`.
    """

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RunOptions:
    """What a user asks for, as the command line gives it.

    Attributes:
        modalities: names; empty: those of the configuration file, or the only one installed.
        sources: data sources, `SOURCE` or `NAME=SOURCE`.
        preset: name of a preset; None: each plugin's default one.
        file: a YAML (or JSON) configuration file.
        assignments: `key=value` pairs.
        flags: nested mapping of what flags set.
        init_trunk: folder whose trunk the run starts from; its `trunk` section counts above the presets.
    """

    modalities: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    preset: str | None = None
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    init_trunk: Path | None = None


def resolve(options: RunOptions, registry: Registry) -> RunConfig:
    """The complete configuration of a new run.

    Raises:
        UsageError: anything in it is wrong; the message says what and where it was set.
    """
    file = {} if options.file is None else read_yaml(options.file)
    plugins = _select(options, file, registry)
    layers = _preset_layers(plugins, options.preset)
    if options.init_trunk is not None:
        layers.append(_trunk_layer(options.init_trunk))
    if options.file is not None:
        layers.append(Layer(str(options.file), _expand(file, plugins, str(options.file))))
    layers += [_assignment(text, plugins) for text in options.assignments]
    layers += [_source(text, plugins) for text in options.sources]
    layers.append(Layer("the command line", options.flags))
    config = _complete(layers, plugins)
    if config.train.max_steps is None and config.train.max_time is None:
        raise UsageError("the run has no length", "add --max-steps N or --max-time 30m")
    return config


def resolve_resumed(saved: RunConfig, options: RunOptions, registry: Registry) -> RunConfig:
    """The configuration of a resumed run: what it was started with, but for length, devices, records, sampling, scores.

    Raises:
        UsageError: something that decides what the run computes would change.
    """
    if options.preset is not None or options.file is not None or options.sources or options.init_trunk is not None:
        raise UsageError(
            "--resume takes the configuration of the run folder",
            "leave out --preset, --config, --data and --init-trunk",
        )
    if options.modalities and set(options.modalities) != set(saved.modalities):
        raise UsageError(f"the run was started with {', '.join(saved.modalities)}", "leave --modality out")
    plugins = [registry.get(name) for name in saved.modalities]
    layers = [Layer("the run folder", saved.model_dump(mode="json"))]
    layers += [_assignment(text, plugins) for text in options.assignments]
    layers.append(Layer("the command line", options.flags))
    config = _complete(layers, plugins)
    before, after = _flat(saved.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
    for key in sorted(before.keys() | after.keys()):
        free = key.startswith(_CHANGEABLE_ON_RESUME) or ".config.metrics." in key
        if before.get(key) != after.get(key) and not free:
            raise UsageError(f"{key} cannot change on --resume", "start a new run in another folder")
    return config


def resolve_plugin(plugin: Plugin, preset: str | None = None, assignments: Sequence[str] = ()) -> dict[str, Any]:
    """A plugin's own complete configuration, for work that needs no run; what a run without other settings would use.

    Args:
        plugin: the plugin.
        preset: take this preset's `modality:` settings; None: the default preset's.
        assignments: `NAME.key=value` pairs.

    Raises:
        UsageError: a setting is wrong, or does not belong to the plugin.
    """
    layers = [
        Layer(layer.origin, {key: value for key, value in layer.values.items() if key == "modalities"})
        for layer in _preset_layers([plugin], preset)
    ]
    for text in assignments:
        layer = _assignment(text, [plugin])
        if set(layer.values) != {"modalities"}:
            raise UsageError(f"--set {text}: only {plugin.name}.KEY=VALUE can be set here")
        layers.append(layer)
    return _complete(layers, [plugin]).modalities[plugin.name].config


def check_preset(plugin: Plugin, name: str) -> None:
    """Check a preset as far as it goes without the plugin's code: its file, and the sections that all runs share.

    Raises:
        UsageError: something is wrong; the message names the preset.
    """
    layers = [
        Layer(layer.origin, {key: value for key, value in layer.values.items() if key != "modalities"})
        for layer in _preset_layers([plugin], name)
    ]
    _merged(layers, RunConfig().model_dump(mode="json"))


def with_metrics(
    plugin: Plugin, config: Mapping[str, Any], assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> BaseModel:
    """A plugin's own configuration with other settings in its section `metrics`, which changes scores and no model.

    Args:
        plugin: the plugin.
        config: its complete configuration.
        assignments: `NAME.metrics.key=value` pairs.
        flags: further settings of the section by key.

    Raises:
        UsageError: a setting is wrong, or belongs to another section.
    """
    values = plugin.validate(config).model_dump(mode="json")
    known = values.get("metrics")
    for text in assignments:
        layer = _assignment(text, [plugin]).values.get("modalities", {}).get(plugin.name, {}).get("config", {})
        if not isinstance(known, Mapping) or set(layer) != {"metrics"} or not isinstance(layer["metrics"], Mapping):
            raise UsageError(
                f"--set {text}: a trained model keeps its configuration",
                f"only {plugin.name}.metrics.KEY=VALUE can be set here; sampling has its own flags",
            )
        values = _merge(values, layer)
    for key, value in (flags or {}).items():
        if not isinstance(known, Mapping) or key not in known:
            raise UsageError(f"--{key}: modality {plugin.name!r} has no such setting", "leave it out")
        values = _merge(values, {"metrics": {key: value}})
    return plugin.validate(values)


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `30m`, `1h`, `1h30m`, `1.5h`, `2d` or a plain number of seconds.

    Raises:
        UsageError: it is none of these, or not above zero.
    """
    number = r"\d+(?:\.\d+)?"
    match = re.fullmatch(rf"(?:({number})d)?(?:({number})h)?(?:({number})m)?(?:({number})s?)?", text.strip())
    parts = match.groups() if match else ()
    seconds = sum(
        float(part) * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False) if part is not None
    )
    if seconds <= 0:
        raise UsageError(f"{text!r} is no duration", "write 90s, 30m, 1h or 1h30m")
    return seconds


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file.

    Raises:
        UsageError: the file does not exist, cannot be read, or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{path} must hold a mapping of keys such as `trunk:`")
    return content


def _select(options: RunOptions, file: Mapping[str, Any], registry: Registry) -> list[Plugin]:
    """The plugins of the run, each once, in the order named."""
    in_file = file.get("modalities")
    listed = list(in_file) if isinstance(in_file, dict) else []
    names = list(dict.fromkeys(options.modalities)) or listed
    for name in listed:
        if name not in names:
            raise UsageError(f"{options.file} configures the modality {name!r}, which --modality does not select")
    if not names:
        known = ", ".join(registry.plugins) or "none is installed"
        raise UsageError("no modality is named", f"add --modality NAME; there are: {known}")
    return [registry.get(name) for name in names]


def _preset_layers(plugins: Sequence[Plugin], preset: str | None) -> list[Layer]:
    """Layers of the presets. The first modality's decides shared keys; the others' set only the plugins' own."""
    layers = []
    for index, plugin in enumerate(plugins):
        presets = plugin.presets()
        name = preset
        if name is None or (index > 0 and name not in presets):
            name = plugin.manifest.default_preset
        if not presets and preset is None:
            continue
        origin = f"preset {plugin.name}/{name}"
        content = read_yaml(plugin.preset(name))
        if "modalities" in content:
            raise UsageError(f"{origin}: a preset sets its own modality's keys under `modality:`, not `modalities:`")
        values = _expand(content, [plugin], origin)
        if index > 0:
            values = {key: value for key, value in values.items() if key == "modalities"}
        layers.append(Layer(origin, values))
    return layers


def _trunk_layer(folder: Path) -> Layer:
    """The trunk of another run: its size, and where its weights lie (absolute: a run resumes from anywhere)."""
    from unite_mm.storage.pretrained import find_record

    _, record = find_record(folder)
    trunk = record.config.trunk.model_dump(mode="json")
    return Layer(
        f"--init-trunk {folder}", {"trunk": trunk, "recipe": {"kind": "joint", "init_trunk": str(folder.resolve())}}
    )


def _expand(content: Mapping[str, Any], plugins: Sequence[Plugin], origin: str) -> dict[str, Any]:
    """Replace the `modality:` shorthand by `modalities: NAME: config:`."""
    values = dict(content)
    if "modality" not in values:
        return values
    own = values.pop("modality")
    if len(plugins) != 1:
        raise UsageError(
            f"{origin}: `modality:` is not clear with several modalities", "write modalities: NAME: config:"
        )
    if not isinstance(own, dict | None):
        raise UsageError(f"{origin}: `modality:` must be a mapping of keys")
    return _merge(values, {"modalities": {plugins[0].name: {"config": own or {}}}})


def _assignment(text: str, plugins: Sequence[Plugin]) -> Layer:
    """The layer of one `--set key=value`; `NAME.key` is short for `modalities.NAME.config.key`."""
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {text}: not of the form key=value", "for example --set trunk.width=192")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text}: the value is not valid YAML", "put it in quotes") from error
    names = [plugin.name for plugin in plugins]
    if parts[0] in names:
        parts = ["modalities", parts[0], "config", *parts[1:]]
    elif parts[0] not in RunConfig.model_fields:
        known = [*RunConfig.model_fields, *names]
        hint = did_you_mean(parts[0], known) or suggest_key(parts[:1], RunConfig)
        raise UsageError(f"--set {text}: unknown key {parts[0]!r}", hint or f"a key begins with: {', '.join(known)}")
    nested: Any = value
    for part in reversed(parts):
        nested = {part: nested}
    return Layer(f"--set {text}", nested)


def _source(text: str, plugins: Sequence[Plugin]) -> Layer:
    """The layer of one `--data`; existing paths are stored absolute, so that a run resumes from anywhere."""
    name, equals, source = text.partition("=")
    chosen = {plugin.name: plugin for plugin in plugins}
    if not (equals and name in chosen):
        if len(plugins) > 1:
            raise UsageError(f"--data {text}: which modality's?", f"write --data NAME={text}")
        name, source = plugins[0].name, text
    known = [entry.name for entry in chosen[name].manifest.sources]
    path = Path(source).expanduser()
    if source not in known and path.exists():
        source = str(path.resolve())
    return Layer(f"--data {text}", {"modalities": {name: {"source": source}}})


def _complete(layers: Sequence[Layer], plugins: Sequence[Plugin]) -> RunConfig:
    """Merge and validate; each plugin's configuration is filled in from its own model."""
    values = RunConfig().model_dump(mode="json")
    values["modalities"] = {plugin.name: {"config": {}} for plugin in plugins}
    config = _merged(layers, values)
    unselected = [name for name in config.modalities if name not in {plugin.name for plugin in plugins}]
    if unselected:
        raise _located(f"modalities.{unselected[0]}", "this modality is not selected", layers)
    modalities = {}
    for plugin in plugins:
        run = config.modalities[plugin.name]
        model = plugin.load_configuration()
        try:
            own = model.model_validate(run.config)
        except ValidationError as error:
            path, message = first_error(error, model, f"modalities.{plugin.name}.config.")
            raise _located(path, message, layers) from error
        modalities[plugin.name] = run.model_copy(update={"config": own.model_dump(mode="json")})
    return config.model_copy(update={"modalities": modalities})


def _merged(layers: Sequence[Layer], values: dict[str, Any]) -> RunConfig:
    """The validated configuration of layers over `values`."""
    for layer in layers:
        values = _merge(values, _one_length(layer))
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        path, message = first_error(error, RunConfig)
        raise _located(path, message, layers) from error


def _one_length(layer: Layer) -> dict[str, Any]:
    """A layer that sets one of max_steps and max_time takes back the other; durations become seconds."""
    train = layer.values.get("train")
    if not isinstance(train, dict):
        return dict(layer.values)
    train = dict(train)
    if isinstance(train.get("max_time"), str):
        try:
            train["max_time"] = parse_duration(train["max_time"])
        except UsageError as error:
            raise UsageError(f"train.max_time: {error.message} ({layer.origin})", error.hint) from error
    given = [key for key in _LENGTHS if train.get(key) is not None]
    if len(given) == 1:
        train[_LENGTHS[1 - _LENGTHS.index(given[0])]] = None
    return {**layer.values, "train": train}


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        elif value is None and isinstance(old, dict):
            continue  # an empty section of a YAML file (`flow:`) changes nothing
        else:
            merged[key] = value
    return merged


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _located(path: str, message: str, layers: Sequence[Layer]) -> UsageError:
    """The error with the layer that set the offending key, or the section it stands in."""
    parts = path.rstrip(".").split(".")
    # Rules over several keys name these keys themselves.
    text = message if message.startswith(f"{path}.") or path.endswith(".") else f"{path}: {message}"
    for depth in range(len(parts), 0, -1):
        for layer in reversed(layers):
            if _has(layer.values, parts[:depth]):
                return UsageError(f"{text} ({layer.origin})")
    return UsageError(text)


def _has(values: Any, parts: Sequence[str]) -> bool:
    for part in parts:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True
