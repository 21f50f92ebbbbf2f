"""Merging nested mappings layer by layer, remembering which layer set each key."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unite_mm.config.options import Layer
from unite_mm.errors import UsageError
from unite_mm.utils.validation import brief
from unite_mm_schemas.config import RunConfig

KIND = "kind"
"""The key that says which alternative a section is, where it has several: a configuration gives it no other meaning."""

SECTIONS = tuple(name for name in RunConfig.model_fields if name != "schema_version")
"""The keys of a configuration that hold others."""

_Path = tuple[str, ...]


@dataclass
class Merged:
    """Settings merged so far.

    Attributes:
        values: the nested mapping.
        origins: the name of the last layer that set each key or section of `values`; defaults have none.
    """

    values: dict[str, Any]
    origins: dict[_Path, str] = field(default_factory=dict)

    def add(self, layer: Layer, values: Mapping[str, Any] | None = None) -> None:
        """Put a layer on top.

        Args:
            layer: the layer.
            values: what it comes to where that differs from `layer.values`; only keys of the latter count as set by it.

        Raises:
            UsageError: a section of it is no mapping.
        """
        given = layer.values if values is None else values
        check_shape(layer.origin, given)
        self.values = merge(self.values, given)
        # What a section of another kind has replaced must not be blamed for errors of its successor.
        kept = {path: origin for path, origin in self.origins.items() if _has(self.values, path)}
        self.origins = kept | {path: layer.origin for path in _paths(layer.values)}

    def error(self, path: str, message: str) -> UsageError:
        """The error of a key, with the layer that set it, or the section it is in."""
        # Rules over several keys name these keys themselves.
        named = not path or message.startswith(f"{path}.") or path.endswith(".")
        text = message if named else f"{path}: {message}"
        parts = tuple(path.rstrip(".").split("."))
        for depth in range(len(parts), 0, -1):
            if parts[:depth] in self.origins:
                return UsageError(f"{text} ({self.origins[parts[:depth]]})")
        return UsageError(text)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` wins key by key; a section of another `kind` replaces the one below as a whole."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = dict(value) if _of_another_kind(old, value) else merge(old, value)
        elif value is None and isinstance(old, dict):
            continue  # an empty section of a YAML file (`flow:`) changes nothing
        else:
            merged[key] = value
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def only(layers: Sequence[Layer], *, modalities: bool) -> list[Layer]:
    """The layers with nothing but the section `modalities`, or with everything but it."""
    return [
        Layer(layer.origin, {key: value for key, value in layer.values.items() if (key == "modalities") == modalities})
        for layer in layers
    ]


def check_shape(origin: str, values: Mapping[str, Any]) -> None:
    """Refuse sections, modalities and their configurations that are no mappings; empty ones change nothing.

    Args:
        origin: the layer.
        values: what it sets.

    Raises:
        UsageError: one is something else. It would silently replace all below, and a later layer it in turn.
    """
    for name in SECTIONS:
        _check_mapping(name, values.get(name), origin)
    for name, run in (values.get("modalities") or {}).items():
        _check_mapping(f"modalities.{name}", run, origin)
        _check_mapping(f"modalities.{name}.config", (run or {}).get("config"), origin)


def _check_mapping(path: str, value: Any, origin: str) -> None:
    if not isinstance(value, dict | None):
        raise UsageError(f"{path}: must be a mapping of keys, not {brief(value)} ({origin})")


def _of_another_kind(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    return KIND in below and KIND in above and below[KIND] != above[KIND]


def _paths(values: Mapping[str, Any], prefix: _Path = ()) -> Iterator[_Path]:
    """The paths of all keys and sections."""
    for key, value in values.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, key))


def _has(values: Any, path: _Path) -> bool:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True
