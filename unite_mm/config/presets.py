"""The layers of presets."""

from collections.abc import Mapping, Sequence
from typing import Any

from unite_mm.config.files import read_yaml
from unite_mm.config.layers import merge
from unite_mm.config.options import Layer
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin
from unite_mm.utils.validation import did_you_mean


def preset_layers(plugins: Sequence[Plugin], preset: str | Sequence[str] | None) -> list[Layer]:
    """Layers of the presets. The first modality's decides shared keys; the others' set only the plugins' own.

    Args:
        plugins: the modalities in their order.
        preset: a name, which counts for every modality that has such a preset, or `NAME=PRESET` for one, or several.

    Raises:
        UsageError: there is no such preset, or its file is wrong, or one modality is given two.
    """
    general, own = _named(plugins, [preset] if isinstance(preset, str) else preset or ())
    layers = []
    for index, plugin in enumerate(plugins):
        presets = plugin.presets()
        name = own.get(plugin.name, general)
        if name is None or (plugin.name not in own and index > 0 and name not in presets):
            name = plugin.manifest.default_preset
        if not presets and general is None and plugin.name not in own:
            continue
        origin = f"preset {plugin.name}/{name}"
        content = read_yaml(plugin.preset(name))
        if "modalities" in content:
            raise UsageError(f"{origin}: a preset sets its own modality's keys under `modality:`, not `modalities:`")
        values = expand(content, [plugin], origin)
        if index > 0:
            values = {key: value for key, value in values.items() if key == "modalities"}
        layers.append(Layer(origin, values))
    return layers


def _named(plugins: Sequence[Plugin], texts: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The preset of all modalities, and those of single ones by their names."""
    names = [plugin.name for plugin in plugins]
    general: str | None = None
    own: dict[str, str] = {}
    for text in texts:
        name, equals, preset = text.partition("=")
        if equals and name not in names:
            hint = did_you_mean(name, names) or f"the run has: {', '.join(names)}"
            raise UsageError(f"--preset {text}: {name!r} is no modality of this run", hint)
        if name in own if equals else general is not None:
            raise UsageError(f"--preset {text}: a second preset", "several modalities take NAME=PRESET each")
        if equals:
            own[name] = preset
        else:
            general = text
    return general, own


def expand(content: Mapping[str, Any], plugins: Sequence[Plugin], origin: str) -> dict[str, Any]:
    """Replace the `modality:` shorthand of a file by `modalities: NAME: config:`.

    Raises:
        UsageError: it is no mapping, or several modalities leave open whose it is.
    """
    values = dict(content)
    if "modality" not in values:
        return values
    own = values.pop("modality")
    if len(plugins) != 1:
        raise UsageError(
            f"{origin}: `modality:` is ambiguous with several modalities", "write modalities: NAME: config:"
        )
    if not isinstance(own, dict | None):
        raise UsageError(f"{origin}: `modality:` must be a mapping of keys")
    return merge(values, {"modalities": {plugins[0].name: {"config": own or {}}}})
