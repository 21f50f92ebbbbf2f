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
        recorded: whether updates are recorded as a CUDA graph: the decay is then a tensor on the parameters' device.
    """

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], decay: float, ramp: bool, *, recorded: bool = False
    ) -> None:
        self.decay = decay
        self.ramp = ramp
        self.live = dict(named)
        self.average = {name: parameter.detach().clone() for name, parameter in self.live.items()}
        self.weight: float | Tensor = 1 - decay
        if recorded:
            self.weight = torch.tensor(1 - decay, device=next(iter(self.average.values())).device)

    def set_step(self, step: int) -> None:
        """Let the next update be the one after optimizer step `step` (1-based)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.ramp else self.decay
        if torch.is_tensor(self.weight):
            self.weight.fill_(1 - decay)
        else:
            self.weight = 1 - decay

    @torch.no_grad()
    def update(self) -> None:
        """Move the average toward the parameters."""
        averages: list[Tensor] = list(self.average.values())
        live: list[Tensor] = list(self.live.values())
        if torch.is_tensor(self.weight):
            way = torch._foreach_sub(live, averages)
            torch._foreach_mul_(way, self.weight)
            torch._foreach_add_(averages, way)
        else:
            torch._foreach_lerp_(averages, live, self.weight)

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
