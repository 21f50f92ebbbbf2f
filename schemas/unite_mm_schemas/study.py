"""A study: variants of one run, at equal compute, over several seeds; and the table that comes of it."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from unite_mm_schemas.base import LARGEST_SEED, MOST_STEPS, Finite, Schema
from unite_mm_schemas.metrics import Measured, MetricsReport

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,59}")
"""Names of variants: they are names of folders."""


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("the same seed twice")
    return seeds


Settings = Annotated[dict[str, Any], Finite]
"""Settings by their dotted keys, as `--set` takes them; `modality.KEY` is the plugin's own, whatever its name."""


class StudyBase(Schema):
    """What every run of a study is given."""

    modality: str | None = None
    """Modality to train; None: the only one installed, or `--modality`."""
    data: str | None = Field(None, min_length=1)
    """Data source; None: the modality's own."""
    preset: str | None = None
    """Preset; None: the modality's default one."""
    settings: Settings = Field(default_factory=dict)
    """Settings above the preset's. Runs take one process of one thread and do not compile unless they say so."""
    flags: tuple[str, ...] = ()
    """Further words of the command `train`."""


class StudyVariant(Schema):
    """How one variant differs from the base."""

    settings: Settings = Field(default_factory=dict)
    """Settings that count above the base's."""
    flags: tuple[str, ...] = ()
    """Further words of the command `train`."""
    description: str = ""
    """What it stands for, for the table."""


class StudyLength(Schema):
    """The length of the runs, and what makes them comparable."""

    equal: Literal["operations", "seconds", "steps"] = "operations"
    """What all runs have in common. `operations`: those of matrix products, convolutions and attention, forward and
    backward, as counted; `seconds` of training on this machine; `steps` alone, which favours the costlier variant."""
    steps: int | None = Field(None, ge=1, le=MOST_STEPS)
    """Optimizer steps of the first variant; with `equal: operations` the others make as many as their operations
    allow."""
    seconds: float | None = Field(None, gt=0, le=1e9)
    """Seconds of training of every run, with `equal: seconds`."""

    @model_validator(mode="after")
    def _one_length(self) -> "StudyLength":
        wanted, other = ("seconds", "steps") if self.equal == "seconds" else ("steps", "seconds")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"length.equal={self.equal} needs length.{wanted}, and no length.{other}")
        return self


class StudyMeasure(Schema):
    """What is measured of every run."""

    samples: int = Field(1000, ge=0, le=100_000_000)
    """Samples to generate and score; 0: none."""
    reconstructions: int = Field(1000, ge=0, le=100_000_000)
    """Held-out samples to reconstruct and score; 0: none."""
    split: Literal["validation", "test"] = "test"
    """Whose samples are reconstructed: choices belong to `validation`, results to `test`."""
    metrics: tuple[str, ...] = ()
    """Names of the metrics in the printed table, in their order; empty: all. `table.json` always holds all."""
    settings: Settings = Field(default_factory=dict)
    """Settings of the evaluation, as `evaluate --set` takes them."""
    analyse: tuple[str, ...] = ()
    """Parts of `unite-mm analyse` that are done at the end, on the first seed of every variant."""


class StudyConfig(Schema):
    """A whole study."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    title: str = ""
    """What it asks."""
    base: StudyBase = StudyBase()
    """What all runs have in common."""
    variants: dict[str, StudyVariant] = Field(min_length=1)
    """The variants by name; the first one is what the others are compared with, and sets their operations."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...], AfterValidator(_distinct)] = Field(
        (0, 1, 2), min_length=1
    )
    """Seeds; every variant runs with each of them."""
    length: StudyLength
    """How long runs are."""
    measure: StudyMeasure = StudyMeasure()
    """What is measured."""

    @model_validator(mode="after")
    def _names_are_folders(self) -> "StudyConfig":
        for name in self.variants:
            if not NAME.fullmatch(name):
                raise ValueError(f"variants: {name!r} has other characters than lower-case letters, digits, - and .")
        return self


class StudyCell(Measured):
    """One metric of one variant, over all seeds."""

    metric: str
    """Kind of the score and name of the metric, such as `generation/validity`."""
    title: str
    """What a table calls it."""
    unit: str = ""
    """Unit of the value; empty for shares and plain numbers."""
    share: bool = False
    """Whether it is a share of counted things."""
    values: tuple[float | None, ...]
    """The value of every seed, in the order of `StudyTable.seeds`; None where it could not be measured."""
    mean: float | None
    """Mean of the seeds that have a value."""
    seeds_interval: tuple[float, float] | None = None
    """95 % interval of the mean over the seeds (Student's t): how much another seed may change it."""
    count: int | None = None
    """Numerator of a share, over all seeds together."""
    total: int | None = None
    """Denominator of a share, over all seeds together."""
    binomial_interval: tuple[float, float] | None = None
    """95 % interval of a share over the samples (Wilson), of these very models: it knows nothing of other seeds."""
    difference: float | None = None
    """Mean difference to the first variant, seed by seed."""
    difference_interval: tuple[float, float] | None = None
    """95 % interval of that difference over the seeds (paired, Student's t)."""


class StudyRow(Measured):
    """One variant."""

    variant: str
    """Its name."""
    description: str = ""
    """What it stands for."""
    parameters: int | None = None
    """Parameters of its network."""
    steps: tuple[int | None, ...]
    """Optimizer steps of every seed; None where a run has not ended."""
    operations: float | None = None
    """Operations of one run, as counted; None where runs have equal seconds."""
    cells: tuple[StudyCell, ...] = ()
    """Its metrics."""


class StudyTable(Schema):
    """The content of `table.json`."""

    schema_version: int = 1
    """Version of this schema."""
    title: str = ""
    """What the study asks."""
    modality: str
    """The modality."""
    data: str = ""
    """Description of the data."""
    equal: str
    """What the runs have in common."""
    seeds: tuple[int, ...]
    """The seeds."""
    rows: tuple[StudyRow, ...]
    """The variants in their order."""
    definitions: dict[str, str] = Field(default_factory=dict)
    """What each metric is, by its name in the cells."""


class StudyRun(Schema):
    """One run of a study: what it was asked to do, and once it has ended what was measured."""

    variant: str
    """Name of the variant."""
    seed: int
    """Its seed."""
    train: tuple[str, ...]
    """Words of `train`, without its folder and the cache."""
    evaluate: tuple[str, ...]
    """Words of `evaluate`, likewise."""
    steps: int | None = None
    """Optimizer steps done; None while it has not ended."""
    report: MetricsReport | None = None
    """What was measured; None while it has not ended."""


class VariantCost(Measured):
    """What a variant's runs cost, as counted once."""

    train: tuple[str, ...]
    """Words of `train` that it was counted for, without seed, length and folder."""
    operations: float
    """Of one training step."""
    seconds: float
    """Of one training step, forward and backward, on the machine that counted."""
    parameters: int
    """Of its network."""


class StudyPlan(Schema):
    """The content of `plan.json`: what was counted, so that a continued study counts nothing anew."""

    costs: dict[str, VariantCost] = Field(default_factory=dict)
    """By variant."""
