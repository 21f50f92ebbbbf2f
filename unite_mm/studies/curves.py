"""Curves of a study: what runs recorded, over the operations (or steps, or seconds) that they had done."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unite_mm.analysis.figures import colour, legend, panels, save
from unite_mm.studies.plan import PlannedRun
from unite_mm.training.run_log import read_records
from unite_mm_schemas.study import VariantCost

SHOWN = ("train/reconstruction", "train/flow", "validation/reconstruction", "validation/flow")
MOST_PANELS = 9


def curves_picture(runs: Sequence[PlannedRun], costs: Mapping[str, VariantCost], equal: str, path: Path) -> Path | None:
    """A panel for each loss and each recorded score of samples; a colour for each variant, a line for each seed.

    Args:
        runs: of the study.
        costs: of its variants.
        equal: what the runs have in common, which is the abscissa.
        path: PNG to write.

    Returns:
        The path; None where nothing was recorded.

    Raises:
        UniteError: it cannot be written.
    """
    series: dict[str, list[tuple[PlannedRun, list[float], list[float]]]] = {}
    for run in runs:
        own: dict[str, tuple[list[float], list[float]]] = {}
        seconds = 0.0
        for record in read_records(run.folder):
            seconds = record.get("seconds", seconds)
            done = {"operations": record["step"] * costs[run.variant].operations, "seconds": seconds}
            for name, value in record.items():
                key = f"{record.get('kind')}/{name}"
                if (key in SHOWN or key.startswith("generation/")) and name not in ("kind", "step"):
                    places, values = own.setdefault(key, ([], []))
                    places.append(done.get(equal, record["step"]))
                    values.append(value)
        for key, (places, values) in own.items():
            series.setdefault(key, []).append((run, places, values))
    order = [name for name in SHOWN if name in series] + [name for name in series if name not in SHOWN]
    if not order:
        return None
    names = list(dict.fromkeys(run.variant for run in runs))
    figure, made = panels(len(order[:MOST_PANELS]))
    for axes, name in zip(made, order, strict=False):
        labelled = set()
        for run, places, values in series[name]:
            label = None if run.variant in labelled else run.variant
            labelled.add(run.variant)
            axes.plot(places, values, color=colour(names.index(run.variant)), linewidth=0.9, alpha=0.8, label=label)
        axes.set_title(name.replace("/", ", "), fontsize="medium")
        axes.set_xlabel({"operations": "operations", "seconds": "seconds of training"}.get(equal, "step"))
        if name in SHOWN:
            axes.set_yscale("log")
    legend(made[min(2, len(made) - 1)])
    return save(figure, path)
