"""What describes inputs without being trained: optional. Dimensions: B batch, L registers of the batch, F features."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class Teacher(ABC):
    """A frozen network, or a rule, that describes each register's part of an input by a vector.

    Denoisers are aligned to it (`alignment.kind=teacher`), or its features are the latents (`frozen-features`). It is
    no part of a model: its weights are in no checkpoint and in no exported folder.

    Attributes:
        name: what messages and records call it.
        width: F. Known without loading weights, where that can be.
    """

    name: str
    width: int

    @abstractmethod
    def __call__(self, batch: Any) -> Tensor:
        """Features (B, L, F), float32, of a clean batch, on its device; the core calls it without gradients.

        A sample's features depend on that sample alone; unused registers may hold anything finite.

        Raises:
            UsageError, UniteError: its weights are not at hand.
        """
