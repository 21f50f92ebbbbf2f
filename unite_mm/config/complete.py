"""From layers to a validated configuration, in which each plugin's own is complete."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from unite_mm.config.files import parse_duration
from unite_mm.config.layers import Merged
from unite_mm.config.options import Layer
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin
from unite_mm.utils.schema_tree import with_default_kinds
from unite_mm.utils.validation import first_error
from unite_mm_schemas.base import NOT_FINITE_WORDS, not_finite
from unite_mm_schemas.config import RunConfig

_LENGTHS = ("max_steps", "max_time")


def complete(layers: Sequence[Layer], plugins: Sequence[Plugin]) -> RunConfig:
    """The configuration of layers over the defaults; each plugin's own is filled in from its own model.

    Raises:
        UsageError: a key is unknown or a value is refused; the message names the layer.
        UniteError: a configuration model cannot be imported.
    """
    names = [plugin.name for plugin in plugins]
    config, merged = _validated(layers, {name: {"config": {}} for name in names})
    unselected = [name for name in config.modalities if name not in names]
    if unselected:
        raise merged.error(f"modalities.{unselected[0]}", "this modality is not selected")
    modalities = {}
    for plugin in plugins:
        run = config.modalities[plugin.name]
        model = plugin.load_configuration()
        try:
            own = model.model_validate(with_default_kinds(run.config, model))
        except ValidationError as error:
            path, message = first_error(error, model, f"modalities.{plugin.name}.config.")
            raise merged.error(path, message) from error
        values = own.model_dump(mode="json")
        odd = not_finite(values)  # models of plugins may allow it, but JSON gives back null
        if odd is not None:
            raise merged.error(f"modalities.{plugin.name}.config.{odd}", NOT_FINITE_WORDS)
        modalities[plugin.name] = run.model_copy(update={"config": values})
    return config.model_copy(update={"modalities": modalities})


def check_shared(layers: Sequence[Layer]) -> None:
    """Check the sections that all runs share.

    Raises:
        UsageError: a key is unknown or a value is refused; the message names the layer.
    """
    _validated(layers, {})


def _validated(layers: Sequence[Layer], modalities: dict[str, Any]) -> tuple[RunConfig, Merged]:
    merged = Merged({**RunConfig().model_dump(mode="json"), "modalities": modalities})
    for layer in layers:
        merged.add(layer, _one_length(layer))
    try:
        return RunConfig.model_validate(merged.values), merged
    except ValidationError as error:
        path, message = first_error(error, RunConfig)
        raise merged.error(path, message) from error


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
