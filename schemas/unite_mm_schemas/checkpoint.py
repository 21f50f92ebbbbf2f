"""The record that lies beside the tensors of every checkpoint and every exported model."""

from typing import Annotated, Any, Literal

from pydantic import Field

from unite_mm_schemas.base import MOST_STEPS, Finite, Schema
from unite_mm_schemas.card import DataCard
from unite_mm_schemas.config import RunConfig


class ModalityRecord(Schema):
    """What a checkpoint knows of one modality."""

    distribution: str
    """Distribution that provided the plugin, `name version`."""
    contract: int = Field(ge=1)
    """Version of the contract the plugin was written for."""
    statistics: Annotated[dict[str, Any], Finite]
    """Facts of the training split: sizes, scales, the prior. Sampling needs no data set."""
    card: DataCard | None = None
    """Card of the data the model was trained on."""


class SettingChange(Schema):
    """A setting that a resumed run changed."""

    step: int = Field(ge=0)
    """Optimizer steps done when it changed."""
    key: str
    """Dotted path of the setting."""
    before: Any = None
    """What it was."""
    after: Any = None
    """What it is from then on."""


class StageRecord(Schema):
    """Where the current stage of a run began; runs of one stage are in it from the start."""

    number: int = Field(1, ge=1, le=100)
    """The stage, from 1."""
    step: int = Field(0, ge=0, le=MOST_STEPS)
    """Optimizer steps done when it began."""
    seconds: float = Field(0.0, ge=0, le=1e12)
    """Seconds of training when it began."""


class CheckpointRecord(Schema):
    """`record.json` of a checkpoint or exported folder."""

    schema_version: int = Field(2, ge=1, le=2)
    """Version of this schema; from 2 on records have a checksum."""
    kind: Literal["checkpoint", "export"] = "checkpoint"
    """`checkpoint` (can be resumed) or `export` (weights only)."""
    step: int = Field(ge=0, le=MOST_STEPS)
    """Optimizer steps done."""
    seconds: float = Field(0.0, ge=0, le=1e12)
    """Seconds of training so far, over all resumed parts."""
    stage: StageRecord = StageRecord()
    """Stage of a run that is trained in several."""
    samples: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Training samples seen of each modality: the position in its data stream."""
    config: RunConfig
    """The resolved run configuration."""
    modalities: dict[str, ModalityRecord]
    """What is known of each modality."""
    changes: tuple[SettingChange, ...] = ()
    """Settings that `--resume` changed on the way, oldest first."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of Python, torch and unite-mm."""
    files: dict[str, str]
    """SHA-256 of every tensor file of the folder."""
    checksum: str = ""
    """SHA-256 over everything else in this record, as JSON with sorted keys and no blanks."""
