"""Evaluation of a trained model: by reconstructing samples of a held-out split and by generating new ones."""

from pathlib import Path

from unite_mm.api import UNITE
from unite_mm.contract import ModalityData, Reference
from unite_mm.errors import UsageError
from unite_mm.evaluation.generation import Generation
from unite_mm.evaluation.plan import Plan
from unite_mm.evaluation.reconstruction import score_reconstructions
from unite_mm.evaluation.report import Settings
from unite_mm.evaluation.task import Task
from unite_mm.progress import Progress
from unite_mm.registry.build import software_versions
from unite_mm_schemas.metrics import MetricsReport


def evaluate_model(
    model: UNITE,
    name: str,
    data: ModalityData,
    plan: Plan,
    folder: Path,
    suffix: str,
    progress: Progress,
    reference: Reference | None = None,
    *,
    other_data: bool = False,
) -> MetricsReport:
    """Reconstruct and generate, write samples, pictures and `views.json` to `folder`, and score both.

    Args:
        model: a loaded model.
        name: the modality.
        data: its data.
        plan: what to evaluate.
        folder: where samples and pictures go; created.
        suffix: suffix of the sample files, or `/` for a folder.
        progress: where to show progress.
        reference: what generated samples are compared with; None: `data`.
        other_data: whether the data may be others than the model was trained on.

    Raises:
        UsageError: the split is empty, nothing at all is to be evaluated, or the data are others than the model was
            trained on.
        UniteError: scoring or writing failed.
    """
    if plan.samples == 0 and plan.reconstructions == 0:
        raise UsageError("nothing to evaluate: both --samples and --reconstructions are 0")
    notes = _data_notes(model, name, data, other_data)
    for note in notes:
        progress.say(f"note: {note}")
    task = Task(model, name, plan, folder, suffix, progress)
    generation = Generation(task, reference or data)
    scores = []
    if plan.reconstructions != 0:
        scores.append(score_reconstructions(task, data))
    settings: Settings = {"split": plan.split, "seed": plan.seed}
    if plan.samples:
        scores.append(generation.run())
        scores += generation.check_conditions()
        settings |= generation.settings()
    task.galleries.write(folder)
    return MetricsReport(
        modality=name,
        data=data.card.description,
        split_hash=data.card.split_hash,
        step=None if model.record is None else model.record.step,
        settings=settings,
        seconds=task.clock.seconds,
        versions=software_versions(),
        scores=tuple(score.model_copy(update={"notes": (*score.notes, *notes)}) for score in scores),
        sweep=generation.curve,
    )


def _data_notes(model: UNITE, name: str, data: ModalityData, other_data: bool) -> list[str]:
    """What a reader must know when the data are not those the model was trained on.

    Raises:
        UsageError: they are not, and nobody asked for others.
    """
    trained_on = None if model.record is None else model.record.modalities[name].card
    if trained_on is None or trained_on.split_hash == data.card.split_hash:
        return []
    what = f"the model was trained on other data or another split of them: {trained_on.description}"
    if not other_data:
        raise UsageError(
            f"{what} (the hashes of the splits differ)",
            "samples that count as held out may be training samples; name the right data, or others, with --data",
        )
    return [f"{what}; samples that count as held out may be training samples"]
