"""Generation around a given part of a sample. Dimensions: B batch, L registers of the batch."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unite_mm.contract.model import Batch


@dataclass(frozen=True)
class Fragment:
    """A part that generated samples are to contain.

    Attributes:
        native: the part itself, in any form of the plugin's own.
        registers: how many it takes in a sample.
    """

    native: Any
    registers: int


@dataclass(frozen=True)
class Held:
    """Samples that contain a fragment, and which of their registers stand for it.

    Attributes:
        batch: B samples to tokenize; only the latents of held registers are used.
        mask: (B, L) bool, the held registers, each of them used by the sample that is generated. The same register
            means the same part in both.
    """

    batch: Batch
    mask: Tensor
