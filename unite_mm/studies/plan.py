"""What the runs of a study cost: operations of a step, counted once a variant, and steps that make them equal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm.studies.definition import Words
from unite_mm.training.operations import step_cost
from unite_mm.utils.durations import duration
from unite_mm.utils.files import write_text
from unite_mm_schemas.config import RunConfig
from unite_mm_schemas.study import StudyConfig, StudyPlan, VariantCost

PLAN = "plan.json"

Resolve = Callable[[Sequence[str]], RunConfig]
"""The configuration that words of `train` become."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        variant: its name.
        seed: its seed.
        folder: the run folder.
        train: words of `train`, without the folder.
        evaluate: words of `evaluate`, likewise; empty where nothing is measured.
        steps: how many; None where the clock decides.
        seconds: of training; None where steps decide.
    """

    variant: str
    seed: int
    folder: Path
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    steps: int | None
    seconds: float | None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def record(self) -> Path:
        """The file that says what it was asked to do and what was measured."""
        return self.folder.with_suffix(".json")

    @property
    def log(self) -> Path:
        """What its commands printed."""
        return self.folder.with_suffix(".log")


def variant_costs(
    study: StudyConfig, words: Words, resolve: Resolve, cache: Path, progress: Progress, folder: Path | None = None
) -> dict[str, VariantCost]:
    """What a step of every variant costs; what an earlier call has counted for the same words is taken from `folder`.

    Args:
        study: the study.
        words: of its runs.
        resolve: what words of `train` mean.
        cache: folder of prepared data.
        progress: where to show it.
        folder: of the study, where `plan.json` lies; None: nothing is kept.

    Raises:
        UsageError, UniteError: a variant cannot be trained.
    """
    known = StudyPlan() if folder is None else _known(folder / PLAN)
    costs: dict[str, VariantCost] = {}
    with progress.task("Counting operations", len(study.variants)) as advance:
        for name in study.variants:
            own = words.variant(name)
            found = known.costs.get(name)
            if found is None or found.train != own:
                try:
                    config = resolve((*own, "--set", f"train.seed={study.seeds[0]}", "--max-steps", "1"))
                except UsageError as error:
                    raise UsageError(f"variant {name}: {error.message}", error.hint) from error
                cost = step_cost(config, cache, progress)
                found = VariantCost(
                    train=own, operations=cost.operations, seconds=cost.seconds, parameters=cost.parameters
                )
            costs[name] = found
            if folder is not None:
                write_text(folder / PLAN, StudyPlan(costs=costs).model_dump_json(indent=1) + "\n")
            advance(1)
    return costs


def _known(path: Path) -> StudyPlan:
    try:
        return StudyPlan.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return StudyPlan()


def steps_of(study: StudyConfig, costs: dict[str, VariantCost]) -> dict[str, int | None]:
    """Optimizer steps of every variant; None where the clock decides."""
    length, first = study.length, next(iter(study.variants))
    if length.steps is None:
        return dict.fromkeys(study.variants)
    if length.equal == "steps":
        return dict.fromkeys(study.variants, length.steps)
    budget = length.steps * costs[first].operations
    return {name: max(1, round(budget / costs[name].operations)) for name in study.variants}


def planned_runs(study: StudyConfig, words: Words, costs: dict[str, VariantCost], folder: Path) -> list[PlannedRun]:
    """All runs, seed by seed, so that early results already compare variants.

    Args:
        study: the study.
        words: of its runs.
        costs: of its variants.
        folder: of the study.
    """
    steps, measure = steps_of(study, costs), study.measure
    evaluate = words.evaluate() if measure.samples or measure.reconstructions else ()
    return [
        PlannedRun(
            variant=name,
            seed=seed,
            folder=folder / "runs" / name / f"seed-{seed}",
            train=words.train(name, seed, steps=steps[name], seconds=study.length.seconds),
            evaluate=evaluate,
            steps=steps[name],
            seconds=study.length.seconds,
        )
        for seed in study.seeds
        for name in study.variants
    ]


def cost_rows(study: StudyConfig, costs: dict[str, VariantCost], jobs: int) -> list[tuple[str, ...]]:
    """What `--dry-run` shows: variant, parameters, operations of a step, steps, operations of a run, time of a run."""
    steps = steps_of(study, costs)
    rows: list[tuple[str, ...]] = []
    total = 0.0
    for name, cost in costs.items():
        own = steps[name]
        seconds = study.length.seconds or (own or 0) * cost.seconds
        total += seconds * len(study.seeds)
        made = "" if own is None else f"{own:,}"
        whole = "" if own is None else f"{own * cost.operations:.3g}"
        rows.append((name, f"{cost.parameters:,}", f"{cost.operations:.4g}", made, whole, duration(seconds)))
    runs = len(study.variants) * len(study.seeds)
    rows.append((f"{runs} runs, {jobs} at once", "", "", "", "", duration(total / min(jobs, runs))))
    return rows


COST_HEADER = ("variant", "parameters", "operations per step", "steps", "operations per run", "training time about")
