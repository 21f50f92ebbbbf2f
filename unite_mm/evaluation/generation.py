"""Generate samples, write, picture and score them: once, or at each guidance scale of a sweep."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unite_mm.config.layers import flatten
from unite_mm.contract import Reference
from unite_mm.errors import UsageError
from unite_mm.evaluation.report import Settings, optional_picture
from unite_mm.evaluation.sweep import sweep
from unite_mm.evaluation.task import Task
from unite_mm.sampling.generate import Samples
from unite_mm.sampling.labels import spread_labels
from unite_mm.storage.samples import write_samples
from unite_mm.utils.files import write_text
from unite_mm_schemas.config import SamplingConfig
from unite_mm_schemas.metrics import Score, Sweep

DRAWN_SAMPLES = 36
PICTURE = "samples.png"


class Generation:
    """Generates, writes, pictures and scores samples.

    What can be known to fail (no classes, no metric to compare by) fails when this is made, before any work.

    Args:
        task: what to evaluate.
        reference: what generated samples are compared with.

    Attributes:
        curve: the sweep, once it has run; None without one.

    Raises:
        UsageError: the model knows no classes, takes no condition to guide, or has no metric to sweep by.
        UniteError: what measures that metric is not at hand.
    """

    def __init__(self, task: Task, reference: Reference) -> None:
        self.task, self.reference = task, reference
        self.curve: Sweep | None = None
        plan = task.plan
        self.sampling, self.evaluations = plan.sampling, 0
        spec = task.model.modules_of(task.name).condition
        self.labels = None if plan.labels is None else spread_labels(plan.labels, plan.samples, spec, seed=plan.seed)
        if plan.sweep and (spec.kind == "none" or plan.samples == 0):
            what = "this model takes no condition" if plan.samples else "no samples are to be generated"
            raise UsageError(f"--sweep: {what}", "guidance acts on conditional samples; leave --sweep out")
        self.sweep_metric = task.modality.sweep_metric() if plan.sweep else None
        for stem in ("samples", "samples-candidate", "samples-conditioned") if plan.samples else ():
            _check_replaceable(task.samples_path(stem), task)
        task.folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> Score:
        """The score; that of the best scale after a sweep.

        Raises:
            UniteError: generating, writing or scoring failed.
        """
        sampling = self.task.plan.sampling
        if self.sweep_metric is None:
            return self._measure(sampling, lambda _: True)
        path = self.task.folder / "sweep.json"
        path.unlink(missing_ok=True)  # of an earlier evaluation
        self.curve = sweep(
            self.task.plan.sweep,
            self.sweep_metric,
            lambda scale, is_best: self._measure(sampling.model_copy(update={"guidance": scale}), is_best),
            self.task.progress,
            lambda found: write_text(path, found.model_dump_json(indent=2) + "\n"),
        )
        return next(point.score for point in self.curve.points if point.value == self.curve.best)

    def check_conditions(self) -> list[Score]:
        """How well samples keep to the conditions of held-out ones; none where the modality checks no conditions.

        Raises:
            UniteError: generating, writing or scoring failed.
        """
        task, plan = self.task, self.task.plan
        conditions = task.modality.held_out_conditions(self.reference, plan.samples)
        path = task.samples_path("samples-conditioned")
        _remove(path)  # of an earlier evaluation
        if conditions is None:
            return []
        with task.clock.stage("generate_conditioned"):
            samples = task.model.generate(
                len(next(iter(conditions.values()))),
                modality=task.name,
                seed=plan.seed,
                condition=conditions,
                sampling=self.sampling,
                progress=task.progress,
            )
            write_samples(task.modality, samples, path)
        with task.stage("score_conditioned", "Scoring conditioned samples"):
            return [task.modality.score_conditioned(samples, conditions, self.reference, task.progress, plan.workers)]

    def settings(self) -> Settings:
        """How the samples that were kept came about."""
        found: Settings = {
            name: ":".join(f"{end:g}" for end in value) if isinstance(value, tuple) else value
            for name, value in self.sampling.model_dump().items()
        }
        plan, own = self.task.plan, self.task.modality.sampling_options()
        if own is not None:
            for name, value in flatten(own.model_dump(mode="json"), f"{self.task.name}.sampling.").items():
                found[name] = value if isinstance(value, str | int | float | bool | None) else str(value)
        return found | {
            "samples": plan.samples,
            "labels": plan.labels,
            "function_evaluations": self.evaluations,
        }

    def _measure(self, sampling: SamplingConfig, is_best: Callable[[Score], bool]) -> Score:
        """Generate and score once; samples and picture stay if the score is the best."""
        task, plan, clock = self.task, self.task.plan, self.task.clock
        with clock.stage("generate"):
            samples = task.model.generate(
                plan.samples,
                modality=task.name,
                seed=plan.seed,
                condition=self.labels,
                sampling=sampling,
                progress=task.progress,
            )
        candidate = task.samples_path("samples" if self.sweep_metric is None else "samples-candidate")
        with task.stage("write_samples", "Writing samples"):
            _remove(candidate)  # of an earlier evaluation
            write_samples(task.modality, samples, candidate)
        if self.sweep_metric is None:  # before the score: a failing metric costs no picture
            self._save_picture(samples)
        with task.stage("score_generation", "Scoring samples"):
            score = self._score(samples)
        if not is_best(score):
            _remove(candidate)
            return score
        self.sampling, self.evaluations = sampling, samples.evaluations
        if plan.pictures:
            task.galleries.add_samples(samples, self.reference)
        if self.sweep_metric is not None:
            kept = task.samples_path("samples")
            _remove(kept)
            candidate.rename(kept)
            self._save_picture(samples)
        return score

    def _score(self, samples: Samples) -> Score:
        """The modality's score, and how well the samples keep to their conditions."""
        task = self.task
        score = task.modality.score_generation(samples, self.reference, task.progress, task.plan.workers)
        if samples.conditions is None:
            return score
        spec = task.model.modules_of(task.name).condition
        adherence = task.modality.score_adherence(samples, samples.conditions, spec)
        return score.model_copy(update={"metrics": (*score.metrics, *adherence)})

    def _save_picture(self, samples: Sequence[Any]) -> None:
        task = self.task
        if task.plan.pictures:
            with optional_picture(PICTURE, task.progress), task.stage("draw_samples", "Drawing samples"):
                task.modality.save_picture(samples[:DRAWN_SAMPLES], task.folder / PICTURE)


def _check_replaceable(path: Path, task: Task) -> None:
    """Refuse a folder in the way that no earlier evaluation has left, such as a user's own.

    Raises:
        UsageError: there is one.
    """
    ours = task.suffix == "/" and any((task.folder / name).is_file() for name in ("metrics.json", "sweep.json"))
    if path.is_dir() and not ours and (task.suffix != "/" or any(path.iterdir())):
        raise UsageError(f"{path} is a folder that no evaluation has written", "remove it, or name a folder with -o")


def _remove(path: Path) -> None:
    """Remove a file or folder of samples, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
