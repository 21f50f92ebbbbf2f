"""The analysis report as tables in Markdown."""

from collections.abc import Callable, Iterator, Sequence

from unite_mm.utils.markdown import markdown_table
from unite_mm.utils.metric_text import bare
from unite_mm_schemas.analysis import AnalysisReport, Probe, RunAnalysis
from unite_mm_schemas.metrics import Metric

MOST_STEPS = 12
"""Rows of the table of dynamics."""


def analysis_text(report: AnalysisReport) -> str:
    """All tables of a report, with how each number came about."""
    parts = ["# Analysis", runs_table(report.runs)]
    sections: Sequence[tuple[str, str, Callable[[Sequence[RunAnalysis]], str]]] = (
        ("Alignment of tokenizing and denoising", ALIGNMENT_TEXT, alignment_table),
        ("Latents against time", LATENTS_TEXT, latents_table),
        ("Description length", LENGTH_TEXT, lengths_table),
        ("Linear probes", PROBES_TEXT, probes_table),
        ("Training dynamics", DYNAMICS_TEXT, dynamics_table),
    )
    for title, text, table in sections:
        found = table(report.runs)
        if found:
            parts += [f"## {title}", text, found]
    notes = [f"- {run.label}: {note}" for run in report.runs for note in run.notes]
    if notes:
        parts += ["## Notes", "\n".join(notes)]
    return "\n\n".join(parts) + "\n"


ALIGNMENT_TEXT = (
    "Outputs of every block for the registers of an input that is tokenized, against those for its latents noised to t "
    "and denoised. Linear CKA is 1 for a rotated copy, CKNNA looks at mutual nearest neighbours (k = 10, unit rows), "
    "the cosine at the same register in the same basis, which separate networks do not share."
)
LATENTS_TEXT = "Predicted clean latents against the true ones; in brackets the noisy latents themselves."
LENGTH_TEXT = (
    "Entropy of every weight tensor's histogram (256 bins over its own range) times its size, in MB; modulation counts "
    "as normalisation. Separate networks count both. In brackets the weights that the run's seed starts with."
)
PROBES_TEXT = (
    "Ridge regression in closed form on mean-pooled features, fitted on training samples, judged on others. The "
    "control is fitted to the same targets in random order, ten times over. inputs are the tokens of the input before "
    "the first block, teacher the features of the modality's frozen teacher, where it is at hand. Of the blocks the "
    "best one is shown, chosen on the same samples; analysis.json has all of them."
)
DYNAMICS_TEXT = (
    "Cosine between the gradients of the two losses on the encoder's weights that both reach, at each checkpoint that "
    "is left; recorded losses and sample quality nearest before it."
)


def runs_table(runs: Sequence[RunAnalysis]) -> str:
    """What was looked at."""
    rows = [
        (run.label, run.modality, f"{run.step:,}", "shared" if run.shared_weights else "separate", run.data,
         f"{run.samples:,} of {run.split}", str(run.seed))
        for run in runs
    ]  # fmt: skip
    return markdown_table(("run", "modality", "step", "weights", "data", "samples", "seed"), rows, texts=2)


def alignment_table(runs: Sequence[RunAnalysis]) -> str:
    """CKA, CKNNA and cosine per block and timestep."""
    rows = [
        (run.label, f"{row.time:g}", str(row.block), f"{row.cka:.3f}", f"{row.cknna:.3f}", f"{row.cosine:.3f}")
        for run in runs
        for row in run.alignment
    ]
    return markdown_table(("run", "t", "block", "linear CKA", "CKNNA", "cosine"), rows) if rows else ""


def latents_table(runs: Sequence[RunAnalysis]) -> str:
    """Cosine and error over timesteps."""
    rows = [
        (
            run.label,
            f"{at.time:g}",
            f"{at.cosine:.3f} ({at.noisy_cosine:.3f})",
            f"{at.error:.4g} ({at.noisy_error:.4g})",
        )
        for run in runs
        for at in run.latents
    ]
    return markdown_table(("run", "t", "cosine", "squared error"), rows) if rows else ""


def lengths_table(runs: Sequence[RunAnalysis]) -> str:
    """Megabytes of every part."""
    rows = []
    for run in runs:
        for row in run.lengths:
            start = "" if row.start is None else f" ({row.start:.4g})"
            bits = 8e6 * row.end / row.numbers if row.numbers else 0.0
            rows.append((run.label, row.part, f"{row.numbers:,}", f"{row.end:.4g}{start}", f"{bits:.2f}"))
    return markdown_table(("run", "part", "weights", "MB", "bits per weight"), rows, texts=2) if rows else ""


def probes_table(runs: Sequence[RunAnalysis]) -> str:
    """Every target at inputs, teacher and latents, and at the best block of either use."""
    rows = []
    for run in runs:
        for probe in _telling(run.probes):
            for own, control in zip(probe.found, probe.control, strict=True):
                rows.append((run.label, probe.features, own.title, _with_interval(own), _with_interval(control)))
    return markdown_table(("run", "features", "target", "held out", "control"), rows, texts=3) if rows else ""


def _telling(probes: Sequence[Probe]) -> Iterator[Probe]:
    yield from (probe for probe in probes if probe.features in ("inputs", "teacher", "latents"))
    for use in ("tokenizing", "denoising"):
        own = [probe for probe in probes if probe.features.startswith(use)]
        if own:
            yield max(own, key=lambda probe: sum(metric.value or 0.0 for metric in probe.found))


def _with_interval(metric: Metric) -> str:
    if metric.value is None:
        return "not measured"
    ends = "" if metric.interval is None else " [" + ", ".join(bare(metric, end) for end in metric.interval) + "]"
    return bare(metric, metric.value) + ends


def dynamics_table(runs: Sequence[RunAnalysis]) -> str:
    """Gradients at checkpoints beside what was recorded before them."""
    names = [
        name
        for name in dict.fromkeys(curve.name for run in runs for curve in run.curves)
        if name in ("train/reconstruction", "train/flow") or name.startswith("generation/")
    ]
    rows = []
    for run in runs:
        for point in run.gradients[-MOST_STEPS:]:
            cells = [_before(run, name, point.step) for name in names]
            cosine = "no shared weights" if point.cosine is None else f"{point.cosine:.3f}"
            norms = f"{point.reconstruction_norm:.3g} / {point.flow_norm:.3g}"
            rows.append((run.label, f"{point.step:,}", cosine, norms, *cells))
    header = ("run", "step", "cosine of the gradients", "norms", *(name.replace("/", " ") for name in names))
    return markdown_table(header, rows) if rows else ""


def _before(run: RunAnalysis, name: str, step: int) -> str:
    """The newest recorded value at a step."""
    for curve in run.curves:
        if curve.name == name:
            past = [value for at, value in zip(curve.steps, curve.values, strict=True) if at <= step]
            return f"{past[-1]:.4g}" if past else ""
    return ""
