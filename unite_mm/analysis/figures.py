"""Pictures of analyses and studies (PNG, and PDF for print), drawn with matplotlib, which is loaded when they are.

Every picture holds all runs; a run has the same colour in all of them.
"""

from collections.abc import Callable, Sequence
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unite_mm.errors import UniteError
from unite_mm_schemas.analysis import RunAnalysis
from unite_mm_schemas.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; of more runs the hue goes round."""

GOLDEN = 0.618034
"""Share of the circle of hues between two runs: none is met twice."""

LEGEND_ROWS = 14
"""Entries of a column of a legend; more would leave the picture."""

DOTS_PER_INCH = 200
PANEL = (3.4, 2.7)
"""Inches of one panel."""

STYLES = ("-", "--", ":", "-.")
SHARED_LABELS = {"train/reconstruction", "train/flow", "validation/reconstruction", "validation/flow"}


def colour(number: int) -> str:
    """The colour of the run of a number."""
    if number < len(COLOURS):
        return COLOURS[number]
    shades = hsv_to_rgb(number * GOLDEN % 1, 0.75, 0.8 if number % 2 else 0.5)
    return "#" + "".join(f"{round(255 * shade):02x}" for shade in shades)


def panels(count: int, columns: int = 3) -> "tuple[Figure, list[Axes]]":
    """A figure with a number of panels, at most so many in a row."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    made = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for axes in made:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, made


def save(figure: "Figure", path: Path) -> Path:
    """Write a picture as PNG, and as PDF beside it.

    Raises:
        UniteError: it cannot be written.
    """
    try:
        for suffix in (".png", ".pdf"):
            figure.savefig(path.with_suffix(suffix), dpi=DOTS_PER_INCH)
    except OSError as error:
        raise UniteError(f"{path} was not written: {error.strerror or error}") from error
    return path


def legend(axes: "Axes") -> None:
    """A legend to the right of a panel, where there is anything to tell apart."""
    count = len(axes.get_legend_handles_labels()[1])
    if count:
        columns = -(-count // LEGEND_ROWS)
        axes.legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=columns)


def alignment_picture(runs: Sequence[RunAnalysis], path: Path) -> Path:
    """CKA, CKNNA and cosine over the blocks: a colour for each run, a line style for each timestep."""
    figure, (cka, cknna, cosine) = panels(3)
    times = list(dict.fromkeys(row.time for run in runs for row in run.alignment))  # a run may end before the last
    for axes, name, title in ((cka, "cka", "linear CKA"), (cknna, "cknna", "CKNNA"), (cosine, "cosine", "mean cosine")):
        for number, run in enumerate(runs):
            for style, time in enumerate(times):
                rows = [row for row in run.alignment if row.time == time]
                if not rows:
                    continue
                axes.plot(
                    [row.block for row in rows],
                    [getattr(row, name) for row in rows],
                    STYLES[style % len(STYLES)],
                    color=colour(number),
                    marker="o",
                    markersize=2.5,
                    linewidth=1.2,
                    label=f"{run.label}, t = {time:g}",
                )
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("block")
        axes.set_xticks(sorted({row.block for run in runs for row in run.alignment}))
    cka.set_ylabel("tokenizing against denoising")
    legend(cosine)
    return save(figure, path)


def latents_picture(runs: Sequence[RunAnalysis], path: Path) -> Path:
    """Cosine and error of predicted latents over timesteps; dotted the noisy latents themselves."""
    figure, (left, right) = panels(2)
    for axes, names, title in (
        (left, ("cosine", "noisy_cosine"), "cosine to the clean latents"),
        (right, ("error", "noisy_error"), "squared error per channel"),
    ):
        for number, run in enumerate(runs):
            times = [point.time for point in run.latents]
            for name, style, label in zip(names, ("-", ":"), (run.label, None), strict=True):
                values = [getattr(point, name) for point in run.latents]
                axes.plot(times, values, style, color=colour(number), linewidth=1.2, label=label)
        axes.set_xlabel("timestep t (1 is data)")
        axes.set_title(title, fontsize="medium")
    right.set_yscale("log")
    legend(right)
    return save(figure, path)


def lengths_picture(runs: Sequence[RunAnalysis], path: Path) -> Path:
    """Description length of the encoder-denoiser's parts at the end of each run, and of their start where known."""
    figure, (axes,) = panels(1)
    parts = list(dict.fromkeys(row.part for run in runs for row in run.lengths))
    labels = [f"{run.label}\n{when}" for run in runs for when in ("start", "end")]
    bottom = [0.0] * len(labels)
    for number, part in enumerate(parts):
        heights = []
        for run in runs:
            row = next((row for row in run.lengths if row.part == part), None)
            heights += [(row.start or 0.0) if row else 0.0, row.end if row else 0.0]
        axes.bar(labels, heights, bottom=bottom, color=colour(number), label=part, width=0.7)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_ylabel("description length, MB")
    axes.tick_params(axis="x", labelsize="x-small")
    figure.set_figwidth(max(PANEL[0], 1.1 * len(labels)))
    legend(axes)
    return save(figure, path)


def probes_picture(runs: Sequence[RunAnalysis], path: Path) -> Path:
    """What probes read out of the latents and of every block, mean over the targets; dotted the control."""
    uses = ("tokenizing", "denoising")
    figure, made = panels(2)
    for axes, use in zip(made, uses, strict=True):
        for number, run in enumerate(runs):
            rows = [found for found in run.probes if found.features.startswith((use, "latents"))]
            places = [found.features.rpartition(" ")[2] if " " in found.features else "latents" for found in rows]
            for name, style, label in (("found", "-", run.label), ("control", ":", None)):
                values = [_mean_value(getattr(found, name)) for found in rows]
                axes.plot(places, values, style, color=colour(number), marker="o", markersize=2.5, label=label)
        for name, style in (("inputs", "--"), ("teacher", "-.")):  # alike for all runs, or nearly
            found = next((found for run in runs for found in run.probes if found.features == name), None)
            if found is not None:
                axes.axhline(_mean_value(found.found), linestyle=style, color="grey", linewidth=0.8, label=name)
        axes.set_title(f"blocks when {use}", fontsize="medium")
        axes.set_xlabel("block")
    made[0].set_ylabel("held-out accuracy or R$^2$")
    legend(made[-1])
    return save(figure, path)


def _mean_value(metrics: Sequence[Metric]) -> float:
    values = [metric.value for metric in metrics if metric.value is not None]
    return sum(values) / len(values) if values else float("nan")


def dynamics_picture(runs: Sequence[RunAnalysis], path: Path) -> Path:
    """Losses, the cosine of their gradients and the quality of samples over the steps of each run."""
    names = list(dict.fromkeys(curve.name for run in runs for curve in run.curves))
    shown = [name for name in names if name in SHARED_LABELS or name.startswith("generation/")]
    cosines = any(point.cosine is not None for run in runs for point in run.gradients)
    figure, made = panels(max(1, len(shown) + cosines))
    for axes, name in zip(made, shown, strict=False):
        for number, run in enumerate(runs):
            for curve in run.curves:
                if curve.name == name:
                    axes.plot(curve.steps, curve.values, color=colour(number), linewidth=1.0, label=run.label)
        axes.set_title(name.replace("/", ", "), fontsize="medium")
        axes.set_xlabel("step")
        if name.startswith("train/") or name.startswith("validation/"):
            axes.set_yscale("log")
    if cosines:
        for number, run in enumerate(runs):
            points = [point for point in run.gradients if point.cosine is not None]
            values: list[Any] = [point.cosine for point in points]
            made[-1].plot([point.step for point in points], values, "o-", color=colour(number), label=run.label)
        made[-1].axhline(0, color="grey", linewidth=0.6)
        made[-1].set_title("cosine of the gradients", fontsize="medium")
        made[-1].set_xlabel("step")
    legend(made[min(2, len(made) - 1)])
    return save(figure, path)


def film_picture(rows: Sequence[Sequence[Path]], times: Sequence[float], path: Path) -> Path:
    """Pictures in a grid, a row for each sample, each column under its timestep.

    Raises:
        UniteError: it cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    height, width = imread(rows[0][0]).shape[:2]
    figure = Figure(figsize=(1.3 * len(times), 1.3 * height / width * len(rows) + 0.3), layout="constrained")
    for number, row in enumerate(rows):
        for place, picture in enumerate(row):
            axes = figure.add_subplot(len(rows), len(times), number * len(times) + place + 1)
            axes.imshow(imread(picture))
            axes.axis("off")
            if number == 0:
                axes.set_title(f"t = {times[place]:.2f}", fontsize="small")
    return save(figure, path)


Picture = Callable[[Sequence[RunAnalysis], Path], Path]

PICTURES: dict[str, tuple[str, Picture]] = {
    "alignment": ("alignment", alignment_picture),
    "latents": ("latents", latents_picture),
    "length": ("lengths", lengths_picture),
    "probes": ("probes", probes_picture),
    "dynamics": ("curves", dynamics_picture),
}
"""Part -> the field of a run's analysis that it needs, and what draws it."""
