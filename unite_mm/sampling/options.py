"""Options of a plugin's own for generation: its defaults with what a caller changes."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from unite_mm.config.layers import merge
from unite_mm.contract import Modality
from unite_mm.errors import UsageError
from unite_mm.utils.validation import one_line


def chosen_options(modality: Modality, given: Mapping[str, Any] | BaseModel | None) -> Any:
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
