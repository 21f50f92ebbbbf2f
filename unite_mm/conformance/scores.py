"""Checks of metrics: each number with its definition, in its range, and all that the manifest lists."""

import math
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import left_alone, other_randomness, random_states
from unite_mm.contract import Reference
from unite_mm.errors import UniteError
from unite_mm_schemas.metrics import Metric, Score

LARGEST_REFERENCE = 20_000
"""Training samples up to which generated samples are also scored against the data."""

SHARE = re.compile(r" / (all|valid|total|samples)\b")
"""How definitions of shares end."""


ROUNDING = 1e-5
"""Of a metric, absolute or relative, from one computation to the next."""

MEASURED = "value=None where nothing can be measured: outputs of an untrained model may be empty, equal or unsound"
NAMED = "every Metric needs name, title, value and definition"


def reconstruction_metrics(subject: Subject) -> Iterator[Finding]:
    """Reconstructions are scored: each number with its definition, and all that the manifest lists."""
    samples, outputs = subject.samples, subject.outputs
    missing = yield from _scored(_reconstructed(subject, samples, outputs), "reconstruction", subject, complete=True)
    if missing:
        # What an untrained model spoils can be measured of inputs that came back as they were.
        best = _reconstructed(subject, samples, samples)
        yield from _never(best, missing, "inputs as their own reconstructions", "score_reconstruction()")


def generation_metrics(subject: Subject) -> Iterator[Finding]:
    """Generated samples are scored, with and without a reference: each number with its definition."""
    generated, data = subject.generated, subject.data
    small = data.size("train") <= LARGEST_REFERENCE
    missing: list[str] = []
    for reference in (None, data) if small else (None,):
        score = _generated(subject, generated, reference)
        missing = yield from _scored(score, "generation", subject, complete=reference is not None)
    if small and missing:
        best = _generated(subject, subject.filed, data)
        yield from _never(best, missing, "training samples", "score_generation()")


def _reconstructed(subject: Subject, inputs: Sequence[Any], outputs: Sequence[Any]) -> Score:
    modality, what = subject.modality, "score_reconstruction()"
    with left_alone(what, inputs=inputs, outputs=outputs):
        return _measured(what, lambda: modality.score_reconstruction(inputs, outputs, subject.progress, 1))


def _generated(subject: Subject, samples: Sequence[Any], reference: Reference | None) -> Score:
    modality, what = subject.modality, "score_generation()"
    with left_alone(what, samples=samples):
        return _measured(what, lambda: modality.score_generation(samples, reference, subject.progress, 1))


def _measured(what: str, score: Callable[[], Score]) -> Score:
    """A score; where global random numbers took part in it, they may have changed no value."""
    with calling(what, f"report {MEASURED}", invalid=NAMED):
        with other_randomness(1):
            before = random_states()
            found = score()
            drawn = before != random_states()
        if not drawn or not isinstance(found, Score):
            return found
        with other_randomness(2):
            again = {metric.name: metric.value for metric in score().metrics}
    for metric in found.metrics:
        one, other = metric.value, again.get(metric.name)
        if one is not None and (other is None or not math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING)):
            raise UniteError(
                f"{what} gives {metric.name!r} another value each time: {one:g}, then {other}",
                "draw from a generator of a fixed seed, and from no global random numbers",
            )
    return found


def _never(score: Score, missing: Sequence[str], of: str, what: str) -> Iterator[Finding]:
    """Metrics that have no value even of the best samples there are, though no note says why."""
    values = {metric.name: metric.value for metric in score.metrics}
    for name in missing if not score.notes else ():
        if values.get(name) is None:
            yield Finding(
                f"the manifest lists the metric {name!r}, but {what} never has a value for it, not even of {of}",
                "measure it, or say in Score.notes why it cannot be measured here",
            )


def _scored(score: Any, kind: str, subject: Subject, *, complete: bool) -> Generator[Finding, None, list[str]]:
    """Findings of a score; returns the metrics of the manifest that it reports without a value."""
    what = f"score_{kind}()"
    if not isinstance(score, Score) or score.kind != kind:
        raise UniteError(
            f"{what} returns {score.kind if isinstance(score, Score) else type(score).__name__}",
            f'return Score(kind="{kind}", metrics=...) of unite_mm_schemas.metrics',
        )
    names = [metric.name for metric in score.metrics]
    if not names:
        yield Finding(f"{what} measures nothing", "report at least one metric; value=None where it is unavailable")
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Finding(f"{what} reports {name!r} twice", "give each metric a name of its own")
    for metric in score.metrics:
        yield from _number(metric, what)
    listed = [entry.name for entry in subject.plugin.manifest.metrics if entry.kind == kind]
    for name in listed if complete else ():
        if name not in names:
            yield Finding(
                f"the manifest lists the metric {name!r}, but {what} does not report it",
                "report it, with value=None where it cannot be measured, or take it off the manifest",
            )
    unmeasured = {metric.name for metric in score.metrics if metric.value is None}
    return [name for name in listed if name in unmeasured]


def _number(metric: Metric, what: str) -> Iterator[Finding]:
    where = f"{what}, metric {metric.name!r}:"
    if not metric.definition.strip() or not metric.title.strip():
        yield Finding(f"{where} it has no definition or no title", "say what is counted over what")
    if metric.value is not None and not math.isfinite(metric.value):
        yield Finding(f"{where} its value is {metric.value}", "use None where nothing can be measured")
    count, total = metric.count, metric.total
    if count is not None and total is not None and not 0 <= count <= total:
        yield Finding(f"{where} {count} of {total}", "the count is part of the total")
    share = count is not None or (not metric.unit and SHARE.search(metric.definition) is not None)
    bounds = [value for value in (metric.value, metric.reference, *(metric.interval or ())) if value is not None]
    if share and not all(-1e-9 <= value <= 1 + 1e-9 for value in bounds):
        yield Finding(
            f"{where} a share of {metric.value:g}, outside [0, 1]" if metric.value is not None else f"{where} {bounds}",
            "give count / total, and no percentage; unite_mm.kit.intervals.share does so",
        )
    elif share and count is not None and total and abs((metric.value or 0.0) - count / total) > 1e-6:
        yield Finding(
            f"{where} its value is {metric.value}, its counts {count} / {total}", "give one and the same share"
        )
    if metric.interval is not None and metric.value is not None:
        low, high = metric.interval
        if not low - 1e-9 <= metric.value <= high + 1e-9:
            yield Finding(f"{where} {metric.value} lies outside its interval", "give the 95 % interval of the value")
