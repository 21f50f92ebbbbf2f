"""What a user asks for, and the layers of settings it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unite_mm_schemas.config import RunConfig


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
        base: layers that count above the presets and below everything else, such as `trunk_layer`.
    """

    modalities: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    preset: str | None = None
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    base: tuple[Layer, ...] = ()


def trunk_layer(other: RunConfig, folder: Path) -> Layer:
    """The layer of `--init-trunk`: the other run's trunk, and where its weights are.

    Args:
        other: the configuration of the other run.
        folder: its folder; stored absolute, so that the new run resumes from anywhere.
    """
    trunk = other.trunk.model_dump(mode="json")
    return Layer(f"--init-trunk {folder}", {"trunk": trunk, "train": {"init_trunk": str(folder.resolve())}})
