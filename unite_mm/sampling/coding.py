"""Samples of one modality to latents and back, in batches.

Dimensions: N samples, B batch, L registers of the batch, C latent channels, M numbers of a condition.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unite_mm.contract import Batch, ConditionSpec, Modality, Statistics
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.sampling.latents import Latents, joined
from unite_mm.sampling.names import OPEN
from unite_mm.sampling.native import native_samples
from unite_mm.sampling.tokenization import register_generators, seen_by_decoder, tokenize
from unite_mm.utils.validation import not_negative

BATCH = 256
"""Samples at once: it changes speed and memory, and numbers by rounding only."""

UNKNOWN = -1
"""The class of a sample whose class is not known."""


class Reconstructions(list[Any]):
    """Reconstructed native samples, in the order of their inputs.

    Attributes:
        skipped: why inputs were left out, by their index.
    """

    def __init__(self, skipped: Mapping[int, str]) -> None:
        super().__init__()
        self.skipped = dict(skipped)


@dataclass(frozen=True)
class Coder:
    """Encodes and decodes the samples of one modality.

    Attributes:
        network: with the modality's parts.
        modality: whose samples.
        statistics: of its training split.
        time_max: see `tokenize`.
        unconditional: whether the denoiser was trained without a condition too.
    """

    network: Network
    modality: Modality
    statistics: Statistics
    time_max: float
    unconditional: bool = True

    def batch(self, samples: Sequence[Any]) -> Batch:
        """Native samples as the network takes them.

        Raises:
            UsageError: one does not fit the model.
        """
        return self.modality.encode_samples(samples, self.statistics)

    def tokenize(self, batch: Batch, *, seed: int, first: int) -> Latents:
        """Latents of a batch as the decoder sees them, on the network's device.

        Args:
            batch: of the modality.
            seed: of the register noise.
            first: index of the first sample; each draws from a stream of its own.
        """
        not_negative(seed=seed, first=first)
        batch = batch.to(self.network.device)
        indices = range(first, first + len(batch.registers.mask))
        generators = register_generators(seed, indices)
        clean = tokenize(self.network, self.modality.name, batch, generators, self.time_max)
        values = seen_by_decoder(self.network, self.modality.name, clean, batch.registers, generators)
        return Latents(values, batch.registers, self.modality.name)

    def encode(
        self, samples: Sequence[Any], *, seed: int, size: int = BATCH, skip: bool = False, progress: Progress
    ) -> Latents:
        """Latents of native samples and what is known of these, on the CPU.

        Args:
            samples: at least one.
            seed: of the register noise.
            size: B, samples at once.
            skip: leave out samples that do not fit the model, as if they were not there.
            progress: where to show it.

        Raises:
            UsageError: there is none, or one does not fit the model; with `skip` none does.
        """
        samples, skipped = self.fitting(samples, size) if skip else (samples, {})
        if not samples:
            raise UsageError("there is no sample to encode")
        spec, parts = self.network.modules_of(self.modality.name).condition, []
        with progress.task("Encoding", len(samples)) as advance:
            for start in range(0, len(samples), size):
                own = list(samples[start : start + size])
                batch = self.batch(own)
                latents = self.tokenize(batch, seed=seed, first=start).to(torch.device("cpu")).of(slice(None))
                known = None if spec.kind == "none" else self._known(batch, own, spec)
                parts.append(Latents(latents.values, latents.registers, latents.modality, known=known))
                advance(len(own))
        latents = joined(parts, skipped)
        unknown = latents.known is None or bool((latents.known.isnan() | (latents.known == UNKNOWN)).all())
        return replace(latents, known=None) if unknown else latents

    def _known(self, batch: Batch, samples: Sequence[Any], spec: ConditionSpec) -> Tensor:
        """Conditions that samples fulfil, each as if it were alone: a batch has none where one sample lacks it."""
        if batch.condition is not None:
            return batch.condition.cpu()
        nothing = torch.tensor(UNKNOWN) if spec.kind == "classes" else torch.full(spec.shape, OPEN)
        if len(samples) == 1:
            return nothing[None]
        alone = [self.batch([sample]).condition for sample in samples]
        return torch.stack([nothing if one is None else one[0].cpu() for one in alone])

    def decode(self, latents: Latents, options: Any = None) -> list[Any]:
        """Native samples of one batch; `options`: of the plugin's own, complete, for latents that were generated."""
        return native_samples(self.network, latents.to(self.network.device), options)

    def decoded(self, latents: Latents, *, size: int = BATCH, options: Any = None) -> Iterator[list[Any]]:
        """Native samples of any number of latents, `size` at once."""
        return (self.decode(part, options) for part in latents.parts(size))

    def reconstruct(
        self, samples: Sequence[Any], *, seed: int, size: int = BATCH, skip: bool = False, progress: Progress
    ) -> Reconstructions:
        """Samples encoded and decoded; arguments as for `encode`: what `decoded` gives of its result."""
        kept, skipped = self.fitting(samples, size) if skip else (samples, {})
        result = Reconstructions(skipped)
        with progress.task("Reconstructing", len(kept)) as advance:
            for start in range(0, len(kept), size):
                batch = self.batch(list(kept[start : start + size]))
                result += self.decode(self.tokenize(batch, seed=seed, first=start).of(slice(None)))
                advance(len(batch.registers.mask))
        return result

    def fitting(self, samples: Sequence[Any], size: int = BATCH) -> tuple[list[Any], dict[int, str]]:
        """The samples that fit the model, and why the others do not, by their index.

        Raises:
            UsageError: there are samples, and none fits.
        """
        skipped: dict[int, str] = {}
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            if self._refusal(part) is not None:
                alone = {index: self._refusal([sample]) for index, sample in enumerate(part, start)}
                skipped |= {index: reason for index, reason in alone.items() if reason is not None}
        if skipped and len(skipped) == len(samples):
            raise UsageError(f"none of {len(samples)} samples fits the model; the first: {skipped[0]}")
        return [sample for index, sample in enumerate(samples) if index not in skipped], skipped

    def _refusal(self, samples: Sequence[Any]) -> str | None:
        try:
            self.batch(samples)
        except UsageError as error:
            return error.message
        return None
