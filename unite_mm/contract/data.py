"""What a plugin supplies of data: a prepared set in three splits, and what samples are scored against."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from unite_mm.contract.model import Batch
from unite_mm.contract.targets import Targets
from unite_mm.progress import Progress, Silent
from unite_mm_schemas.card import DataCard

SPLITS = ("train", "validation", "test")


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

    def blocks(self, split: str) -> Tensor | None:
        """(N,) int64: the block of storage that each sample lies in, such as a file of many.

        Training then visits a few blocks at a time, in an order that is as much a function of seed and step as any
        other. None: every sample is as cheap to reach as any other.
        """
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

    def targets(self, split: str) -> Targets | None:
        """Classes or numbers of the samples of a split, which `analyse` probes latents for; here none are known."""
        del split
        return None


@dataclass(frozen=True)
class DataRequest:
    """What `Modality.open_data` is asked for.

    Attributes:
        source: a name the plugin knows, or a path; where the user names none, the manifest's `default_source`.
        cache: folder for downloads and prepared data; shared between runs and processes.
        progress: where to show long work.
        workers: processes to use; 0: as many as there are cores.
        refresh: prepare again even if the cache holds the result.
    """

    source: str
    cache: Path
    progress: Progress = field(default_factory=Silent)
    workers: int = 0
    refresh: bool = False
