"""The metrics report: every number with its definition, its count and its interval."""

from pydantic import ConfigDict, Field

from unite_mm_schemas.base import Schema


class Measured(Schema):
    """Numbers that were measured: any of them may be infinite, such as the PSNR of equal images.

    JSON has them as the texts `Infinity`, `-Infinity` and `NaN`, which are read back as numbers.
    """

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")


class Metric(Measured):
    """One measured number."""

    name: str
    """Machine name, such as `validity` or `match_graph`."""
    title: str
    """What a table shows, such as `valid (strict)`."""
    value: float | None
    """The number itself; shares lie in [0, 1]. None where nothing could be measured."""
    unit: str = ""
    """Unit of the value (`angstrom`, `molecules/s`); empty for shares and plain numbers."""
    count: int | None = None
    """Numerator of a share."""
    total: int | None = None
    """Denominator of a share, or the number of samples a mean is taken over."""
    interval: tuple[float, float] | None = None
    """95 % interval of the value (Wilson for shares)."""
    reference: float | None = None
    """The same number of real data, as `Score.reference` says; what is still to gain, or a ceiling. None: not known."""
    group: str = ""
    """Heading under which a table shows the number; empty for none."""
    parts: dict[str, float] = Field(default_factory=dict)
    """What the number is a mean of, by name; tables leave it out."""
    definition: str
    """What exactly is counted over what."""


class Histogram(Measured):
    """A distribution of the samples beside that of the reference."""

    name: str
    """Machine name, such as `rings`."""
    title: str
    """What a table shows."""
    samples: dict[str, float]
    """Share of each bin among the samples; sums to 1."""
    reference: dict[str, float] | None = None
    """Share of each bin in the reference data; sums to 1."""
    total_variation: float | None = None
    """Half the sum of absolute differences between the two."""


class Score(Schema):
    """What one evaluation measured."""

    kind: str
    """`reconstruction`, `generation`, or `conditioning`: how well samples keep to the conditions of held-out ones."""
    metrics: tuple[Metric, ...] = ()
    """The numbers, most important first."""
    reference: str = ""
    """What `Metric.reference` was measured on; empty where no metric has one."""
    histograms: tuple[Histogram, ...] = ()
    """Distributions beside the reference's."""
    notes: tuple[str, ...] = ()
    """What a reader must know: what was left out, which optional tool is absent."""


class SweepPoint(Measured):
    """One setting that a sweep tried."""

    value: float
    """The setting."""
    score: Score
    """What was measured with it."""


class Sweep(Schema):
    """Scores of one model over a range of one setting: the whole curve, and the best."""

    setting: str
    """What was varied, such as `guidance`."""
    metric: str
    """Name of the metric by which points are compared."""
    title: str
    """What a table calls the metric."""
    lower_is_better: bool = True
    """Whether less of the metric is better."""
    points: tuple[SweepPoint, ...] = ()
    """In the order tried."""
    best: float | None = None
    """The setting of the best point; the first of equals. None where nothing could be measured."""


class MetricsReport(Schema):
    """The content of `metrics.json`: all scores of one evaluated run or sample file."""

    schema_version: int = 1
    """Version of this schema."""
    modality: str
    """Modality the samples belong to."""
    data: str = ""
    """Description of the data the numbers were measured on, as the data-set card gives it."""
    split_hash: str = ""
    """SHA-256 over the keys of each split of these data, as their card gives it; empty where there is no card."""
    source: str = ""
    """Run folder or file that was evaluated."""
    step: int | None = None
    """Optimizer step of the evaluated checkpoint."""
    settings: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Settings of the evaluation: split, samples, solver, steps, seed."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """Wall-clock seconds of each stage."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages involved."""
    scores: tuple[Score, ...] = ()
    """The results; after a sweep those of its best point."""
    sweep: Sweep | None = None
    """The sweep, where one was asked for."""
