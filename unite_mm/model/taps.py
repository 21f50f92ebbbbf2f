"""What every block of the trunk puts out, read beside an ordinary forward pass; the blocks stay as they are.

Dimensions: B batch, L registers of the batch, N registers and input tokens, W width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from unite_mm.model.network import GenerativeEncoder


@dataclass
class Taps:
    """The registers after every block, of the newest forward pass.

    Attributes:
        registers: one (B, L, W) for each block, in their order.
    """

    registers: list[Tensor] = field(default_factory=list)


@contextmanager
def block_taps(encoder: GenerativeEncoder) -> Iterator[Taps]:
    """Record what every block of an encoder puts out while the context is open.

    Every forward pass of the encoder replaces what the one before left. The tensors are those of the pass itself, with
    their graphs where it has any.

    Args:
        encoder: `network.encoder` (tokenizes) or `network.denoiser` (denoises); with shared weights these are the same.
    """
    trunk, taps = encoder.trunk, Taps()
    config, count = trunk.config, 0

    def begin(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        count = arguments[1]
        taps.registers = []

    def keep(_module: nn.Module, _arguments: tuple[Any, ...], output: Tensor) -> None:
        entered = trunk.context is not None and len(taps.registers) >= config.in_context_start
        first = config.in_context_tokens if entered else 0
        taps.registers.append(output[:, first : first + count])

    hooks = [trunk.register_forward_pre_hook(begin)]
    hooks += [block.register_forward_hook(keep) for block in trunk.blocks]
    try:
        yield taps
    finally:
        for hook in hooks:
            hook.remove()
