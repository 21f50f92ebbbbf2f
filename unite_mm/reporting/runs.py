"""What there is to report of a run: its record, its data-set cards, its curves, its evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from unite_mm.errors import UniteError, UsageError
from unite_mm.evaluation.views import read_views
from unite_mm.registry.models import model_folder, name_of
from unite_mm.storage.portable import portable_record, portable_report
from unite_mm.storage.pretrained import find_record
from unite_mm.utils.labels import labels_of
from unite_mm.utils.validation import one_line
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.metrics import MetricsReport
from unite_mm_schemas.views import Views

METRICS = "metrics.json"
CURVES = "metrics.jsonl"
EVALUATION = "evaluation"

PICTURES = {"samples.png": "Generated samples", "reconstructions.png": "Inputs beside their reconstructions"}
"""Pictures of an evaluation that are shown where its plugin has no gallery, with their titles."""

LARGEST_PICTURE = 8_000_000
"""Bytes of a picture that gets into the report."""


@dataclass(frozen=True)
class Picture:
    """A PNG of the run.

    Attributes:
        title: what it shows.
        content: the file.
    """

    title: str
    content: bytes


@dataclass(frozen=True)
class Evaluated:
    """What was evaluated of one modality.

    Attributes:
        modality: its name.
        metrics: the scores; None where there are only samples to show.
        views: galleries of samples; None where there are none.
        pictures: PNGs in place of galleries.
    """

    modality: str
    metrics: MetricsReport | None = None
    views: Views | None = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Run:
    """A column of the report.

    Attributes:
        name: heading.
        record: of its newest checkpoint; None for a file of samples that was scored.
        curves: its `metrics.jsonl`; None where there is none.
        evaluations: at most one for each modality.
    """

    name: str
    record: CheckpointRecord | None = None
    curves: Path | None = None
    evaluations: tuple[Evaluated, ...] = field(default=())

    def evaluated(self, modality: str) -> Evaluated | None:
        """The evaluation of a modality; None where there is none."""
        return next((one for one in self.evaluations if one.modality == modality), None)


def load_runs(named: Sequence[str | Path]) -> list[Run]:
    """What there is to report of each run, under names that differ.

    Args:
        named: run folders, exported folders, names of shipped models, or folders of evaluations.

    Raises:
        UsageError: one of them is none of these.
        UniteError: files are damaged.
    """
    runs = [load_run(one) for one in named]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = labels_of([Path(name_of(one) or one) for one in named])
    return [Run(name, run.record, run.curves, run.evaluations) for name, run in zip(names, runs, strict=True)]


def load_run(named: str | Path) -> Run:
    """What there is to report of one run; see `load_runs`."""
    folder = model_folder(named)
    installed = name_of(named)
    name = installed or folder.resolve().name
    if (folder / METRICS).is_file() and not (folder / "record.json").is_file():
        return Run(name, evaluations=(_evaluated(folder, name),))
    _, record = find_record(folder)
    root = folder / EVALUATION if installed is None else Path(f"{installed}-{EVALUATION}")
    places = _evaluation_folders(folder, root, list(record.config.modalities))
    evaluations = [_evaluated(place, name) for place in places]
    for modality in record.config.modalities:
        if modality not in [one.modality for one in evaluations]:
            pictures = _training_pictures(folder, modality, len(record.config.modalities) > 1)
            evaluations.append(Evaluated(modality, pictures=pictures))
    curves = folder / CURVES
    return Run(name, portable_record(record), curves if curves.is_file() else None, tuple(evaluations))


def evaluated_run(name: str, run: Path | None, record: CheckpointRecord | None, folder: Path) -> Run:
    """What there is to report of the evaluation in a folder, which was just made.

    Args:
        name: heading.
        run: folder of the run; None where a file of samples was scored.
        record: of the model; None likewise.
        folder: where `metrics.json` and `views.json` lie.

    Raises:
        UniteError: they cannot be read back.
    """
    curves = None if run is None or not (run / CURVES).is_file() else run / CURVES
    return Run(name, None if record is None else portable_record(record), curves, (_evaluated(folder, name),))


def sampled_run(name: str, record: CheckpointRecord | None, views: Views) -> Run:
    """What there is to report of samples that were just generated and not scored."""
    return Run(
        name, None if record is None else portable_record(record), None, (Evaluated(views.modality, views=views),)
    )


def _evaluation_folders(folder: Path, root: Path, modalities: Sequence[str]) -> list[Path]:
    """Where evaluations of a run may lie, below `root` or in its folder; of each modality the first one counts."""
    places = [*(root / name for name in ("", *modalities)), folder]
    found: dict[str, Path] = {}
    for place in places:
        if (place / METRICS).is_file():
            found.setdefault(_read_metrics(place / METRICS).modality, place)
    return [found[name] for name in modalities if name in found]


def _evaluated(folder: Path, name: str) -> Evaluated:
    report = _read_metrics(folder / METRICS)
    views = read_views(folder)
    shown = {gallery.kind for gallery in views.galleries} if views is not None else set()
    files = [(folder / file, title) for file, title in PICTURES.items() if file.partition(".")[0] not in shown]
    return Evaluated(report.modality, portable_report(report, name), views, _pictures(files))


def _training_pictures(folder: Path, modality: str, several: bool) -> tuple[Picture, ...]:
    """The picture that training leaves."""
    file = folder / (f"samples-{modality}.png" if several else "samples.png")
    return _pictures([(file, "Samples at the end of training")])


def _pictures(files: Sequence[tuple[Path, str]]) -> tuple[Picture, ...]:
    found = []
    for file, title in files:
        if file.is_file() and file.stat().st_size <= LARGEST_PICTURE:
            content = file.read_bytes()
            if content.startswith(b"\x89PNG"):
                found.append(Picture(title, content))
    return tuple(found)


def _read_metrics(path: Path) -> MetricsReport:
    try:
        return MetricsReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        what = one_line(error, MetricsReport)
        raise UniteError(f"{path} is no report: {what}", "evaluate again, or remove the file") from error
