"""Evaluation of a file of samples; no model is needed."""

from pathlib import Path

from unite_mm.contract import DataRequest, Modality, ModalityData
from unite_mm.errors import UniteError, UsageError
from unite_mm.evaluation.report import Clock
from unite_mm.evaluation.views import Galleries
from unite_mm.progress import Progress
from unite_mm.registry.build import software_versions
from unite_mm_schemas.metrics import MetricsReport


def evaluate_file(
    modality: Modality,
    path: Path,
    progress: Progress,
    *,
    request: DataRequest | None = None,
    originals: Path | None = None,
    workers: int = 0,
    folder: Path | None = None,
) -> MetricsReport:
    """Score a file of samples as generated ones, or as reconstructions of another file.

    Args:
        modality: the modality.
        path: the samples.
        progress: where to show progress.
        request: names what generated samples are compared with; None: such metrics are left out.
        originals: the samples are reconstructions of these; scored as generated ones too only if `request` is given.
        workers: processes that score; 0: all cores.
        folder: where `views.json` goes; None: nowhere.

    Raises:
        UsageError: a file cannot be read or holds no sample.
        UniteError: scoring failed, or nothing could be measured.
    """
    clock, scores = Clock(), []
    with clock.stage("read"):
        inputs, samples = ([], modality.read(path)) if originals is None else modality.read_pairs(originals, path)
    if not samples:
        raise UsageError(f"{path} holds no sample")
    reference = None if request is None else modality.open_reference(request, samples)
    if originals is not None:
        with clock.stage("score_reconstruction"):
            scores.append(modality.score_reconstruction(inputs, samples, progress, workers))
    if originals is None or request is not None:
        with clock.stage("score_generation"):
            scores.append(modality.score_generation(samples, reference, progress, workers))
    if not any(metric.value is not None for score in scores for metric in score.metrics):
        notes = [note for score in scores for note in score.notes]
        raise UniteError("nothing could be measured" + (f": {notes[0]}" if notes else ""))
    if folder is not None:
        galleries = Galleries(modality, progress, workers)
        if originals is not None:
            galleries.add_reconstructions(inputs, samples)
        if originals is None or request is not None:
            galleries.add_samples(samples, reference)
        galleries.write(folder)
    return MetricsReport(
        modality=modality.name,
        data="" if reference is None else reference.description,
        split_hash=reference.card.split_hash if isinstance(reference, ModalityData) else "",
        source=str(path),
        settings={"samples": len(samples)} | ({} if originals is None else {"reconstructions_of": str(originals)}),
        seconds=clock.seconds,
        versions=software_versions(),
        scores=tuple(scores),
    )
