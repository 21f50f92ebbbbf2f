"""Turns Pydantic's errors into one line a user can act on: the full dotted path, what is wrong, what was meant.

A section may be a union of models told apart by a key, such as `kind`. Pydantic names the chosen model in the location
of an error, as if its tag were a key; the paths shown here are those that a user writes.
"""

import difflib
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from unite_mm.errors import UniteError, UsageError
from unite_mm.utils.schema_tree import Place, dotted_keys, walk
from unite_mm_schemas.base import NOT_FINITE, NOT_FINITE_WORDS
from unite_mm_schemas.config import RunConfig

_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of keys",
}


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`did you mean 'width'?`, or an empty string when nothing is near."""
    near = _nearest(name, options)
    return f"did you mean {near!r}?" if near else ""


def first_error(error: ValidationError, model: type[BaseModel], prefix: str = "") -> tuple[str, str]:
    """The first of `all_errors`."""
    return all_errors(error, model, prefix)[0]


def all_errors(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """Each error: its dotted path under `prefix`, and the message in words, with a suggestion where one is near.

    Unknown keys come before all others: a misspelt key is often the cause of the rest.
    """
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    return [_in_words(detail, model, prefix) for detail in details]


def one_line(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """`path: message` of the first error, and how many more there are."""
    path, message = first_error(error, model, prefix)
    # Rules over several keys name these keys themselves.
    line = message if not path or message.startswith(f"{path}.") else f"{path}: {message}"
    more = error.error_count() - 1
    return f"{line} (and {more} more)" if more else line


def suggest_key(location: Sequence[str], model: type[BaseModel], prefix: str = "") -> str:
    """What an unknown key may have meant: one of another kind of section, a sibling, or the same word elsewhere.

    Args:
        location: Pydantic's location of the key.
        model: the model at the root.
        prefix: what the suggested path begins with.
    """
    place = walk(location, model)
    word = location[-1]
    # Of several kinds that have a key the first is named.
    tags = {key: tag for tag, member in reversed(list(place.others.items())) for key in member.model_fields}
    if word in tags:
        return f"{place.discriminator} {tags[word]!r} has it"
    sibling = did_you_mean(word, place.parent.model_fields) if place.parent else ""
    if sibling:
        return sibling
    near = _nearest(word, tags)
    if near:
        return f"did you mean {near!r} of {place.discriminator} {tags[near]!r}?"
    last = {path.rpartition(".")[2]: path for path in reversed(list(dotted_keys(model)))}
    near = _nearest(word, last, cutoff=0.8)
    return f"did you mean {prefix + last[near]!r}?" if near else ""


def _in_words(detail: Any, model: type[BaseModel], prefix: str) -> tuple[str, str]:
    location = [str(part) for part in detail["loc"]]
    place = walk(location, model)
    path = prefix + ".".join(place.path)
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{path}.{place.discriminator}", _of_tag(detail, place)
    if detail["type"] == NOT_FINITE:
        return f"{path}.{detail['ctx']['place']}", NOT_FINITE_WORDS
    message: str = _WORDS.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        suggestion = suggest_key(location, model, prefix)
        message += f"; {suggestion}" if suggestion else ""
    elif detail["type"] not in ("missing", "value_error"):
        message = f"{message[0].lower()}{message[1:]}, not {brief(detail['input'])}"
    return path, message


def _of_tag(detail: Any, place: Place) -> str:
    """What is wrong with the key that chooses among the models of a section."""
    there_are = f"there are: {', '.join(place.others)}"
    if detail["type"] == "union_tag_not_found":
        return f"is missing; {there_are}"
    tag = detail["ctx"]["tag"]
    hint = " ".join(filter(None, [did_you_mean(tag, place.others), there_are]))
    return f"unknown {place.discriminator} {tag!r}; {hint}"


def _nearest(name: str, options: Iterable[str], cutoff: float = 0.6) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(options), n=1, cutoff=cutoff)), None)


def brief(value: Any) -> str:
    """A value as a message quotes it: not longer than a few words."""
    if isinstance(value, Mapping):
        return "a mapping"
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 40 else text[:37] + "..."


def check_format(path: Path, config: Any) -> None:
    """Refuse the run configuration of a file that an older version of unite-mm wrote.

    Args:
        path: the file.
        config: the configuration as it was read, before validation.

    Raises:
        UniteError: it has an older format: its tensors have other names, and its seeds mean other numbers.
    """
    found = config.get("schema_version") if isinstance(config, Mapping) else None
    current = RunConfig.model_fields["schema_version"].default
    if isinstance(found, int) and found < current:
        raise UniteError(
            f"{path} was written by an older unite-mm: format {found}, and this version reads format {current}",
            "use the version that wrote it, or train again",
        )


def not_negative(**numbers: int) -> None:
    """Check a count, a seed or an index.

    Raises:
        UsageError: one is negative or no integer.
    """
    for name, value in numbers.items():
        try:
            good = operator.index(value) >= 0
        except TypeError:
            good = False
        if not good:
            raise UsageError(f"{name}={value!r}: must be a whole number from 0", f"such as {name}=7")
