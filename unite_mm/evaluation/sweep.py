"""Sweeps over the guidance scale: the same samples at every scale, the whole curve kept, the best one named."""

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation

from unite_mm.contract import SweepMetric
from unite_mm.errors import UniteError, UsageError
from unite_mm.progress import Progress
from unite_mm_schemas.metrics import Score, Sweep, SweepPoint

MOST_POINTS = 1000


def parse_range(text: str) -> tuple[float, ...]:
    """The values of `START:STOP:STEP`, both ends included where the step meets them; exact decimals.

    Raises:
        UsageError: it is no such range.
    """
    wrong = UsageError(f"--sweep {text}: not of the form START:STOP:STEP", "for example --sweep 1.0:4.0:0.2")
    try:
        start, stop, step = (Decimal(part.strip()) for part in text.split(":"))
    except (ValueError, InvalidOperation) as error:
        raise wrong from error
    if not all(number.is_finite() for number in (start, stop, step)) or start < 0 or stop < start or step <= 0:
        raise wrong
    count = int((stop - start) / step) + 1
    if count > MOST_POINTS:
        raise UsageError(f"--sweep {text}: {count:,} points", f"at most {MOST_POINTS:,} are tried")
    return tuple(float(start + step * index) for index in range(count))


def value_of(score: Score, compared: SweepMetric) -> float | None:
    """The number by which a score is compared; None where it could not be measured."""
    return next((metric.value for metric in score.metrics if metric.name == compared.metric), None)


def sweep(
    scales: Sequence[float],
    metric: SweepMetric,
    measure: Callable[[float, Callable[[Score], bool]], Score],
    progress: Progress,
    record: Callable[[Sweep], None],
) -> Sweep:
    """Measure each scale in turn.

    Args:
        scales: the guidance scales.
        metric: what decides.
        measure: (scale, is_best) -> score; `is_best(score)` tells whether the score beats all before it, so that the
            best samples can be kept.
        progress: where each point is shown.
        record: gets the curve after each point, so that a sweep cut short loses nothing.

    Raises:
        UniteError: at no scale could the metric be measured.
    """
    found = Sweep(
        setting="guidance",
        metric=metric.metric,
        title=metric.title,
        lower_is_better=metric.lower_is_better,
    )
    leading: float | None = None

    def is_best(score: Score) -> bool:
        value = value_of(score, metric)
        if value is None or leading is None:
            return value is not None
        return value < leading if metric.lower_is_better else value > leading

    for scale in scales:
        score = measure(scale, is_best)
        best = scale if is_best(score) else found.best
        if best == scale:
            leading = value_of(score, metric)
        found = found.model_copy(update={"points": (*found.points, SweepPoint(value=scale, score=score)), "best": best})
        record(found)
        value = value_of(score, metric)
        shown = "not measured" if value is None else f"{value:.6g}"
        progress.say(f"guidance {scale:g}: {metric.title} {shown}")
    if found.best is None:
        reasons = [note for point in found.points for note in point.score.notes]
        raise UniteError(f"no scale of the sweep gave a value for {metric.title}", reasons[0] if reasons else "")
    return found
