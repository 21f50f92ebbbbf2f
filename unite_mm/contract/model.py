"""The parts of the model that belong to one modality, and the types that pass between them and the core.

Dimensions: B batch, T input tokens, W width of the trunk, K registers of the layout, L registers of a batch (L <= K),
C latent channels, M numbers of a condition.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from unite_mm.contract.condition import ConditionSpec
from unite_mm.errors import UsageError

Statistics = Mapping[str, Any]
"""JSON-able facts of the training split that the model needs (sizes, scales, the prior); stored in checkpoints."""


@dataclass(frozen=True)
class LatentLayout:
    """The registers a modality may use.

    Attributes:
        registers: K, the most registers a sample can use.
        channels: C, channels of each latent.
        positions: (K,) integer rotary position of each register. Input tokens that stand for the same thing as a
            register (an atom, say) should carry the register's position, others none of these; see `Tokens`.
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
        mask = torch.arange(int(counts.max()))[None, :] < counts[:, None]
        return cls(mask=mask, padded=not bool(mask.all()))

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
        """Classes (B,) int64, numbers (B, M) float, both (B, 1 + M) float, or None; see `ConditionSpec`."""
        ...

    def to(self, device: torch.device) -> Self:
        """A copy on `device`."""
        ...


@dataclass(frozen=True)
class Tokens:
    """What an input tokenizer returns.

    Attributes:
        values: (B, T, W).
        positions: (T,) integer rotary positions, the same for the whole batch. T need not be K. A token that stands
            for a register carries its position. Tokens that stand for none (patches of another grid, say) get positions
            behind all registers, such as `K + torch.arange(T)`, and presets `trunk.pointer_bias: 0`, for it makes
            tokens of equal positions attend to each other.
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
class PriorSample:
    """The registers one generated sample uses, and its condition when the caller gives none.

    Attributes:
        mask: (K,) bool.
        condition: class () int64, numbers (M,) float, both (1 + M,) float, or None.
    """

    mask: Tensor
    condition: Tensor | None = None


@dataclass(frozen=True)
class SampleRequest:
    """What a caller asks of one sample to generate; None where nothing is asked for.

    Attributes:
        condition: as in `PriorSample`, NaN for parts that are left open.
        size: the number of registers, one of `ModalityModules.sizes`.
        options: of the plugin's own, see `Modality.sampling_options`.
        fragment: what the sample is to contain, of `Modality.fragment`; registers and condition must have room for it.
    """

    condition: Tensor | None = None
    size: int | None = None
    options: Any = None
    fragment: Any = None


class ModalityModules(nn.Module, ABC):
    """The parts of the model that belong to one modality; all learned parts are submodules.

    Attributes:
        layout: the registers.
        condition: what generation can be conditioned on.
        tokenizer: module; `tokenizer(batch) -> Tokens` of the trunk's width.
        decoder: module; `decoder(latents (B, L, C), registers) -> output` of any type. Unused registers hold zeros and
            must not influence the used ones. Generation may call it and `samples` in several threads at once.
        sizes: fewest and most registers that a caller may ask for, which `prior_for` then heeds; None: nobody may.
    """

    layout: LatentLayout
    condition: ConditionSpec
    tokenizer: nn.Module
    decoder: nn.Module
    sizes: tuple[int, int] | None = None

    @abstractmethod
    def losses(self, output: Any, batch: Any) -> dict[str, LossTerm]:
        """Named terms of the reconstruction loss of a decoder output against its batch."""

    def nats(self, terms: Mapping[str, LossTerm], batch: Any) -> Tensor:
        """What a reconstruction costs each sample, in nats (B,), up to a constant, for the regime `unified-latents`.

        Here every register is taken to cost the weighted sum of the terms: right for cross-entropies that are means
        over registers. A plugin whose terms are means over anything else, or errors of numbers, says it better: an
        absolute error is the logarithm of a Laplace distribution, times its number of values over its scale.

        Args:
            terms: what `losses` gave for the batch.
            batch: the batch.
        """
        weighted = torch.stack([term.weight * term.values.float() for term in terms.values()]).sum(0)
        counts: Tensor = batch.registers.mask.sum(1)
        return weighted * counts

    def as_batch(self, output: Any, batch: Any) -> Any:
        """A decoder output as a batch that the tokenizer reads, differentiable: optional, for discriminators.

        Args:
            output: of the decoder.
            batch: what it reconstructs: gives registers, condition and whatever an output does not say.

        Raises:
            UsageError: the modality's outputs cannot be turned back into batches.
        """
        raise UsageError("the decoder's outputs of this modality are no batches", "use --recipe decoder")

    def compile_losses(self) -> None:
        """Called where a run compiles the transformer blocks: compile what is slow in the losses; here nothing."""

    def outline_losses(self) -> None:
        """Called before a step is counted on tensors that have shapes and no values; here nothing.

        Losses that compute with networks of their own make them now: of the right shapes, from no files and no network.
        """

    @abstractmethod
    def prior(self, generator: torch.Generator, condition: Tensor | None = None) -> PriorSample:
        """Draw the registers of one sample to generate, and its condition where none is given; CPU generator.

        Args:
            generator: the only source of randomness.
            condition: what the caller asks for, class () or numbers (M,); the registers must agree with it.

        Raises:
            UsageError: no registers agree with the condition.
        """

    def prior_for(self, generator: torch.Generator, request: SampleRequest) -> PriorSample:
        """As `prior`, for callers that may ask for more than a condition; here `prior` with their condition.

        Args:
            generator: the only source of randomness.
            request: what the registers must agree with.

        Raises:
            UsageError: none do.
        """
        return self.prior(generator, request.condition)

    @abstractmethod
    def samples(self, output: Any, registers: Registers) -> list[Any]:
        """Native objects on the CPU, one per sample of the batch, from a decoder output."""

    def samples_for(self, output: Any, registers: Registers, options: Any) -> list[Any]:
        """As `samples`, of generated latents, under options of the plugin's own; here they change nothing."""
        del options
        return self.samples(output, registers)

    def conditioned(self, samples: list[Any], condition: Tensor) -> list[Any]:
        """Generated native objects that know their condition, as in a batch; here as they are."""
        del condition
        return samples
