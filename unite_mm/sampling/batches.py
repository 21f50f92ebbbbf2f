"""All samples that were asked for, in batches side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unite_mm.contract import PriorSample
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.coding import Coder
from unite_mm.sampling.fragments import Growth
from unite_mm.sampling.generate import (
    Samples,
    Start,
    batches_of_equal_length,
    draw_prior,
    largest_batch,
    sample_latents,
    stacked_conditions,
)
from unite_mm.sampling.latents import Latents
from unite_mm.utils.threads import side_by_side, threads_of
from unite_mm.utils.validation import not_negative
from unite_mm_schemas.config import SamplingConfig


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
        time_max: of the tokenization of a fragment, see `tokenize`.
        growth: the fragment that they contain; None: none.
        start: what they begin with instead of noise alone, n of them; None: nothing.
    """

    network: Network
    modality: str
    priors: Sequence[PriorSample]
    numbers: Sequence[int]
    seed: int
    settings: SamplingConfig
    time_max: float
    growth: Growth | None = None
    start: Start | None = None

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
            held = self.growth.hold(self.network, priors, self.seed, numbers, self.time_max)
        generators = [stream_generator(Stream.SAMPLING_NOISE, self.seed, number) for number in numbers]
        start = None if self.start is None else self.start.of(indices)
        return sample_latents(self.network, self.modality, priors, generators, self.settings, held=held, start=start)


@dataclass(frozen=True)
class Generation:
    """Samples that are asked for; `UNITE.generate` says more of each.

    Attributes:
        count: n, how many.
        seed: of all that is random.
        first: index of the first sample.
        condition: of all samples, or of each; None: the prior's.
        size: registers of every sample, or of each; None: as the prior draws it.
        fragment: a part that they contain.
        added: registers beyond the fragment's, instead of a size.
    """

    count: int
    seed: int
    first: int
    condition: Any
    size: int | Sequence[int] | None
    fragment: Any
    added: int | None

    def made(self, coder: Coder, settings: SamplingConfig, options: Any, progress: Progress) -> Samples:
        """The n samples.

        Args:
            coder: of their modality.
            settings: of sampling.
            options: of the plugin's own, complete.
            progress: where to show it.

        Raises:
            UsageError: condition, size, seed or fragment do not fit.
        """
        not_negative(n=self.count, seed=self.seed, first=self.first)
        grown = Growth.asked(self.fragment, self.added, coder.modality, coder.statistics)
        size = self.size if grown is None else grown.sizes(self.size, self.added)
        priors = draw_prior(
            coder.network.modules_of(coder.modality.name),
            self.count,
            self.condition,
            size=size,
            options=options,
            seed=self.seed,
            first=self.first,
            fragment=None if grown is None else grown.fragment,
        )
        numbers = range(self.first, self.first + self.count)
        batches = Batches(
            coder.network, coder.modality.name, priors, numbers, self.seed, settings, coder.time_max, grown
        )
        samples, most = batches.sample(lambda latents: coder.decode(latents, options), progress)
        score = None if grown is None else grown.score(samples, progress)
        return Samples(samples, most, stacked_conditions(priors), score)
