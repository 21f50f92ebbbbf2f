"""Samples that grow around a given fragment: which registers are held, and to which latents.

Dimensions: B batch, L registers of the batch, C latent channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unite_mm.contract import Fragment, Held, Modality, PriorSample, Statistics
from unite_mm.errors import UniteError, UsageError
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.drift import HeldLatents
from unite_mm.sampling.tokenization import tokenize
from unite_mm_schemas.metrics import Score


@dataclass(frozen=True)
class Growth:
    """A fragment of one modality, and what its samples need of it.

    Attributes:
        modality: whose samples grow.
        statistics: of its training split.
        fragment: what they grow around.
    """

    modality: Modality
    statistics: Statistics
    fragment: Fragment

    @classmethod
    def around(cls, given: Any, modality: Modality, statistics: Statistics) -> "Growth":
        """Growth around a native sample, or what a user calls one.

        Raises:
            UsageError: the modality takes none, or not this one.
        """
        return cls(modality, statistics, modality.fragment(given, statistics))

    @classmethod
    def asked(cls, given: Any, added: int | None, modality: Modality, statistics: Statistics) -> "Growth | None":
        """Growth around what a caller gave; None where there was nothing.

        Raises:
            UsageError: as `around`, or registers are to be added to nothing.
        """
        if given is None and added is not None:
            raise UsageError(f"added={added}: there is no fragment to add to", "give one, or a size")
        return None if given is None else cls.around(given, modality, statistics)

    def sizes(self, size: int | Sequence[int] | None, added: int | None) -> int | Sequence[int] | None:
        """The registers asked for, where `added` may stand for those beyond the fragment's.

        Raises:
            UsageError: both are given, or a size that the fragment alone fills.
        """
        own = self.fragment.registers
        if added is not None:
            if size is not None:
                raise UsageError("size and added exclude each other", "give one of them")
            if added < 1:
                raise UsageError(f"added={added}: nothing would grow", "add at least 1")
            return own + added
        asked = [] if size is None else [size] if isinstance(size, int) else list(size)
        for one in asked:
            if one <= own:
                raise UsageError(f"size {one}: the fragment alone takes {own} registers", "ask for more")
        return size

    def hold(
        self, network: Network, priors: Sequence[PriorSample], seed: int, indices: Sequence[int], time_max: float
    ) -> HeldLatents:
        """The latents that samples are held to.

        Args:
            network: tokenizes.
            priors: registers and conditions of B samples.
            seed: of all that is random.
            indices: of the samples (B,).
            time_max: see `tokenize`.

        Raises:
            UniteError: the plugin holds registers that a sample does not use.
        """
        generators = [stream_generator(Stream.FRAGMENT, seed, index) for index in indices]
        held = self.modality.hold(self.fragment, priors, generators, self.statistics)
        check_held(held, priors)
        noise = [stream_generator(Stream.FRAGMENT_NOISE, seed, index) for index in indices]
        name, batch = self.modality.name, held.batch.to(network.device)
        clean: Tensor = tokenize(network, name, batch, noise, time_max)
        return HeldLatents(network.to_flow(name, clean, batch.registers), held.mask.to(network.device))

    def score(self, samples: Sequence[Any], progress: Progress) -> Score:
        """How many samples are sound and contain the fragment."""
        return self.modality.score_fragment(samples, self.fragment, progress)


def check_held(held: Held, priors: Sequence[PriorSample]) -> None:
    """Check that a plugin holds some but not all registers of each sample.

    Raises:
        UniteError: it does not.
    """
    used = held.batch.registers.mask
    fits = held.mask.shape == used.shape and len(used) == len(priors)
    for row, own, prior in zip(held.mask, used, priors, strict=fits):
        fits = fits and not bool((row & ~own).any()) and not bool((row & ~prior.mask[: len(row)]).any())
        fits = fits and bool(row.any()) and int(row.sum()) < int(prior.mask.sum())
    if not fits:
        raise UniteError(
            "the plugin holds registers that the samples do not use, or all or none of them",
            "this is a mistake in the plugin: tell its author",
        )
