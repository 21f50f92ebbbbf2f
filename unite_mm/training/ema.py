"""The moving average of the weights."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of the trained parameters.

    Args:
        named: the parameters to average, with their names.
        decay: per step.
        ramp: use the smaller of `decay` and (1 + step) / (10 + step).
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], decay: float, ramp: bool) -> None:
        self.decay = decay
        self.ramp = ramp
        self.live = dict(named)
        self.average = {name: parameter.detach().clone() for name, parameter in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average toward the parameters after optimizer step `step` (1-based)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay
        torch._foreach_lerp_(list(self.average.values()), list(self.live.values()), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averaged and live weights, in place; a second call restores them."""
        for name, parameter in self.live.items():
            held = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(held)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The averaged weights in place of the live ones while the context is open."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew with the parameters as they are."""
        self.load(self.live)

    @torch.no_grad()
    def load(self, average: Mapping[str, Tensor]) -> None:
        """Restore a saved average."""
        for name, tensor in self.average.items():
            tensor.copy_(average[name])
