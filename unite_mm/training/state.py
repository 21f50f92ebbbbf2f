"""What a run is in the middle of: its weights, their average, the optimizers and the position; saved and restored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from unite_mm.model.network import Network
from unite_mm.storage.checkpoint import load_state, read_tensors
from unite_mm.training.ema import EMA
from unite_mm.training.layout import Whole
from unite_mm.training.optim import Optimizers
from unite_mm.training.passes import TrainingPass
from unite_mm.training.recipes.base import Recipe
from unite_mm.training.recording import RecordedWork, Recorder
from unite_mm.training.schedule import rate_factor
from unite_mm.utils.sharded import on_this_rank
from unite_mm_schemas.checkpoint import CheckpointRecord, StageRecord
from unite_mm_schemas.config import RunConfig

_T = TypeVar("_T")


@dataclass(frozen=True)
class TrainSummary:
    """How a run ended.

    Attributes:
        folder: the run folder.
        step: optimizer steps done.
        seconds: seconds of training over all resumed parts.
        losses: newest training and validation losses.
        interrupted: whether it was stopped by a signal before its end.
        queue_again: whether a cluster stopped it, which may run it again.
    """

    folder: Path
    step: int
    seconds: float
    losses: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    queue_again: bool = False


class TrainState:
    """All that a checkpoint holds of a run, and how a step changes it.

    Args:
        config: the run.
        network: what is trained.
        recipe: what a step is.
        layout: where all of it lies; None: whole on every rank.
        recorder: makes recordings of what follows the gradients; None: it runs as it is.

    Attributes:
        optimizers: of the parameters that are trained.
        ema: their average.
        step: optimizer steps done.
        seconds: of training.
        stage: where the current stage began.
        saved: step of the newest checkpoint; None before the first.
    """

    def __init__(
        self,
        config: RunConfig,
        network: Network,
        recipe: Recipe,
        layout: Whole | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.config, self.network, self.recipe = config, network, recipe
        self.layout, self._recorder = layout or Whole(), recorder
        self.step = 0
        self.seconds = 0.0
        self.stage = StageRecord()
        self.saved: int | None = None
        self._equip()

    def _equip(self) -> None:
        """Fresh optimizers and a fresh average for what the recipe trains in its stage."""
        optim, recorded = self.config.optim, self._recorder is not None
        groups = self.layout.local(self.recipe.groups())
        self.optimizers = Optimizers(groups, optim, self.layout.rows, recorded=recorded)
        self.ema = EMA(self.optimizers.named(self.network), optim.ema, optim.ema_ramp, recorded=recorded)
        self.recipe.average = self.ema.average
        self._clip, self._move = self._repeated(self._clip_gradients), self._repeated(self._move_weights)

    def _repeated(self, work: Callable[[], _T]) -> Callable[[], _T]:
        """What does the same in every step, recorded where that is wanted."""
        return work if self._recorder is None else RecordedWork(work, self._recorder)

    # -------------------------------------------------------------------------------------------------------- stages

    def stage_is_over(self, progress: float) -> bool:
        """Whether the next stage is to begin, at a share of the run that is done."""
        return self.stage.number <= len(self.recipe.boundaries) and progress >= self._end_of_stage

    def next_stage(self, data: TrainingPass, progress: float) -> None:
        """Begin the next stage on the averaged weights of this one.

        Args:
            data: the training split, for the recipe.
            progress: share of the run that is done, equal on all ranks. Where the length is given in time the stage
                begins at it and not at this rank's own clock: learning rates follow from where it began.
        """
        with torch.no_grad():
            for name, parameter in self.ema.live.items():
                parameter.copy_(self.ema.average[name])
        settings = self.config.train
        seconds = self.seconds if settings.max_steps is not None else progress * (settings.max_time or 0.0)
        self.stage = StageRecord(number=self.stage.number + 1, step=self.step, seconds=seconds)
        self.recipe.enter(self.stage.number)
        self.recipe.begin_stage(data)
        self._equip()

    @property
    def _end_of_stage(self) -> float:
        return (*self.recipe.boundaries, 1.0)[self.stage.number - 1]

    def _stage_share(self, progress: float) -> float:
        """Share of the stage that is done; optimizers count anew in every stage."""
        settings = self.config.train
        if settings.max_steps is not None:
            begin = self.stage.step / settings.max_steps
        else:
            begin = self.stage.seconds / (settings.max_time or 1)
        length = self._end_of_stage - begin
        return 1.0 if length <= 0 else min(1.0, (progress - begin) / length)

    # --------------------------------------------------------------------------------------------------------- steps

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of a step (1-based) as a share of its peak; `progress` is the share of the run that is done."""
        return rate_factor(self.config.optim, step - self.stage.step, self._stage_share(progress))

    def update(self, progress: float) -> None:
        """One step of the optimizers on the gradients that there are, and of the average.

        Args:
            progress: share of the run that is done.
        """
        self.optimizers.set_rates(self.rate(self.step + 1, progress))
        self.ema.set_step(self.step + 1 - self.stage.step)
        self._move()

    def _move_weights(self) -> None:
        self.optimizers.step()
        self.ema.update()

    def clip(self) -> Tensor:
        """Scale reduced gradients down to the norm that is the limit; returns the norm they had, ()."""
        return self._clip().clone()  # a recording would overwrite it

    def _clip_gradients(self) -> Tensor:
        return self.layout.clip(self.optimizers.parameters, self.config.optim.clip)

    # --------------------------------------------------------------------------------------------------- checkpoints

    def begin(self) -> None:
        """The average begins as the weights."""
        self.ema.restart()

    def not_finite(self) -> str | None:
        """The name of a parameter whose part on this rank is not finite; None where all are."""
        named = self.network.named_parameters()
        return next((name for name, value in named if not bool(torch.isfinite(on_this_rank(value)).all())), None)

    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Tensors of a checkpoint that this rank writes: file stem -> name -> tensor."""
        return self.layout.own({**self.recipe.saved(), "ema": self.ema.average, "optimizer": self.optimizers.state()})

    def load(self, where: Path, record: CheckpointRecord) -> None:
        """Restore a checkpoint.

        Raises:
            UniteError: its files are damaged or do not fit.
        """
        self.stage = record.stage
        if self.stage.number != self.recipe.stage:
            self.recipe.enter(self.stage.number)
            self._equip()
        span = self.layout.span
        load_state(self.network, read_tensors(where, "weights", span=span), str(where))
        self.recipe.load_extra(where)
        self.ema.load(read_tensors(where, "ema", span=span))
        self.optimizers.load_state(read_tensors(where, "optimizer", span=span))
        self.step, self.seconds, self.saved = record.step, record.seconds, record.step
