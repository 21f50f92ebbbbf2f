"""All samples that were asked for, in batches side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unite_mm.contract import PriorSample
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.fragments import Growth
from unite_mm.sampling.generate import Latents, batches_of_equal_length, largest_batch, sample_latents
from unite_mm.utils.threads import side_by_side, threads_of
from unite_mm_schemas.config import LatentConfig, SamplingConfig


@dataclass(frozen=True)
class Batches:
    """Samples to generate.

    Attributes:
        network: what denoises.
        modality: whose samples.
        priors: registers and conditions of n samples.
        numbers: of the samples (n,); each draws from streams of its own.
        seed: of all that is random.
        settings: of sampling.
        latent: how a fragment is tokenized.
        growth: the fragment that they contain; None: none.
    """

    network: Network
    modality: str
    priors: Sequence[PriorSample]
    numbers: Sequence[int]
    seed: int
    settings: SamplingConfig
    latent: LatentConfig
    growth: Growth | None = None

    def sample(self, decode: Callable[[Latents], list[Any]], progress: Progress) -> tuple[list[Any], int]:
        """The n native samples in their order, and the most function evaluations that one took."""
        samples: list[Any] = [None] * len(self.priors)
        most = 0

        def one_batch(indices: list[int]) -> tuple[list[Any], int]:
            latents, evaluations = self._latents(indices)
            return decode(latents), evaluations

        device = self.network.device
        size = largest_batch(self.settings, len(samples), threads_of(device))
        batches = list(batches_of_equal_length(self.priors, size))
        with progress.task("Generating", len(samples)) as advance:
            for indices, (found, evaluations) in side_by_side(one_batch, batches, device):
                most = max(most, evaluations)
                for index, sample in zip(indices, found, strict=True):
                    samples[index] = sample
                advance(len(indices))
        return samples, most

    def _latents(self, indices: Sequence[int]) -> tuple[Latents, int]:
        priors, numbers = [self.priors[index] for index in indices], [self.numbers[index] for index in indices]
        held = None
        if self.growth is not None:
            held = self.growth.hold(self.network, priors, self.seed, numbers, self.latent.tokenize_time_max)
        generators = [stream_generator(Stream.SAMPLING_NOISE, self.seed, number) for number in numbers]
        return sample_latents(self.network, self.modality, priors, generators, self.settings, held=held)
