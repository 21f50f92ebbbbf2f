"""What a recipe is: one training step, apart from the loop, the run folder and what several devices need.

Dimensions: B batch, L registers of the batch, C latent channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch, LossTerm, Statistics
from unite_mm.model.network import Network
from unite_mm.storage.checkpoint import load_state, read_tensors
from unite_mm.training.noise import DecoderView, ReconstructionNoise, StepNoise
from unite_mm.training.optim import ParameterGroups, parameter_groups
from unite_mm.training.passes import TrainingPass
from unite_mm_schemas.config import RunConfig

EXTRA = "training"
"""Stem of the file of a checkpoint that holds what is trained beside the network."""

Autocast = Callable[[], AbstractContextManager[Any]]
"""Makes the context of the forward passes: their arithmetic."""


class Recipe(ABC):
    """One training step: what it trains, its losses, its optimizers' groups, what of it is saved.

    Making a recipe decides which parameters of the network are trained (`requires_grad`). A recipe may have several
    stages, one after the other, that train different parts; each has optimizers and an average of its own.

    Args:
        config: the run.
        network: what is trained.

    Attributes:
        boundaries: shares of the run, rising, at which the second and further stages begin.
        stage: the current one, from 1.
        step: optimizer steps done in it; whoever counts sets it.
        extra: what is trained beside the network and is no part of the model: in checkpoints, in no exported folder.
        average: the averaged parameters by their names in the network; whoever averages sets it.
    """

    boundaries: tuple[float, ...] = ()

    def __init__(self, config: RunConfig, network: Network) -> None:
        self.config = config
        self.network = network
        self.step = 0
        self.extra = nn.ModuleDict()
        self.average: Mapping[str, Tensor] = {}
        self.enter(1)

    @abstractmethod
    def trained(self) -> Iterable[nn.Parameter]:
        """The parameters of the network that this recipe trains in its current stage."""

    def enter(self, stage: int) -> None:
        """Be in a stage: train its parameters and no others. Changes no weight."""
        self.stage = stage
        self.network.requires_grad_(False)
        for parameter in self.trained():
            parameter.requires_grad_(True)

    def begin_stage(self, data: TrainingPass) -> None:  # noqa: B027 - most recipes have one stage
        """Called once when a further stage is entered, with the averaged weights of the one before; not on resume.

        Args:
            data: the training split, for what the stage needs to know of it.
        """

    def groups(self) -> ParameterGroups:
        """The trained parameters by optimizer: hidden matrices by Muon and the rest by AdamW, as configured."""
        groups, beside = (parameter_groups(one, self.config.optim.optimizer) for one in (self.network, self.parts))
        named = [[(f"{EXTRA}.{name}", value) for name, value in own] for own in (beside.muon, beside.adamw)]
        return ParameterGroups(groups.muon + named[0], groups.adamw + named[1])

    @property
    def parts(self) -> nn.Module:
        """What of `extra` the current stage trains."""
        return self.extra

    def start(self, statistics: Mapping[str, Statistics]) -> None:  # noqa: B027 - most recipes start from fresh weights
        """Give the network the weights that a new run starts from; here the fresh ones that it has.

        Args:
            statistics: each modality's facts of the training split, which the network was built with.

        Raises:
            UsageError, UniteError: weights of another run cannot be used.
        """

    @abstractmethod
    def backward(
        self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast = nullcontext
    ) -> dict[str, Tensor]:
        """Add the gradients of one step on one modality's batch to the trained parameters.

        Args:
            modality: whose batch it is.
            batch: the plugin's batch, on the network's device.
            noise: the step's random numbers.
            autocast: context of the forward passes.

        Returns:
            Detached scalars by name, for the records of the run.
        """

    @property
    def repeatable(self) -> bool:
        """Whether `backward` does the same operations in every step of a stage, for batches of one shape.

        Their contents, the step's random numbers and the weights are then all that differs, and no operation waits for
        the device or exchanges anything with other ranks: the step can be recorded and replayed.
        """
        return False

    @abstractmethod
    def validate(self, modality: str, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        """Scalars of a validation batch; called without gradients, inside autocast."""

    def saved(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Tensors of a checkpoint beside the average and the optimizer's state: file stem -> name -> tensor."""
        extra = self.extra.state_dict()
        return {"weights": self.network.state_dict()} | ({EXTRA: extra} if extra else {})

    def load_extra(self, where: Path) -> None:
        """Restore what is trained beside the network from a checkpoint.

        Raises:
            UniteError: its file is missing, damaged, or does not fit.
        """
        if self.extra.state_dict():
            load_state(self.extra, read_tensors(where, EXTRA), str(where))

    def facts(self) -> list[tuple[str, str]]:
        """Rows (what, how much) that `--dry-run` shows of a step; here none."""
        return []

    def weight(self, modality: str) -> float:
        """Factor of a modality's whole loss."""
        return self.config.modalities[modality].weight

    def tokenize(self, modality: str, batch: Batch, noise: ReconstructionNoise) -> Tensor:
        """Clean latents z0 (B, L, C)."""
        return self.network.tokenize(modality, batch, noise.registers, noise.tokenize_times)

    def reconstruction_losses(
        self, modality: str, batch: Batch, latents: Tensor, view: DecoderView | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Decode latents (B, L, C), as a view shows them or clean, and compare with the batch.

        Returns:
            The weighted total, averaged over the batch, and each unweighted term's mean.
        """
        return self.compare(modality, batch, self.decode(modality, batch, latents, view))

    def decode(self, modality: str, batch: Batch, latents: Tensor, view: DecoderView | None = None) -> Any:
        """Decoder output of latents (B, L, C), as a view shows them or clean."""
        seen = latents if view is None else view.of(latents, batch.registers)
        return self.network.decode(modality, seen, batch.registers)

    def compare(self, modality: str, batch: Batch, output: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total of a decoder output's losses, averaged over the batch, and each unweighted term's mean."""
        terms = self.network.modules_of(modality).losses(output, batch)
        return self.total(modality, batch, terms), {
            name: term.values.detach().float().mean() for name, term in terms.items()
        }

    def validate_reconstruction(
        self, modality: str, batch: Batch, noise: StepNoise
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Clean latents of a validation batch; `reconstruction`, as a trained model decodes them, with every term."""
        length = batch.registers.mask.shape[1]
        times = noise.tokenize_times(self.config.latent)
        latents = self.network.tokenize(modality, batch, noise.normal(length), times)
        view = noise.lasting_view(self.config, length)
        total, terms = self.reconstruction_losses(modality, batch, latents, view)
        return latents, {"reconstruction": total, **terms}

    def total(self, modality: str, batch: Batch, terms: Mapping[str, LossTerm]) -> Tensor:
        """The reconstruction loss () of the terms of a batch: their weighted sum, averaged over the batch."""
        del modality, batch
        return torch.stack([term.weight * term.values.float().mean() for term in terms.values()]).sum()
