"""All analyses of one or several runs: tables, pictures and a report in one folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unite_mm.analysis.alignment import ALIGNMENT_TIMES, block_alignment, latents_over_time
from unite_mm.analysis.description_length import description_length
from unite_mm.analysis.dynamics import curves, gradient_points
from unite_mm.analysis.figures import PICTURES
from unite_mm.analysis.probes import chance, linear_probes, teacher_at_hand
from unite_mm.analysis.subject import Subject
from unite_mm.analysis.tables import analysis_text
from unite_mm.analysis.trajectories import save_film, trajectories
from unite_mm.errors import UniteError, UsageError
from unite_mm.registry.build import software_versions
from unite_mm.utils.files import write_text
from unite_mm.utils.labels import labels_of
from unite_mm_schemas.analysis import AnalysisReport, RunAnalysis

PARTS = ("alignment", "latents", "length", "probes", "trajectories", "dynamics")
"""What can be looked into, in the order in which it is."""

REPORT, TABLES = "analysis.json", "analysis.md"


@dataclass(frozen=True)
class AnalysisPlan:
    """What to look into.

    Attributes:
        parts: of `PARTS`.
        times: timesteps of the alignment.
        fit_samples: training samples that probes are fitted on.
        pictures: whether to draw.
    """

    parts: Sequence[str] = PARTS
    times: Sequence[float] = ALIGNMENT_TIMES
    fit_samples: int = 2000
    pictures: bool = True


def analyse(
    subjects: Sequence[Subject],
    folder: Path,
    plan: AnalysisPlan | None = None,
    labels: Sequence[str] | None = None,
) -> AnalysisReport:
    """Look into one or several runs and write `analysis.md`, `analysis.json` and pictures that hold all of them.

    Args:
        subjects: the runs with their data.
        folder: where to write; created.
        plan: what to look into; None: everything.
        labels: what tables call the runs; None: as much of their paths as tells them apart.

    Raises:
        UsageError: nothing is to be analysed.
        UniteError: something cannot be written.
    """
    plan = plan or AnalysisPlan()
    if not subjects or not plan.parts:
        raise UsageError("nothing to analyse", "name a run and a part")
    folder.mkdir(parents=True, exist_ok=True)
    labels = labels or labels_of([subject.run for subject in subjects])
    runs = tuple(analyse_run(subject, label, plan, folder) for subject, label in zip(subjects, labels, strict=True))
    report = AnalysisReport(runs=runs, versions=software_versions())
    write_text(folder / REPORT, report.model_dump_json(indent=1) + "\n")
    write_text(folder / TABLES, analysis_text(report))
    for part in plan.parts if plan.pictures else ():
        if part in PICTURES and any(getattr(run, PICTURES[part][0]) for run in runs):
            PICTURES[part][1](runs, folder / f"{part}.png")
    return report


def analyse_run(subject: Subject, label: str, plan: AnalysisPlan, folder: Path) -> RunAnalysis:
    """Look into one run; a part that its data or its plugin cannot give is left out, with a note that says why.

    Args:
        subject: the run with its data.
        label: what tables call it.
        plan: what to look into.
        folder: for the film strips.
    """
    network = subject.model.network
    found: dict[str, Any] = {}
    notes: list[str] = []

    def part(name: str, field: str, measure: Callable[[], Any]) -> None:
        if name in plan.parts:
            try:
                value = measure()
            except UniteError as error:
                notes.append(f"{name}: {error.message}")
            else:
                found[field] = tuple(value)

    part("alignment", "alignment", lambda: block_alignment(subject, plan.times))
    part("latents", "latents", lambda: latents_over_time(subject))
    part("length", "lengths", lambda: description_length(subject.model, subject.modality))
    part("probes", "probes", lambda: linear_probes(subject, plan.fit_samples))
    part("dynamics", "curves", lambda: curves(subject.run))
    part("dynamics", "gradients", lambda: gradient_points(subject))
    if "trajectories" in plan.parts and plan.pictures:
        path = folder / f"trajectories-{label.replace('/', '-')}.png"
        try:
            save_film(subject, trajectories(subject), path)
        except UniteError as error:
            notes.append(f"trajectories: {error.message}")
    if found.get("probes"):
        notes += [*_chance_note(subject), *_teacher_note(subject)]
    record = subject.model.record
    return RunAnalysis(
        run=str(subject.run),
        label=label,
        modality=subject.modality,
        step=0 if record is None else record.step,
        data=subject.data.card.description,
        split=subject.split,
        samples=len(subject.indices),
        seed=subject.seed,
        shared_weights=network.separate_denoiser is None,
        notes=tuple(notes),
        **found,
    )


def _chance_note(subject: Subject) -> list[str]:
    targets = subject.data.targets(subject.split)
    level = None if targets is None else chance(targets)
    return (
        []
        if level is None
        else [f"probes: the most frequent class is {100 * level:.1f} % of the {subject.split} split"]
    )


def _teacher_note(subject: Subject) -> list[str]:
    missing = teacher_at_hand(subject)[1]
    return [f"probes: no teacher beside them: {missing}"] if missing else []
