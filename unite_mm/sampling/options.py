"""Settings of sampling, and options of a plugin's own: the run's and the defaults, with what a caller changes."""

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from unite_mm.config.layers import merge
from unite_mm.contract import Modality
from unite_mm.errors import UniteWarning, UsageError
from unite_mm.utils.validation import one_line
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import RunConfig, SamplingConfig

Options = Mapping[str, Any] | BaseModel | None
"""Options of a plugin's own: single ones by key, all of them, or none."""
Settings = SamplingConfig | Mapping[str, Any] | None
"""Settings of sampling: all of them, single ones by key, or none."""


def chosen_options(modality: Modality, given: Options) -> Any:
    """The options that a modality generates with, complete; None where it has none.

    Args:
        modality: declares them.
        given: changes single ones, by key, or replaces them all; None: its defaults.

    Raises:
        UsageError: there is no such option, or a value is refused.
    """
    defaults = modality.sampling_options()
    if defaults is None:
        if given:
            raise UsageError(f"modality {modality.name!r} has no options of its own for sampling", "leave them out")
        return None
    model = type(defaults)
    if given is None or isinstance(given, model):
        return given or defaults
    if not isinstance(given, Mapping):
        raise UsageError(f"options: {type(given).__name__} holds none", f"give a {model.__name__} or a mapping")
    try:
        return model.model_validate(merge(defaults.model_dump(), given))
    except ValidationError as error:
        raise UsageError(one_line(error, model, f"{modality.name}.sampling.")) from error


def chosen_settings(base: SamplingConfig, given: Any, settings: Mapping[str, Any]) -> SamplingConfig:
    """The settings of sampling: all of `given`, or `base` with what a mapping changes; then single ones.

    Args:
        base: those of the run.
        given: a `SamplingConfig`, a mapping, or None.
        settings: single ones by name, which count above `given`.

    Raises:
        UsageError: a key is unknown or a value is refused.
    """
    if given is not None and not isinstance(given, SamplingConfig | Mapping):
        raise UsageError(
            f"sampling: {type(given).__name__} holds no settings",
            "give a SamplingConfig or a mapping such as {'steps': 50}",
        )
    base = given if isinstance(given, SamplingConfig) else base
    changes = {**(given if isinstance(given, Mapping) else {}), **settings}
    if not changes:
        return base
    try:
        return SamplingConfig.model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        raise UsageError(f"sampling: {one_line(error, SamplingConfig)}") from error


def warn_untrained(config: RunConfig, record: CheckpointRecord | None) -> None:
    """Warn of a model of two stages whose denoiser has not been trained yet."""
    if config.recipe.kind == "staged" and record is not None and record.stage.number == 1:
        text = "this model is in the first of two stages: its denoiser is not trained yet"
        warnings.warn(text, UniteWarning, stacklevel=4)
