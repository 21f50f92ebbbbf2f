"""The contract between the core and a modality plugin: the only types both sides know.

A plugin's manifest names a configuration model and a subclass of `Modality`. `Modality` knows data, files, pictures and
metrics; the `Ends` it builds are the parts of the model that belong to the modality. Nothing else is asked of a plugin.
Each demand is also a check (`unite_mm.conformance`) that `unite-mm plugins check` and `unite_mm.testing` run.

Dimensions: B batch, T input tokens, W width of the trunk, K registers of the layout, L registers of a batch (L <= K),
C latent channels, M numbers of a condition.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from unite_mm.errors import UsageError
from unite_mm.progress import Progress, Silent
from unite_mm_schemas.card import DataCard
from unite_mm_schemas.manifest import CONTRACT_VERSION as CONTRACT_VERSION
from unite_mm_schemas.metrics import Score

SPLITS = ("train", "validation", "test")

Statistics = Mapping[str, Any]
"""JSON-able facts of the training split that the model needs (sizes, scales, the prior); stored in checkpoints."""


@dataclass(frozen=True)
class LatentLayout:
    """The registers a modality may use.

    Attributes:
        registers: K, the most registers a sample can use.
        channels: C, channels of each latent.
        positions: (K,) integer rotary position of each register. Input tokens that stand for the same thing as a
            register (an atom, say) should carry the register's position.
    """

    registers: int
    channels: int
    positions: Tensor


@dataclass(frozen=True)
class Registers:
    """Which registers the samples of a batch use.

    Attributes:
        mask: (B, L) bool, True where sample b uses register l; registers L..K-1 are unused by the whole batch.
        padded: whether any entry is False. Known on the host so that no forward pass has to ask the device.
    """

    mask: Tensor
    padded: bool

    @classmethod
    def from_counts(cls, counts: Tensor) -> "Registers":
        """Samples that use their first `counts[b]` registers; counts (B,) on the CPU."""
        longest = int(counts.max())
        mask = torch.arange(longest)[None, :] < counts[:, None]
        return cls(mask=mask, padded=bool((counts < longest).any()))

    def repeat(self, times: int) -> "Registers":
        """The whole batch `times` times, one after the other."""
        return self if times == 1 else Registers(self.mask.repeat(times, 1), self.padded)

    def to(self, device: torch.device) -> "Registers":
        """A copy on `device`."""
        return Registers(self.mask.to(device, non_blocking=True), self.padded)


class Batch(Protocol):
    """A typed object of tensors that the plugin defines; the core asks only this much of it."""

    @property
    def registers(self) -> Registers:
        """Registers used by each sample, (B, L)."""
        ...

    @property
    def condition(self) -> Tensor | None:
        """Classes (B,) int64, numbers (B, M) float, or None."""
        ...

    def to(self, device: torch.device) -> Self:
        """A copy on `device`."""
        ...


@dataclass(frozen=True)
class Tokens:
    """What an input tokenizer returns.

    Attributes:
        values: (B, T, W).
        positions: (T,) integer rotary positions.
        mask: (B, T) bool, True for real tokens; None when all are.
    """

    values: Tensor
    positions: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class LossTerm:
    """A named part of the reconstruction loss: one value per sample, so that no batch mate changes it.

    Attributes:
        values: (B,) float, differentiable.
        weight: factor in the total.
    """

    values: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class ConditionSpec:
    """What generation can be conditioned on.

    Attributes:
        kind: `none`, `classes` (size = number of classes) or `numbers` (size = M).
        size: see `kind`.
        names: for messages and the command line: class names or names of the numbers.
        mean: of each number over the training data; the core standardises with it.
        std: likewise the standard deviation.
    """

    kind: Literal["none", "classes", "numbers"] = "none"
    size: int = 0
    names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class PriorDraw:
    """The registers one generated sample uses, and its condition when the caller gives none.

    Attributes:
        mask: (K,) bool.
        condition: class () int64, numbers (M,) float, or None.
    """

    mask: Tensor
    condition: Tensor | None = None


class Ends(nn.Module, ABC):
    """The parts of the model that belong to one modality; all learned parts are submodules.

    Attributes:
        layout: the registers.
        condition: what generation can be conditioned on.
        tokenizer: module; `tokenizer(batch) -> Tokens` of the trunk's width.
        decoder: module; `decoder(latents (B, L, C), registers) -> output`, any type of the plugin's own.
            Unused registers hold zeros and must not influence the used ones. When samples are generated, decoder and
            `samples` may be called by several threads at once.
    """

    layout: LatentLayout
    condition: ConditionSpec
    tokenizer: nn.Module
    decoder: nn.Module

    @abstractmethod
    def losses(self, output: Any, batch: Any) -> dict[str, LossTerm]:
        """Named terms of the reconstruction loss of a decoder output against its batch."""

    def compile_losses(self) -> None:
        """Called where a run compiles the transformer blocks: compile what is slow in the losses; here nothing."""

    @abstractmethod
    def prior(self, generator: torch.Generator, condition: Tensor | None = None) -> PriorDraw:
        """Draw the registers of one sample to generate, and its condition where none is given; CPU generator.

        Args:
            generator: the only source of randomness.
            condition: what the caller asks for, class () or numbers (M,); the registers must agree with it.

        Raises:
            UsageError: no registers agree with the condition.
        """

    @abstractmethod
    def samples(self, output: Any, registers: Registers) -> list[Any]:
        """Native objects, one per sample of the batch, from a decoder output."""

    def conditioned(self, samples: list[Any], condition: Tensor) -> list[Any]:
        """Generated native objects that know their condition, classes (B,) or numbers (B, M); here as they are."""
        del condition
        return samples


class Reference(Protocol):
    """What generated samples are scored against: a prepared data set, or anything else the plugin knows to use."""

    @property
    def description(self) -> str:
        """One line that every table of results repeats."""
        ...


class ModalityData(ABC):
    """A prepared data set, split into `train`, `validation` and `test`.

    Attributes:
        card: where it came from and what was left out.
    """

    card: DataCard

    @property
    def description(self) -> str:
        """One line that every table of results repeats."""
        return self.card.description

    @abstractmethod
    def size(self, split: str) -> int:
        """Number of samples in a split."""

    def lengths(self, split: str) -> Tensor | None:
        """(N,) int64: samples of equal length are batched together where possible. None: all are alike."""
        del split
        return None

    @abstractmethod
    def batch(self, split: str, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The batch of the given samples (B,), in that order; with a CPU generator, randomly augmented.

        Beside a GPU a thread of its own calls it during the step before, but never two at once.
        """

    @abstractmethod
    def samples(self, split: str, indices: Tensor) -> list[Any]:
        """The given samples as native objects, in that order."""


@dataclass(frozen=True)
class DataRequest:
    """What `Modality.open_data` is asked for.

    Attributes:
        source: a name the plugin knows, or a path; None: the plugin's default data set.
        cache: folder for downloads and prepared data; shared between runs and processes.
        progress: where to show long work.
        workers: processes to use; 0: as many as there are cores.
        refresh: prepare again even if the cache holds the result.
    """

    source: str | None
    cache: Path
    progress: Progress = field(default_factory=Silent)
    workers: int = 0
    refresh: bool = False


@dataclass(frozen=True)
class Objective:
    """The number by which settings of one model are compared.

    Attributes:
        metric: name of a metric in the scores of generation.
        title: what a table calls it.
        lower_is_better: whether less of it is better.
    """

    metric: str
    title: str
    lower_is_better: bool = True


class Modality(ABC):
    """A modality: data, files, pictures and metrics; builds the model's `Ends`.

    Args:
        config: an instance of the configuration model that the manifest names.
    """

    name: ClassVar[str]

    def __init__(self, config: Any) -> None:
        self.config = config

    def check_training(self) -> None:  # noqa: B027 - most modalities need nothing
        """Called before a run prepares its data: fetch what its losses need beyond the data, weights say; here nothing.

        Raises:
            UsageError, UniteError: something is not at hand; the message says what to do.
        """

    @abstractmethod
    def open_data(self, request: DataRequest) -> ModalityData:
        """Fetch, convert and cache the data once, then open it. Safe when two processes do it at once.

        Raises:
            UsageError: the source does not exist, cannot be read, or holds nothing usable.
            UniteError: the data cannot be had (no network, say); the message names the alternatives.
        """

    @abstractmethod
    def statistics(self, data: ModalityData) -> Statistics:
        """Facts of the training split that `ends` needs; stored in every checkpoint."""

    @abstractmethod
    def ends(self, statistics: Statistics, width: int) -> Ends:
        """Build the model parts for a trunk of `width`; parameters initialised from torch's global generator."""

    @abstractmethod
    def write(self, samples: Sequence[Any], path: Path) -> None:
        """Write native samples to a file (or folder) whose suffix names the format.

        Raises:
            UsageError: the suffix names no known format.
        """

    @abstractmethod
    def read(self, path: Path) -> list[Any]:
        """Read native samples back.

        Raises:
            UsageError: the file does not exist or cannot be read.
        """

    @abstractmethod
    def encode_samples(self, samples: Sequence[Any], statistics: Statistics) -> Batch:
        """A batch of native samples, for `tokenize` and `reconstruct`.

        Raises:
            UsageError: a sample does not fit the layout; the message names it.
        """

    @abstractmethod
    def draw(self, samples: Sequence[Any], path: Path) -> None:
        """A picture (PNG) of several samples."""

    @abstractmethod
    def draw_pairs(self, inputs: Sequence[Any], outputs: Sequence[Any], path: Path) -> None:
        """A picture (PNG) of inputs beside their reconstructions, differences marked."""

    def read_pairs(self, inputs: Path, outputs: Path) -> tuple[list[Any], list[Any]]:
        """Samples of one file beside their reconstructions in another; here by their order, elsewhere by name.

        Raises:
            UsageError: a file cannot be read, or samples have no partner.
        """
        originals, results = self.read(inputs), self.read(outputs)
        if len(originals) != len(results):
            raise UsageError(
                f"{inputs} holds {len(originals)} samples and {outputs} {len(results)}",
                "reconstructions must be as many as their inputs, in the same order",
            )
        return originals, results

    def open_reference(self, request: DataRequest, samples: Sequence[Any] = ()) -> Reference:
        """What `score_generation` compares with, from a source that need not be a whole data set (statistics, say).

        Args:
            request: names the source.
            samples: what will be scored, where it is at hand.

        Raises:
            UsageError, UniteError: as `open_data`.
        """
        del samples
        return self.open_data(request)

    def objective(self) -> Objective:
        """The metric of generation by which a sweep compares settings.

        Raises:
            UsageError: there is none.
            UniteError: what measures it is not at hand; the message says what is missing.
        """
        raise UsageError(f"modality {self.name!r} names no metric by which settings are compared", "leave --sweep out")

    @abstractmethod
    def score_reconstruction(
        self, inputs: Sequence[Any], outputs: Sequence[Any], progress: Progress, workers: int = 0
    ) -> Score:
        """Metrics of reconstructions; `inputs[i]` belongs to `outputs[i]`."""

    @abstractmethod
    def score_generation(
        self, samples: Sequence[Any], reference: Reference | None, progress: Progress, workers: int = 0
    ) -> Score:
        """Metrics of generated samples; `reference` (of `open_data` or `open_reference`) may be absent."""
