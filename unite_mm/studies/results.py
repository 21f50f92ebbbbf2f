"""The table of a study: means over seeds with Student's intervals, shares over all samples with binomial ones."""

from collections.abc import Iterable, Mapping, Sequence

from unite_mm.kit.intervals import student, wilson
from unite_mm.studies.plan import PlannedRun
from unite_mm.utils.metric_text import is_share
from unite_mm_schemas.metrics import Metric
from unite_mm_schemas.study import StudyCell, StudyConfig, StudyRow, StudyRun, StudyTable, VariantCost

Found = Mapping[tuple[str, int], StudyRun]
"""(variant, seed) -> what was recorded."""


def study_table(
    study: StudyConfig, modality: str, costs: Mapping[str, VariantCost], runs: Sequence[PlannedRun], found: Found
) -> StudyTable:
    """The table of what has ended so far.

    Args:
        study: the study.
        modality: its modality.
        costs: of its variants.
        runs: all of its runs.
        found: what ended ones have recorded.
    """
    first = next(iter(study.variants))
    definitions = _metrics(found.values())
    planned = {run.variant: run.steps for run in runs}
    rows = []
    for name, variant in study.variants.items():
        own = [found.get((name, seed)) for seed in study.seeds]
        reference = [found.get((first, seed)) for seed in study.seeds]
        steps = planned[name]
        cells = tuple(
            study_cell(metric, _of(metric, own), None if name == first else _of(metric, reference))
            for metric in definitions
        )
        rows.append(
            StudyRow(
                variant=name,
                description=variant.description,
                parameters=costs[name].parameters,
                steps=tuple(None if run is None else run.steps for run in own),
                operations=None if steps is None else steps * costs[name].operations,
                cells=cells,
            )
        )
    reports = [run.report for run in found.values() if run.report is not None]
    return StudyTable(
        title=study.title,
        modality=modality,
        data=reports[0].data if reports else "",
        equal=study.length.equal,
        seeds=study.seeds,
        rows=tuple(rows),
        definitions=definitions,
    )


def study_cell(name: str, metrics: Sequence[Metric | None], reference: Sequence[Metric | None] | None) -> StudyCell:
    """One metric of one variant.

    Args:
        name: kind of the score and name of the metric.
        metrics: of every seed; None where it was not measured.
        reference: those of the first variant, of the same seeds; None for the first variant itself.
    """
    known = [metric for metric in metrics if metric is not None]
    values = [None if metric is None else metric.value for metric in metrics]
    there = [value for value in values if value is not None]
    share = any(is_share(metric) for metric in known)
    count = total = None
    if share:
        count, total = (sum(getattr(metric, key) or 0 for metric in known) for key in ("count", "total"))
    pairs = [
        own - other.value
        for own, other in zip(values, reference or [None] * len(values), strict=True)
        if own is not None and other is not None and other.value is not None
    ]
    return StudyCell(
        metric=name,
        title=known[0].title if known else name,
        unit=known[0].unit if known else "",
        share=share,
        values=tuple(values),
        mean=sum(there) / len(there) if there else None,
        seeds_interval=student(there),
        count=count,
        total=total,
        binomial_interval=wilson(count, total) if count is not None and total and count <= total else None,
        difference=sum(pairs) / len(pairs) if pairs else None,
        difference_interval=student(pairs),
    )


def _metrics(runs: Iterable[StudyRun]) -> dict[str, str]:
    """Names of all metrics in their order, and what each is."""
    definitions: dict[str, str] = {}
    for run in runs:
        for score in run.report.scores if run.report is not None else ():
            for metric in score.metrics:
                definitions.setdefault(f"{score.kind}/{metric.name}", metric.definition)
    return definitions


def _of(name: str, runs: Sequence[StudyRun | None]) -> list[Metric | None]:
    """A metric of every seed."""
    return [_metric(run, name) for run in runs]


def _metric(run: StudyRun | None, name: str) -> Metric | None:
    if run is None or run.report is None:
        return None
    kind, _, own = name.partition("/")
    for score in run.report.scores:
        if score.kind == kind:
            for metric in score.metrics:
                if metric.name == own:
                    return metric
    return None
