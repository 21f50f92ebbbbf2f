"""The plugin manifest: a YAML file that describes a modality without importing it."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from unite_mm_schemas.base import Schema

CONTRACT_VERSION = 2
"""Version of the contract between core and plugin (unite_mm.contract); a manifest names the one it was written for."""

OLDEST_CONTRACT_VERSION = 2
"""Oldest version of the contract that this core still serves."""


def _object_reference(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", value):
        raise ValueError(f"{value!r} is not of the form package.module:Class")
    return value


ObjectReference = Annotated[str, AfterValidator(_object_reference)]

RESERVED_NAMES = (
    *("schema_version", "modalities", "trunk", "latent", "flow", "regime", "recipe", "alignment", "latent_gradient"),
    *("optim", "train", "sampling"),
)
"""Sections of a run's configuration: `--set NAME.key=value` could not tell them from a modality."""

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"


def _modality_name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError(f"{value!r} is no name: use lower-case letters, digits and _, beginning with a letter")
    if value in RESERVED_NAMES:
        raise ValueError(f"{value!r} is a section of every run's configuration: choose another name")
    return value


ModalityName = Annotated[str, AfterValidator(_modality_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]


class PresetEntry(Schema):
    """A preset that the plugin ships."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What `--preset` takes."""
    file: str
    """YAML file, relative to the manifest."""
    description: str
    """One line."""


class ModelEntry(Schema):
    """A trained model that the plugin ships: an exported folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What every command takes in place of a run folder, such as `qm9-tiny`; unique among all that is installed."""
    folder: str
    """What `unite-mm export` wrote, relative to the manifest and inside its package."""
    description: str = Field(min_length=1, max_length=120)
    """One line for `unite-mm models list`."""


class SourceEntry(Schema):
    """A data source that `--data` knows by name."""

    name: str
    """What `--data` takes."""
    description: str
    """One line."""
    licence: str = ""
    """Licence of the data, as SPDX names it (`CC0-1.0`), for the card of a model trained on them; empty: not stated."""
    offline: bool = False
    """Whether it is small and needs neither a network nor files of one's own: checks use the first such source."""


class FormatEntry(Schema):
    """A file format of samples."""

    suffix: str = Field(pattern=r"^(/|\.[A-Za-z0-9_.]+)$")
    """File suffix with its dot (`.sdf`), or `/` for a folder."""
    description: str
    """One line."""
    read: bool = True
    """Whether the plugin reads it."""
    write: bool = True
    """Whether the plugin writes it."""
    exact: bool = True
    """Whether samples come back as they were; false for a format that leaves out a part of them, or compresses it."""


class MetricEntry(Schema):
    """A metric that the plugin reports."""

    name: str
    """Machine name in reports."""
    kind: Literal["reconstruction", "generation"]
    """What it judges."""
    definition: str
    """What is counted over what."""


class ImporterOption(Schema):
    """Something a foreign checkpoint may not tell, asked for by a flag."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    """Name of the flag, without its dashes."""
    type: Literal["integer", "number", "text"] = "text"
    """Kind of value."""
    choices: tuple[str, ...] = ()
    """The only values allowed; empty: any."""
    description: str
    """One line."""


class ImporterEntry(Schema):
    """A kind of foreign checkpoint that the plugin turns into a model."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    """What it imports, such as `official`: checkpoints of the method's official code."""
    function: ObjectReference
    """`package.module:function`, from a path and options to `unite_mm.contract.Imported`."""
    description: str
    """One line."""
    options: tuple[ImporterOption, ...] = ()
    """What it may ask for beyond the file."""


class ModalityManifest(Schema):
    """`modality.yaml` of a plugin."""

    name: ModalityName
    """The modality's name; equals the entry point's."""
    description: str = Field(min_length=1, max_length=120)
    """One line for `unite-mm plugins list`."""
    contract: int = Field(ge=1)
    """Version of the core's contract the plugin was written for."""
    configuration: ObjectReference
    """The Pydantic configuration model, `package.module:Class`."""
    implementation: ObjectReference
    """The `Modality` subclass, `package.module:Class`."""
    default_preset: str = "default"
    """Preset used when none is named; it must be listed under `presets`."""
    presets: tuple[PresetEntry, ...] = ()
    """Presets the plugin ships."""
    models: tuple[ModelEntry, ...] = ()
    """Trained models the plugin ships."""
    sources: tuple[SourceEntry, ...] = ()
    """Data sources known by name."""
    default_source: str | None = None
    """The source used where none is named; it must be listed under `sources`. None: data must always be named."""
    formats: tuple[FormatEntry, ...] = ()
    """File formats of samples."""
    metrics: tuple[MetricEntry, ...] = ()
    """Metrics the plugin reports."""
    importers: tuple[ImporterEntry, ...] = ()
    """Foreign checkpoints the plugin turns into models."""
