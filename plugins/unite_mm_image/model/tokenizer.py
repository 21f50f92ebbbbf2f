"""The patch tokenizer: one input token per patch.

Dimensions: B batch, S pixels on a side, p pixels of a patch, P = (S / p)^2 patches, K registers, W width of the trunk.
"""

import torch
from torch import Tensor, nn

from unite_mm.contract import Tokens
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch


class PatchTokenizer(nn.Module):
    """Square patches, row by row, each through one linear map; rotary positions are all they know of their place.

    Args:
        config: sizes.
        width: W.
    """

    positions: Tensor

    def __init__(self, config: ImageConfig, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(config.colour_channels, width, kernel_size=config.patch, stride=config.patch)
        first = config.registers if config.patch_positions == "after" else 0
        self.register_buffer("positions", first + torch.arange(config.registers), persistent=False)

    def forward(self, batch: ImageBatch) -> Tokens:
        """Pixels (B, colours, S, S) -> tokens (B, P, W)."""
        return Tokens(self.project(batch.pixels).flatten(2).transpose(1, 2), self.positions)
