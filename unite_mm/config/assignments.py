"""The layers of `--set` and `--data`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from unite_mm.config.layers import KIND
from unite_mm.config.options import Layer
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin
from unite_mm.utils.validation import did_you_mean, suggest_key
from unite_mm.utils.yaml_text import RefusedError, load_yaml
from unite_mm_schemas.config import RunConfig


def assignment_layers(texts: Sequence[str], plugins: Sequence[Plugin]) -> list[Layer]:
    """The layers of all `--set`, in their order, but those that choose the kind of a section first.

    A section of another kind replaces the one below: what is set in it counts wherever it stands on the command line.

    Raises:
        UsageError: one is not of the form key=value, or its key belongs to no section.
    """
    return [assignment_layer(text, plugins) for text in sorted(texts, key=_kinds_first)]


def _kinds_first(text: str) -> float:
    key = text.partition("=")[0].strip()
    return key.count(".") if key.endswith(f".{KIND}") else float("inf")


def assignment_layer(text: str, plugins: Sequence[Plugin]) -> Layer:
    """The layer of one `--set key=value`; `NAME.key` is short for `modalities.NAME.config.key`.

    Raises:
        UsageError: it is not of this form, or its key belongs to no section.
    """
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {text}: not of the form key=value", "for example --set trunk.width=192")
    try:
        value = load_yaml(raw)
    except RefusedError as error:
        raise UsageError(f"--set {text}: {error.problem}") from error
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


def source_layer(text: str, plugins: Sequence[Plugin]) -> Layer:
    """The layer of one `--data`; existing paths are stored absolute, so that a run resumes from anywhere.

    Raises:
        UsageError: several modalities leave open whose data it is.
    """
    name, equals, source = text.partition("=")
    chosen = {plugin.name: plugin for plugin in plugins}
    if not (equals and name in chosen):
        if len(plugins) > 1:
            raise UsageError(f"--data {text}: ambiguous, the run has several modalities", f"write --data NAME={text}")
        name, source = plugins[0].name, text
    if not source:
        raise UsageError(f"--data {text}: names no data", "give a source that the modality knows, or a path")
    known = [entry.name for entry in chosen[name].manifest.sources]
    path = Path(source).expanduser()
    if source not in known and path.exists():
        source = str(path.resolve())
    return Layer(f"--data {text}", {"modalities": {name: {"source": source}}})
