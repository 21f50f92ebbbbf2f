"""The layers of presets."""

from collections.abc import Mapping, Sequence
from typing import Any

from unite_mm.config.files import read_yaml
from unite_mm.config.layers import merge
from unite_mm.config.options import Layer
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin


def preset_layers(plugins: Sequence[Plugin], preset: str | None) -> list[Layer]:
    """Layers of the presets. The first modality's decides shared keys; the others' set only the plugins' own.

    Raises:
        UsageError: there is no such preset, or its file is wrong.
    """
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
        values = expand(content, [plugin], origin)
        if index > 0:
            values = {key: value for key, value in values.items() if key == "modalities"}
        layers.append(Layer(origin, values))
    return layers


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
