"""Turns Pydantic's errors into one line a user can act on: the full dotted path, what is wrong, what was meant."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "model_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of keys",
}


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`did you mean 'width'?`, or an empty string when nothing is near."""
    near = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys of a model as dotted paths, nested models entered."""
    for name, field in model.model_fields.items():
        yield prefix + name
        nested = nested_model(field.annotation)
        if nested is not None:
            yield from dotted_keys(nested, f"{prefix}{name}.")


def nested_model(annotation: Any) -> type[BaseModel] | None:
    """The model a field holds directly or in a union; None for anything else."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def first_error(error: ValidationError, model: type[BaseModel], prefix: str = "") -> tuple[str, str]:
    """The first of `all_errors`."""
    return all_errors(error, model, prefix)[0]


def all_errors(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """Each error: its dotted path under `prefix`, and the message in words, with a suggestion where one is near.

    Unknown keys come before all others: a misspelt key is often the cause of the rest.
    """
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    return [_in_words(detail, model, prefix) for detail in details]


def _in_words(detail: Any, model: type[BaseModel], prefix: str) -> tuple[str, str]:
    location = [str(part) for part in detail["loc"]]
    path = prefix + ".".join(location)
    message: str = _WORDS.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        suggestion = suggest_key(location, model, prefix)
        message += f"; {suggestion}" if suggestion else ""
    elif detail["type"] not in ("missing", "value_error"):
        message = f"{message[0].lower()}{message[1:]}, not {_shown(detail['input'])}"
    return path, message


def one_line(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """`path: message` of the first error, and how many more there are."""
    path, message = first_error(error, model, prefix)
    # Rules over several keys name these keys themselves.
    line = message if not path or message.startswith(f"{path}.") else f"{path}: {message}"
    more = error.error_count() - 1
    return f"{line} (and {more} more)" if more else line


def suggest_key(location: Sequence[str], model: type[BaseModel], prefix: str = "") -> str:
    """What an unknown key may have meant: a sibling, or the same word elsewhere in the tree."""
    level: type[BaseModel] | None = model
    parts = iter(location[:-1])
    for part in parts:
        field = level.model_fields.get(part) if level else None
        level = nested_model(field.annotation) if field else None
        if field and get_origin(field.annotation) in (tuple, list, dict):
            next(parts, None)  # the index or key inside the container
    word = location[-1]
    sibling = did_you_mean(word, level.model_fields) if level else ""
    if sibling:
        return sibling
    last = {path.rpartition(".")[2]: path for path in reversed(list(dotted_keys(model)))}
    near = difflib.get_close_matches(word, last, n=1, cutoff=0.8)
    return f"did you mean {prefix + last[near[0]]!r}?" if near else ""


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
