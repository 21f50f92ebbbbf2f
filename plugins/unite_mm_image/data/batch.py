"""What one step of the model sees of images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unite_mm.contract import Registers


@dataclass(frozen=True)
class ImageBatch:
    """A batch of square images of one size.

    Attributes:
        pixels: (B, colours, S, S) float32 in [0, 1], channels red, green, blue, or grey alone.
        registers: all K registers of every image.
        condition: (B,) int64 classes, or None.
    """

    pixels: Tensor
    registers: Registers
    condition: Tensor | None = None

    @classmethod
    def of(cls, pixels: Tensor, registers: int, condition: Tensor | None = None) -> "ImageBatch":
        """A batch of pixels whose images all use `registers` registers."""
        mask = torch.ones(len(pixels), registers, dtype=torch.bool, device=pixels.device)
        return cls(pixels, Registers(mask, padded=False), condition)

    def to(self, device: torch.device) -> "ImageBatch":
        """A copy on `device`."""
        condition = None if self.condition is None else self.condition.to(device, non_blocking=True)
        return ImageBatch(self.pixels.to(device, non_blocking=True), self.registers.to(device), condition)
