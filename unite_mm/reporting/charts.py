"""Charts as data for the page's script: curves of training, distributions beside those of the data, sweeps."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unite_mm.reporting.runs import Run
from unite_mm_schemas.metrics import Histogram, MetricsReport

Chart = dict[str, Any]
"""A chart in JSON: `kind` (`lines` or `bars`), `title`, `note`, `series`; `labels` of bars, `log` and `x` of lines."""

Columns = Sequence[tuple[int, str]]
"""Number and name of each run that has scores; the number is that of its colour."""

Entry = tuple[int, str, Histogram]
"""A histogram with number and name of its run."""

MOST_POINTS = 400
"""Points of a curve; more would not be seen."""

FIRST = ("reconstruction", "flow")
"""Curves that are shown first, large."""

_SPAN = 15
"""Ratio of the largest to the smallest value from which on a curve has a logarithmic axis."""

_MOST_BINS = 24


def curves(runs: Sequence[Run]) -> list[Chart]:
    """A chart for each quantity of `metrics.jsonl`, every run in it: training, and validation where there is any."""
    found: dict[str, list[dict[str, Any]]] = {}
    for number, run in enumerate(runs):
        if run.curves is None:
            continue
        for (kind, key), (steps, values) in _recorded(run.curves).items():
            series = {"run": number, "kind": kind, "label": f"{run.name}, {kind}" if len(runs) > 1 else kind}
            found.setdefault(key, []).append({**series, **_thinned(steps, values)})
    names = sorted(found, key=lambda key: (key.split("/")[-1] not in FIRST, *_last(key)))
    return [_curve(key, found[key]) for key in names]


def distributions(columns: Columns, reports: Sequence[MetricsReport]) -> list[Chart]:
    """A chart for each histogram that has a reference, every run in it."""
    return [_bars(title, entries) for title, entries in _histograms(columns, reports) if _compared(entries)]


def shares(columns: Columns, reports: Sequence[MetricsReport]) -> list[Chart]:
    """Histograms without a reference, such as what is wrong first: rows of a label and each run's share in per cent."""
    return [
        {
            "title": title,
            "numbers": [number for number, _, _ in entries],
            "rows": [
                (label, [round(100 * one.samples.get(label, 0.0), 2) for _, _, one in entries])
                for label in _bins([one for _, _, one in entries])
            ],
        }
        for title, entries in _histograms(columns, reports)
        if not _compared(entries)
    ]


def sweeps(columns: Columns, reports: Sequence[MetricsReport]) -> list[Chart]:
    """A chart for each sweep: the metric by which it chose over what was varied."""
    charts = []
    for (number, name), report in zip(columns, reports, strict=True):
        if report.sweep is None:
            continue
        sweep = report.sweep
        found = [
            (point.value, metric.value)
            for point in sweep.points
            for metric in point.score.metrics
            if metric.name == sweep.metric and metric.value is not None and math.isfinite(metric.value)
        ]
        if found:
            best = "none" if sweep.best is None else f"{sweep.best:g}"
            order = "lower" if sweep.lower_is_better else "higher"
            x, y = ([pair[axis] for pair in found] for axis in (0, 1))
            charts.append(
                {
                    "kind": "lines",
                    "title": f"{sweep.title} over {sweep.setting}",
                    "x": sweep.setting,
                    "log": False,
                    "note": f"{order} is better; best at {best}",
                    "series": [{"run": number, "kind": "validation", "label": name, "x": x, "y": y}],
                }
            )
    return charts


def _recorded(path: Path) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """Steps and values by kind of record and quantity; lines that are no records are passed over."""
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    with path.open("rb") as stream:
        for line in stream:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                continue
            kind = "validation" if record.get("kind") == "validation" else "training"
            for key, value in record.items():
                number = isinstance(value, int | float) and not isinstance(value, bool)
                if number and key not in ("step", "seconds") and math.isfinite(value):
                    steps, values = found.setdefault((kind, key), ([], []))
                    steps.append(record["step"])
                    values.append(value)
    return found


def _thinned(steps: list[float], values: list[float]) -> dict[str, list[float]]:
    """At most `MOST_POINTS` points, the mean of each stretch, with five digits."""
    size = math.ceil(len(steps) / MOST_POINTS)
    parts = [slice(start, start + size) for start in range(0, len(steps), size)]
    means = [math.fsum(values[part]) / len(values[part]) for part in parts]
    return {"x": [steps[part][-1] for part in parts], "y": [float(f"{value:.5g}") for value in means]}


def _last(key: str) -> tuple[bool, str]:
    """Order of the curves after the first: how training went after what was lost."""
    return key in ("gradient_norm", "learning_rate"), key


def _curve(key: str, series: list[dict[str, Any]]) -> Chart:
    values = [value for one in series for value in one["y"]]
    log = min(values) > 0 and max(values) / min(values) > _SPAN
    title = key.replace("_", " ")
    return {"kind": "lines", "title": title, "x": "step", "log": log, "note": "", "series": series,
            "large": key.split("/")[-1] in FIRST}  # fmt: skip


def _histograms(columns: Columns, reports: Sequence[MetricsReport]) -> Iterator[tuple[str, list[Entry]]]:
    """Each histogram by its title, with number and name of the runs that have it."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for (number, name), report in zip(columns, reports, strict=True):
        for score in report.scores:
            for histogram in score.histograms:
                found.setdefault((score.kind, histogram.name), []).append((number, name, histogram))
    yield from ((entries[0][2].title, entries) for entries in found.values())


def _compared(entries: list[Entry]) -> bool:
    return any(one.reference is not None for _, _, one in entries)


def _bins(histograms: Sequence[Histogram]) -> list[str]:
    """Labels of all bins: numbers in order, texts as they first appear."""
    labels = list(dict.fromkeys(bin for one in histograms for bin in (*one.samples, *(one.reference or {}))))
    try:
        return sorted(labels, key=float)
    except ValueError:
        return labels


def _bars(title: str, entries: list[Entry]) -> Chart:
    labels = _bins([one for _, _, one in entries])
    cut, several = labels[:_MOST_BINS], len(entries) > 1
    series: list[dict[str, Any]] = [
        {"run": number, "label": name if several else "samples", "y": _percent(one.samples, cut)}
        for number, name, one in entries
    ]
    reference = next(one.reference for _, _, one in entries if one.reference is not None)
    series.append({"run": -1, "label": "data", "y": _percent(reference, cut)})
    apart = [(name, one.total_variation) for _, name, one in entries if one.total_variation is not None]
    note = "total variation " + ", ".join(f"{value:.3f}" + (f" ({name})" if several else "") for name, value in apart)
    notes = [note] if apart else []
    if len(labels) > len(cut):
        notes.append(f"the first {len(cut)} of {len(labels)} bins")
    return {"kind": "bars", "title": title, "labels": cut, "series": series, "note": "; ".join(notes)}


def _percent(shares: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    return [round(100 * shares.get(label, 0.0), 2) for label in labels]
