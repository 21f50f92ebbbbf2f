"""What a run is in the middle of: its weights, their average, the optimizers and the position; saved and restored."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unite_mm.model.network import Network
from unite_mm.storage.checkpoint import load_state, read_tensors
from unite_mm.training.ema import EMA
from unite_mm.training.optim import Optimizers
from unite_mm.training.recipes.base import Recipe
from unite_mm.training.schedule import rate_factor
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import RunConfig


class TrainState:
    """All that a checkpoint holds of a run, and how a step changes it.

    Args:
        config: the run.
        network: what is trained.
        recipe: what a step is.

    Attributes:
        optimizers: of the parameters that are trained.
        ema: their average.
        step: optimizer steps done.
        seconds: of training.
        saved: step of the newest checkpoint; None before the first.
    """

    def __init__(self, config: RunConfig, network: Network, recipe: Recipe) -> None:
        self.config, self.network, self.recipe = config, network, recipe
        self.step = 0
        self.seconds = 0.0
        self.saved: int | None = None
        self.optimizers = Optimizers(recipe.groups(), config.optim)
        self.ema = EMA(self.optimizers.named(network), config.optim.ema, config.optim.ema_ramp)

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of a step (1-based) as a share of its peak; `progress` is the share of the run that is done."""
        return rate_factor(self.config.optim, step, progress)

    def update(self, progress: float) -> None:
        """One step of the optimizers on the gradients that there are, and of the average.

        Args:
            progress: share of the run that is done.
        """
        self.optimizers.step(self.rate(self.step + 1, progress))
        self.ema.update(self.step + 1)

    def begin(self) -> None:
        """The average begins as the weights."""
        self.ema.load(dict(self.network.named_parameters()))

    def not_finite(self) -> str | None:
        """The name of a parameter that is not finite; None where all are."""
        named = self.network.named_parameters()
        return next((name for name, value in named if not bool(torch.isfinite(value).all())), None)

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """Tensors of a checkpoint: file stem -> name -> tensor."""
        return {**self.recipe.saved(), "ema": self.ema.average, "optimizer": self.optimizers.state()}

    def load(self, where: Path, record: CheckpointRecord) -> None:
        """Restore a checkpoint.

        Raises:
            UniteError: its files are damaged or do not fit.
        """
        load_state(self.network, read_tensors(where, "weights"), str(where))
        self.ema.load(read_tensors(where, "ema", str(self.network.device)))
        self.optimizers.load_state(read_tensors(where, "optimizer"))
        self.step, self.seconds, self.saved = record.step, record.seconds, record.step
