"""Scores as rows of texts and small numbers for the template: runs as columns, published figures beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from unite_mm.utils.metric_text import bare, is_share, shown
from unite_mm_schemas.metrics import Metric, MetricsReport, Score
from unite_mm_schemas.views import Published

KINDS = {"reconstruction": "Reconstruction", "generation": "Generation", "conditioning": "Conditioned samples"}
"""Headings of the kinds of scores; others are called by their kind."""

SYMBOLS = {"angstrom": "Å", "degrees": "°"}
"""Units that have a symbol."""

MOST_HEADLINES = 6


@dataclass(frozen=True)
class Cell:
    """One number of one run.

    Attributes:
        text: the number; empty where the run has none.
        interval: 95 % interval; empty where there is none.
        counts: numerator and denominator, or the number of samples.
        bar: low, value and high of a share, in per cent, for a small bar; None for anything else.
        measured: whether the text is a number, not words in its place.
    """

    text: str = ""
    interval: str = ""
    counts: str = ""
    bar: tuple[float, float, float] | None = None
    measured: bool = False


@dataclass(frozen=True)
class MetricRow:
    """A metric: a row of a table.

    Attributes:
        title: what it is called.
        name: its name in `metrics.json`.
        definition: what is counted over what.
        cells: one for each run.
        reference: the figure of real data; empty where there is none.
    """

    title: str
    name: str
    definition: str
    cells: tuple[Cell, ...]
    reference: str


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one kind.

    Attributes:
        title: heading.
        groups: rows by heading, which is empty for the first ones.
        beside: whether any row has a figure of real data.
        references: what these were measured on.
        notes: what a reader must know.
    """

    title: str
    groups: Mapping[str, tuple[MetricRow, ...]]
    beside: bool
    references: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PublishedTable:
    """Published figures beside those of the runs.

    Attributes:
        systems: headings of the columns after the runs'.
        rows: title, the runs' figures, the systems' figures.
        sources: system and where its figures stand.
    """

    systems: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    sources: tuple[tuple[str, str], ...]


def score_tables(reports: Sequence[MetricsReport]) -> list[ScoreTable]:
    """Tables of all scores, one for each kind; a column for each report."""
    kinds = dict.fromkeys(score.kind for report in reports for score in report.scores)
    return [_table(kind, [_score(report, kind) for report in reports]) for kind in kinds]


def headlines(tables: Sequence[ScoreTable], wanted: Sequence[str]) -> list[MetricRow]:
    """The rows that stand on top: those named that were measured, or else the first ones of each score."""
    rows = [[row for rows in table.groups.values() for row in rows] for table in tables]
    measured = [[row for row in some if any(cell.measured for cell in row.cells)] for some in rows]
    by_name = {row.name: row for some in reversed(measured) for row in reversed(some)}
    named = [by_name[name] for name in wanted if name in by_name]
    return (named or [row for some in measured for row in some[:3]])[:MOST_HEADLINES]


def published_table(reports: Sequence[MetricsReport], figures: Sequence[Sequence[Published]]) -> PublishedTable | None:
    """Published figures of metrics that were measured on the same data; None where there are none.

    Args:
        reports: of each column.
        figures: those that may stand beside each report; a column without has empty cells.
    """
    found: dict[tuple[str, str], dict[str, Published]] = {}
    for one in chain.from_iterable(figures):
        found.setdefault((one.kind, one.metric), {})[one.system] = one
    rows: list[tuple[Metric, list[Metric | None], dict[str, Published]]] = []
    kept: list[Published] = []
    for (kind, name), systems in found.items():
        own = [
            _metric(_score(report, kind), name) if any((one.kind, one.metric) == (kind, name) for one in same) else None
            for report, same in zip(reports, figures, strict=True)
        ]
        first = next((metric for metric in own if metric is not None and metric.value is not None), None)
        if first is not None:
            rows.append((first, own, systems))
            kept += systems.values()
    if not rows:
        return None
    names = tuple(dict.fromkeys(one.system for one in kept))
    return PublishedTable(
        systems=names,
        rows=tuple(
            (
                first.title,
                tuple(_cell(metric).text for metric in own),
                tuple(_shown(first, systems[name].value) if name in systems else "" for name in names),
            )
            for first, own, systems in rows
        ),
        sources=tuple(dict.fromkeys((one.system, one.source) for one in kept)),
    )


def _table(kind: str, scores: Sequence[Score | None]) -> ScoreTable:
    measured = [score for score in scores if score is not None]
    metrics = {metric.name: metric for score in reversed(measured) for metric in score.metrics}
    order = dict.fromkeys(metric.name for score in measured for metric in score.metrics)
    groups: dict[str, list[MetricRow]] = {}
    for name in order:
        first = metrics[name]
        own = [_metric(score, name) for score in scores]
        references = [metric.reference for metric in own if metric is not None and metric.reference is not None]
        row = MetricRow(
            title=first.title,
            name=name,
            definition=first.definition,
            cells=tuple(_cell(metric) for metric in own),
            reference=bare(first, references[0]) if references else "",
        )
        groups.setdefault(first.group, []).append(row)
    return ScoreTable(
        title=KINDS.get(kind, kind),
        groups={group: tuple(rows) for group, rows in groups.items()},
        beside=any(row.reference for rows in groups.values() for row in rows),
        references=tuple(dict.fromkeys(score.reference for score in measured if score.reference)),
        notes=tuple(dict.fromkeys(note for score in measured for note in score.notes)),
    )


def _cell(metric: Metric | None) -> Cell:
    if metric is None:
        return Cell()
    counts = " / ".join(f"{number:,}" for number in (metric.count, metric.total) if number is not None)
    if metric.value is None:
        return Cell("not measured", counts=counts)
    interval = "" if metric.interval is None else " to ".join(bare(metric, bound) for bound in metric.interval)
    bar = None
    if is_share(metric) and 0 <= metric.value <= 1:
        low, high = metric.interval or (metric.value, metric.value)
        bar = (round(100 * low, 2), round(100 * metric.value, 2), round(100 * high, 2))
    return Cell(_shown(metric, metric.value), interval, counts, bar, measured=True)


def _shown(metric: Metric, value: float) -> str:
    """A value with its unit, as short as a page can write it."""
    unit = SYMBOLS.get(metric.unit)
    return shown(metric, value) if unit is None else f"{bare(metric, value)} {unit}"


def _score(report: MetricsReport, kind: str) -> Score | None:
    return next((score for score in report.scores if score.kind == kind), None)


def _metric(score: Score | None, name: str) -> Metric | None:
    return None if score is None else next((metric for metric in score.metrics if metric.name == name), None)
