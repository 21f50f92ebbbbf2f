"""Evaluation of a trained model or of a file of samples; knows no modality, only the contract.

A model is judged twice: by reconstructing samples of a held-out split and by generating new ones. What was generated is
written before anything is scored, so that a failing metric costs no samples.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.contract import DataRequest, Modality, ModalityData, Reference
from unite_mm.errors import UniteError, UsageError
from unite_mm.evaluation.sweep import sweep
from unite_mm.progress import Progress
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.registry.build import software_versions
from unite_mm.sampling.labels import Labels, spread_labels
from unite_mm.utils.files import write_samples, write_text
from unite_mm_schemas.config import SamplingConfig
from unite_mm_schemas.metrics import MetricsReport, Score, Sweep

Settings = dict[str, str | int | float | bool | None]

DRAWN_SAMPLES = 36
DRAWN_PAIRS = 18


@dataclass(frozen=True)
class Plan:
    """What to evaluate.

    Attributes:
        sampling: solver, steps, guidance, temperature.
        split: whose samples are reconstructed.
        samples: how many to generate; 0: none.
        labels: classes of the generated samples; None: what the prior draws.
        sweep: guidance scales to try; empty: only that of `sampling`.
        reconstructions: how many samples of the split to reconstruct; None: all; 0: none.
        seed: of generation, tokenization and the choice of samples.
        workers: processes that score; 0: all cores.
        pictures: whether to draw pictures.
    """

    sampling: SamplingConfig
    split: str = "test"
    samples: int = 1000
    labels: Labels | None = None
    sweep: tuple[float, ...] = ()
    reconstructions: int | None = None
    seed: int = 0
    workers: int = 0
    pictures: bool = True


def evaluate_model(
    model: UNITE,
    name: str,
    data: ModalityData,
    plan: Plan,
    folder: Path,
    suffix: str,
    progress: Progress,
    reference: Reference | None = None,
) -> MetricsReport:
    """Reconstruct and generate, write samples and pictures to `folder`, and score both.

    Args:
        model: a loaded model.
        name: the modality.
        data: its data.
        plan: what to evaluate.
        folder: where samples and pictures go; created.
        suffix: suffix of the sample files, or `/` for a folder.
        progress: where to show progress.
        reference: what generated samples are compared with; None: `data`.

    Raises:
        UsageError: the split is empty, or nothing at all is to be evaluated.
        UniteError: scoring or writing failed.
    """
    if plan.samples == 0 and plan.reconstructions == 0:
        raise UsageError("nothing to evaluate: both --samples and --reconstructions are 0")
    generation = _Generation(model, name, plan, folder, suffix, reference or data, progress, _Clock())
    clock = generation.clock
    scores = []
    if plan.reconstructions != 0:
        scores.append(_reconstruct(model, name, data, plan, folder, progress, clock))
    settings: Settings = {"split": plan.split, "seed": plan.seed}
    if plan.samples:
        scores.append(generation.run())
        settings |= generation.settings()
    notes = _data_notes(model, name, data)
    return MetricsReport(
        modality=name,
        data=data.card.description,
        step=None if model.record is None else model.record.step,
        settings=settings,
        seconds=clock.seconds,
        versions=software_versions(),
        scores=tuple(score.model_copy(update={"notes": (*score.notes, *notes)}) for score in scores),
        sweep=generation.curve,
    )


def evaluate_file(
    modality: Modality,
    name: str,
    path: Path,
    progress: Progress,
    *,
    request: DataRequest | None = None,
    originals: Path | None = None,
    workers: int = 0,
) -> MetricsReport:
    """Score a file of samples as generated ones, or as reconstructions of another file; no model is needed.

    Args:
        modality: the modality.
        name: its name.
        path: the samples.
        progress: where to show progress.
        request: names what generated samples are compared with; None: such metrics are left out.
        originals: the samples are reconstructions of these; scored as generated ones too only if `request` is given.
        workers: processes that score; 0: all cores.

    Raises:
        UsageError: a file cannot be read or holds no sample.
        UniteError: scoring failed, or nothing could be measured.
    """
    clock, scores = _Clock(), []
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
    return MetricsReport(
        modality=name,
        data="" if reference is None else reference.description,
        source=str(path),
        settings={"samples": len(samples)} | ({} if originals is None else {"reconstructions_of": str(originals)}),
        seconds=clock.seconds,
        versions=software_versions(),
        scores=tuple(scores),
    )


def write_report(report: MetricsReport, path: Path) -> None:
    """Write `metrics.json`, whole or not at all."""
    write_text(path, report.model_dump_json(indent=2) + "\n")


def chosen_indices(size: int, count: int | None, seed: int) -> Tensor:
    """Indices (N,) of the samples to use, ascending: all, or `count` at random, since files may be sorted."""
    if count is None or count >= size:
        return torch.arange(size)
    order = torch.randperm(size, generator=stream_generator(Stream.EVALUATION_SUBSET, seed))
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
    if plan.pictures:
        with _optional("reconstructions.png", progress), clock.stage("draw_reconstructions"):
            modality.save_pairs_picture(inputs[:DRAWN_PAIRS], outputs[:DRAWN_PAIRS], folder / "reconstructions.png")
    with clock.stage("score_reconstruction"):
        return modality.score_reconstruction(inputs, outputs, progress, plan.workers)


class _Generation:
    """Generates, writes, draws and scores samples: once, or at each guidance scale of a sweep.

    What can be known to fail (no classes, no metric to compare by) fails when this is made, before any work.
    """

    def __init__(
        self,
        model: UNITE,
        name: str,
        plan: Plan,
        folder: Path,
        suffix: str,
        reference: Reference,
        progress: Progress,
        clock: "_Clock",
    ) -> None:
        self.model, self.name, self.plan, self.progress, self.clock = model, name, plan, progress, clock
        self.folder, self.suffix, self.reference = folder, suffix, reference
        self.modality = model.modalities[name]
        self.curve: Sweep | None = None
        self.sampling, self.evaluations = plan.sampling, 0
        spec = model.modules_of(name).condition
        self.labels = None if plan.labels is None else spread_labels(plan.labels, plan.samples, spec, seed=plan.seed)
        if plan.sweep and (spec.kind == "none" or plan.samples == 0):
            what = "this model takes no condition" if plan.samples else "no samples are to be generated"
            raise UsageError(f"--sweep: {what}", "guidance acts on conditional samples; leave --sweep out")
        self.sweep_metric = self.modality.sweep_metric() if plan.sweep else None
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> Score:
        """The score; that of the best scale after a sweep."""
        if self.sweep_metric is None:
            return self._measure(self.plan.sampling, lambda _: True)
        path = self.folder / "sweep.json"
        path.unlink(missing_ok=True)  # of an earlier evaluation
        self.curve = sweep(
            self.plan.sweep,
            self.sweep_metric,
            lambda scale, is_best: self._measure(self.plan.sampling.model_copy(update={"guidance": scale}), is_best),
            self.progress,
            lambda found: write_text(path, found.model_dump_json(indent=2) + "\n"),
        )
        return next(point.score for point in self.curve.points if point.value == self.curve.best)

    def settings(self) -> Settings:
        """How the samples that were kept came about."""
        found: Settings = {
            name: ":".join(f"{end:g}" for end in value) if isinstance(value, tuple) else value
            for name, value in self.sampling.model_dump().items()
        }
        return found | {
            "samples": self.plan.samples,
            "labels": self.plan.labels,
            "function_evaluations": self.evaluations,
        }

    def _measure(self, sampling: SamplingConfig, is_best: Callable[[Score], bool]) -> Score:
        """Generate and score once; samples and picture stay if the score is the best."""
        with self.clock.stage("generate"):
            samples = self.model.generate(
                self.plan.samples,
                modality=self.name,
                seed=self.plan.seed,
                condition=self.labels,
                sampling=sampling,
                progress=self.progress,
            )
        candidate = self.folder / _named("samples" if self.sweep_metric is None else "samples-candidate", self.suffix)
        with self.clock.stage("write_samples"):
            _remove(candidate)  # of an earlier evaluation
            write_samples(self.modality, samples, candidate)
        if self.sweep_metric is None:  # before the score: a failing metric costs no picture
            self._draw(samples)
        with self.clock.stage("score_generation"):
            score = self.modality.score_generation(samples, self.reference, self.progress, self.plan.workers)
        if not is_best(score):
            _remove(candidate)
            return score
        self.sampling, self.evaluations = sampling, samples.evaluations
        if self.sweep_metric is not None:
            kept = self.folder / _named("samples", self.suffix)
            _remove(kept)
            candidate.rename(kept)
            self._draw(samples)
        return score

    def _draw(self, samples: list[Any]) -> None:
        if self.plan.pictures:
            with _optional("samples.png", self.progress), self.clock.stage("draw_samples"):
                self.modality.save_picture(samples[:DRAWN_SAMPLES], self.folder / "samples.png")


def _data_notes(model: UNITE, name: str, data: ModalityData) -> list[str]:
    """What a reader must know when the data are not those the model was trained on."""
    trained_on = None if model.record is None else model.record.modalities[name].card
    if trained_on is None or trained_on.split_hash == data.card.split_hash:
        return []
    return [f"the model was trained on other data or another split of them: {trained_on.description}"]


def _remove(path: Path) -> None:
    """Remove a file or folder of samples, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
        spent = self.seconds.get(name, 0.0) + time.monotonic() - start
        self.seconds[name] = round(spent, 3)
