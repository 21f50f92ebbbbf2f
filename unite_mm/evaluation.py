"""Evaluation of a trained model or of a file of samples; knows no modality, only the contract.

A model is judged twice: by reconstructing samples of a held-out split and by generating new ones. What was generated is
written before anything is scored, so that a failing metric costs no samples.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unite_mm.build import software_versions
from unite_mm.contract import Modality, ModalityData
from unite_mm.errors import UniteError, UsageError
from unite_mm.files import write_samples, write_text
from unite_mm.progress import Progress
from unite_mm.unite import UNITE
from unite_mm_schemas.config import SamplingConfig
from unite_mm_schemas.metrics import MetricsReport, Score

DRAWN_SAMPLES = 36
DRAWN_PAIRS = 18


@dataclass(frozen=True)
class Plan:
    """What to evaluate.

    Attributes:
        sampling: solver, steps, guidance, temperature.
        split: whose samples are reconstructed.
        samples: how many to generate; 0: none.
        reconstructions: how many samples of the split to reconstruct; None: all; 0: none.
        seed: of generation, tokenization and the choice of samples.
        workers: processes that score; 0: all cores.
        drawings: whether to draw pictures.
    """

    sampling: SamplingConfig
    split: str = "test"
    samples: int = 1000
    reconstructions: int | None = None
    seed: int = 0
    workers: int = 0
    drawings: bool = True


def evaluate_model(
    model: UNITE, name: str, data: ModalityData, plan: Plan, folder: Path, suffix: str, progress: Progress
) -> MetricsReport:
    """Reconstruct and generate, write samples and pictures to `folder`, and score both.

    Args:
        model: a loaded model.
        name: the modality.
        data: its data; the reference of novelty and distributions.
        plan: what to evaluate.
        folder: where samples and pictures go; created.
        suffix: suffix of the sample files, or `/` for a folder.
        progress: where to show progress.

    Raises:
        UsageError: the split is empty, or nothing at all is to be evaluated.
        UniteError: scoring or writing failed.
    """
    if plan.samples == 0 and plan.reconstructions == 0:
        raise UsageError("nothing to evaluate: both --samples and --reconstructions are 0")
    folder.mkdir(parents=True, exist_ok=True)
    clock = _Clock()
    scores = []
    if plan.reconstructions != 0:
        scores.append(_reconstruct(model, name, data, plan, folder, progress, clock))
    settings: dict[str, str | int | float | bool | None] = {"split": plan.split, "seed": plan.seed}
    if plan.samples:
        scores.append(_generate(model, name, data, plan, folder / _named("samples", suffix), progress, clock))
        settings |= plan.sampling.model_dump(mode="json", exclude={"guidance_interval"})
        settings |= {"samples": plan.samples, "function_evaluations": model.last_evaluations}
    notes = _data_notes(model, name, data)
    return MetricsReport(
        modality=name,
        data=data.card.description,
        step=None if model.record is None else model.record.step,
        settings=settings,
        seconds=clock.seconds,
        versions=software_versions(),
        scores=tuple(score.model_copy(update={"notes": (*score.notes, *notes)}) for score in scores),
    )


def evaluate_file(
    modality: Modality, name: str, path: Path, reference: ModalityData | None, progress: Progress, workers: int = 0
) -> MetricsReport:
    """Score a file of generated samples; no model is needed.

    Args:
        modality: the modality.
        name: its name.
        path: the samples.
        reference: data for novelty and distributions; None: these are left out.
        progress: where to show progress.
        workers: processes that score; 0: all cores.

    Raises:
        UsageError: the file cannot be read or holds no sample.
        UniteError: scoring failed.
    """
    clock = _Clock()
    with clock.stage("read"):
        samples = modality.read(path)
    if not samples:
        raise UsageError(f"{path} holds no sample")
    with clock.stage("score_generation"):
        score = modality.score_generation(samples, reference, progress, workers)
    return MetricsReport(
        modality=name,
        data="" if reference is None else reference.card.description,
        source=str(path),
        settings={"samples": len(samples)},
        seconds=clock.seconds,
        versions=software_versions(),
        scores=(score,),
    )


def write_report(report: MetricsReport, path: Path) -> None:
    """Write `metrics.json`, whole or not at all."""
    write_text(path, report.model_dump_json(indent=2) + "\n")


def chosen_indices(size: int, count: int | None, seed: int) -> Tensor:
    """Indices (N,) of the samples to use, ascending: all, or `count` at random, since files may be sorted."""
    if count is None or count >= size:
        return torch.arange(size)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


def _reconstruct(
    model: UNITE, name: str, data: ModalityData, plan: Plan, folder: Path, progress: Progress, clock: "_Clock"
) -> Score:
    size = data.size(plan.split)
    if size == 0:
        raise UsageError(f"the {plan.split} split of {data.card.name} is empty", "use --reconstructions 0")
    modality = model.modalities[name]
    inputs = data.samples(plan.split, chosen_indices(size, plan.reconstructions, plan.seed))
    with clock.stage("reconstruct"):
        outputs = model.reconstruct(inputs, name, seed=plan.seed, progress=progress)
    if plan.drawings:
        with _optional("reconstructions.png", progress), clock.stage("draw_reconstructions"):
            modality.draw_pairs(inputs[:DRAWN_PAIRS], outputs[:DRAWN_PAIRS], folder / "reconstructions.png")
    with clock.stage("score_reconstruction"):
        return modality.score_reconstruction(inputs, outputs, progress, plan.workers)


def _generate(
    model: UNITE, name: str, data: ModalityData, plan: Plan, path: Path, progress: Progress, clock: "_Clock"
) -> Score:
    modality = model.modalities[name]
    with clock.stage("generate"):
        samples = model.generate(plan.samples, modality=name, seed=plan.seed, sampling=plan.sampling, progress=progress)
    with clock.stage("write_samples"):
        if path.is_dir():  # of an earlier evaluation
            shutil.rmtree(path)
        write_samples(modality, samples, path)
    if plan.drawings:
        with _optional("samples.png", progress), clock.stage("draw_samples"):
            modality.draw(samples[:DRAWN_SAMPLES], path.with_name("samples.png"))
    with clock.stage("score_generation"):
        return modality.score_generation(samples, data, progress, plan.workers)


def _data_notes(model: UNITE, name: str, data: ModalityData) -> list[str]:
    """What a reader must know when the data are not those the model was trained on."""
    trained_on = None if model.record is None else model.record.modalities[name].card
    if trained_on is None or trained_on.split_hash == data.card.split_hash:
        return []
    return [f"the model was trained on other data or another split of them: {trained_on.description}"]


def _named(stem: str, suffix: str) -> str:
    return stem if suffix == "/" else stem + suffix


@contextmanager
def _optional(what: str, progress: Progress) -> Iterator[None]:
    """A picture that cannot be drawn is no reason to lose the numbers."""
    try:
        yield
    except UniteError as error:
        progress.say(f"{what} was not drawn: {error.message}")


class _Clock:
    """Wall-clock seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 3)
