"""The data-set card: where data came from, what was left out and why, and how it was split."""

from typing import Annotated

from pydantic import Field

from unite_mm_schemas.base import Schema

Count = Annotated[int, Field(ge=0)]
"""A number of things."""


class SourceFile(Schema):
    """One input file of a data set."""

    name: str
    """File name without folders."""
    bytes: Count
    """Size in bytes."""
    sha256: str
    """SHA-256 of the content."""


class Exclusion(Schema):
    """Samples that a filter left out."""

    reason: str
    """Why, in words."""
    count: Count
    """How many."""
    examples: tuple[str, ...] = ()
    """Names of the first ones, `name: detail`."""


class DataCard(Schema):
    """What a prepared data set holds and how it came to be."""

    schema_version: int = 1
    """Version of this schema."""
    modality: str
    """Modality the data belongs to."""
    name: str
    """Short name of the source, such as `qm9`, `embedded` or a file name."""
    description: str
    """One line that every table of results repeats, such as `QM9 molecules, MMFF94 geometries`."""
    files: tuple[SourceFile, ...] = ()
    """Input files with sizes and hashes."""
    read: Count
    """Samples found in the source."""
    kept: Count
    """Samples kept after all filters."""
    excluded: tuple[Exclusion, ...] = ()
    """What was left out; the counts and `kept` add up to `read`."""
    splits: dict[str, Count]
    """Number of samples in each split."""
    split_hash: str
    """SHA-256 over the sorted keys of each split: equal for equal splits, whatever the file order."""
    notes: tuple[str, ...] = ()
    """Anything else a user of the data must know."""
    settings: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Settings of the preparation that changed its result."""
