"""What a user asks for, and the layers of settings it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unite_mm_schemas.config import AUTO, RunConfig


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
        preset: name of a preset, or `NAME=PRESET` for one modality of several; None: each plugin's default one.
        file: a YAML (or JSON) configuration file.
        assignments: `key=value` pairs.
        flags: nested mapping of what flags set.
        regime: a name of `unite_mm.config.regimes.REGIMES`; None: what the presets say.
        base: layers that count above the presets and the regime and below everything else, such as `trunk_layer`.
        start: a whole configuration in place of the presets, such as `decoder_layer`.
    """

    modalities: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    preset: str | tuple[str, ...] | None = None
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    regime: str | None = None
    base: tuple[Layer, ...] = ()
    start: Layer | None = None


def trunk_layer(other: RunConfig, folder: Path) -> Layer:
    """The layer of `--init-trunk`: the other run's trunk, and where its weights are.

    Args:
        other: the configuration of the other run.
        folder: its folder; stored absolute, so that the new run resumes from anywhere.
    """
    trunk = other.trunk.model_dump(mode="json")
    recipe = {"kind": "joint", "init_trunk": str(folder.resolve())}
    return Layer(f"--init-trunk {folder}", {"trunk": trunk, "recipe": recipe})


def decoder_layer(trained: RunConfig, folder: Path, kind: str = "decoder") -> Layer:
    """The layer of `--recipe decoder --init`: all that the trained model was configured with, under another recipe.

    But for what was decided for the machine that it was trained on, which may be another, and what was added to a flow
    loss that there is not.

    Args:
        trained: the configuration of the trained model.
        folder: its folder; stored absolute, so that the fine-tune resumes from anywhere.
        kind: of the recipe.
    """
    recipe = {"kind": kind, "init": str(folder.resolve())}
    values = trained.model_dump(mode="json")
    values["train"] |= {"accelerator": "auto", "devices": AUTO, "threads": AUTO, "compile": AUTO}
    values |= {"alignment": {"kind": "none"}, "latent_gradient": {"kind": "none"}}
    return Layer(f"--init {folder}", {**values, "recipe": recipe})
