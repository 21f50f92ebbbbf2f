"""What to evaluate, of which samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.labels import Labels
from unite_mm_schemas.config import SamplingConfig


@dataclass(frozen=True)
class Plan:
    """What to evaluate.

    Attributes:
        sampling: solver, steps, guidance, temperature.
        split: whose samples are reconstructed.
        samples: how many to generate; 0: none.
        labels: classes of the generated samples; None: what the prior draws.
        sweep: guidance scales to try; empty: only that of `sampling`.
        reconstructions: how many samples of the split to reconstruct; None: all; 0: none.
        seed: of generation, tokenization and the choice of samples.
        workers: processes that score; 0: all cores.
        pictures: whether to make pictures.
    """

    sampling: SamplingConfig
    split: str = "test"
    samples: int = 1000
    labels: Labels | None = None
    sweep: tuple[float, ...] = ()
    reconstructions: int | None = None
    seed: int = 0
    workers: int = 0
    pictures: bool = True


def chosen_indices(size: int, count: int | None, seed: int) -> Tensor:
    """Indices (N,) of the samples to use, ascending: all, or `count` at random, since files may be sorted."""
    if count is None or count >= size:
        return torch.arange(size)
    order = torch.randperm(size, generator=stream_generator(Stream.EVALUATION_SUBSET, seed))
    return order[:count].sort().values
