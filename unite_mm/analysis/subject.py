"""What is analysed: a model, and samples of its data as latents.

Dimensions: B samples of a batch, L registers of the batch, C latent channels, W width, N chosen registers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.contract import Batch, DataRequest, ModalityData, Registers
from unite_mm.errors import UsageError
from unite_mm.evaluation.plan import chosen_indices
from unite_mm.flow.path import interpolate
from unite_mm.progress import Progress, Silent
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.registry import discover
from unite_mm.sampling.generate import normal_noise
from unite_mm.sampling.tokenization import register_generators, tokenize

BATCH = 128
MOST_ROWS = 8192
"""Registers whose features are compared at most, drawn at random from all samples."""


@dataclass(frozen=True)
class Encoded:
    """A batch with its clean latents and the noise they are mixed with.

    Attributes:
        batch: the plugin's, on the device.
        first: number of its first sample; the register noise of tokenization follows from it.
        latents: z0 (B, L, C), in the space of the flow.
        noise: (B, L, C), of each sample's own stream; not that of tokenization.
    """

    batch: Batch
    first: int
    latents: Tensor
    noise: Tensor

    @property
    def registers(self) -> Registers:
        """Used registers (B, L)."""
        return self.batch.registers

    def noisy(self, time: float) -> Tensor:
        """z_t (B, L, C), zero at unused registers."""
        times = torch.full((len(self.latents),), time, device=self.latents.device)
        return interpolate(self.latents, self.noise, times) * self.registers.mask[:, :, None]


@dataclass(frozen=True)
class Subject:
    """A model, its data, and which samples of them are looked at.

    Attributes:
        run: folder or name of the model.
        model: loaded.
        modality: the one that is looked into.
        data: its data.
        split: whose samples.
        samples: how many, drawn at random; fewer where the split has fewer.
        seed: of everything random.
        progress: where to show it.
    """

    run: Path
    model: UNITE
    modality: str
    data: ModalityData
    split: str = "test"
    samples: int = 512
    seed: int = 0
    progress: Progress = field(default_factory=Silent)

    @classmethod
    def open(
        cls,
        run: Path,
        *,
        cache: Path,
        modality: str | None = None,
        source: str | None = None,
        split: str = "test",
        samples: int = 512,
        seed: int = 0,
        device: str = "cpu",
        workers: int = 0,
        progress: Progress | None = None,
    ) -> "Subject":
        """A run, export or shipped model with the data that it was trained on, or others of the same modality.

        Args:
            run: folder or name of the model.
            cache: folder of prepared data.
            modality: which; None: the only one.
            source: other data than the run's.
            split: whose samples are looked at.
            samples: how many.
            seed: of everything random.
            device: where to compute.
            workers: processes that prepare data.
            progress: where to show it.

        Raises:
            UsageError: there is no model, or the data or the split cannot be used.
            UniteError: files are damaged or unavailable.
        """
        shown = progress or Silent()
        model = UNITE.from_pretrained(run, device=device)
        name = model.choose(modality)
        plugin = discover().get(name)
        named = plugin.source(source or model.config.modalities[name].source)
        data = model.modalities[name].open_data(DataRequest(named, cache, shown, workers))
        if data.size(split) == 0:
            raise UsageError(f"the {split} split of {data.card.name} is empty", "name another with --split")
        return cls(run, model, name, data, split, samples, seed, shown)

    @cached_property
    def indices(self) -> Tensor:
        """The samples looked at (N,)."""
        return chosen_indices(self.data.size(self.split), self.samples, self.seed)

    @cached_property
    def encoded(self) -> list[Encoded]:
        """All of them in batches, tokenized once."""
        return list(self.encode(self.split, self.indices))

    @torch.no_grad()
    def encode(self, split: str, indices: Tensor) -> Iterator[Encoded]:
        """Samples (N,) of a split in batches, with their latents."""
        modules, network, device = self.model.modules_of(self.modality), self.model.network, self.model.device
        with self.progress.task("Tokenizing", len(indices)) as advance:
            for start in range(0, len(indices), BATCH):
                chosen = indices[start : start + BATCH]
                batch = self.data.batch(split, chosen).to(device)
                numbers = range(start, start + len(chosen))
                latents = network.to_flow(self.modality, self.tokenized(batch, start), batch.registers)
                generators = [stream_generator(Stream.ANALYSIS_NOISE, self.seed, number) for number in numbers]
                noise = normal_noise(modules, generators, latents.shape[1]).to(device)
                yield Encoded(batch, start, latents, noise)
                advance(len(chosen))

    @cached_property
    def rows(self) -> list[Tensor]:
        """For each batch of `encoded`, which of its used registers are compared: (used in the batch,) bool."""
        counts = [int(one.registers.mask.sum()) for one in self.encoded]
        order = torch.randperm(sum(counts), generator=stream_generator(Stream.ANALYSIS_ROWS, self.seed))
        chosen = torch.zeros(sum(counts), dtype=torch.bool)
        chosen[order[:MOST_ROWS]] = True
        return list(chosen.split(counts))

    def predicted(
        self, one: Encoded, time: float, states: list[Tensor] | None = None, *, conditioned: bool = True
    ) -> Tensor:
        """z0_hat (B, L, C) of latents noised to a timestep.

        Args:
            one: the batch.
            time: the timestep.
            states: gets the registers (B, L, W) after every block.
            conditioned: under the conditions of the batch; else under none.
        """
        state, network = one.noisy(time), self.model.network
        times = torch.full((len(state),), time, device=state.device)
        condition = one.batch.condition if conditioned else None
        return network.denoise(self.modality, state, times, one.registers, condition=condition, states=states)

    def tokenized(self, batch: Batch, first: int, states: list[Tensor] | None = None) -> Tensor:
        """Clean latents (B, L, C) of a batch, with the register noise of the samples from number `first` on.

        Args:
            batch: the plugin's, on the device.
            first: number of its first sample.
            states: gets the registers (B, L, W) after every block; nothing where latents are a teacher's features.
        """
        generators = register_generators(self.seed, range(first, first + len(batch.registers.mask)))
        time_max = self.model.config.latent.tokenize_time_max
        return tokenize(self.model.network, self.modality, batch, generators, time_max, states)


@torch.no_grad()
def blocks_tokenizing(subject: Subject, one: Encoded) -> list[Tensor]:
    """What every block puts out, (B, L, W) each, when a batch is tokenized to the latents that it has.

    None where no trunk tokenizes: latents that are a frozen teacher's features.
    """
    states: list[Tensor] = []
    subject.tokenized(one.batch, one.first, states)
    return states


@torch.no_grad()
def blocks_denoising(subject: Subject, one: Encoded, time: float, *, conditioned: bool = True) -> list[Tensor]:
    """What every block puts out, (B, L, W) each, when the latents of a batch are denoised from a timestep."""
    states: list[Tensor] = []
    subject.predicted(one, time, states, conditioned=conditioned)
    return states


def used(blocks: Sequence[Tensor], one: Encoded) -> list[Tensor]:
    """The used registers of every block: (used, W) each, on the CPU."""
    return [block[one.registers.mask].float().cpu() for block in blocks]


def pooled(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the registers or tokens that a mask (B, L) keeps, None: all; (B, L, W) -> (B, W), on the CPU."""
    if mask is None:
        return values.mean(1).float().cpu()
    kept = mask[:, :, None]
    return ((values * kept).sum(1) / kept.sum(1)).float().cpu()
