"""The image decoder: a plain vision transformer from latents to pixels (arXiv 2603.22283, section 3.1).

Dimensions: B batch, K registers = patches, C latent channels, D width of the decoder, p pixels of a patch, S pixels on
a side.
"""

import torch
from torch import Tensor, nn

from unite_mm.contract import Registers
from unite_mm.kit.layers import DecoderBlock, HiddenLinear, sincos_table
from unite_mm_image.config import ImageConfig

EPS = 1e-12
"""Of the decoder's LayerNorms, as published."""


def grid_table(side: int, width: int) -> Tensor:
    """Sines and cosines of the places of a square grid, row by row: (side^2, width); columns first, then rows."""
    index = torch.arange(side)
    columns, rows = index.repeat(side), index.repeat_interleave(side)
    return torch.cat((sincos_table(columns, width // 2), sincos_table(rows, width // 2)), dim=-1)


class ImageDecoder(nn.Module):
    """Latents -> patches -> pixels; nothing keeps the pixels inside [0, 1].

    One learned token of no place is carried along and dropped at the end.

    Args:
        config: sizes.
    """

    places: Tensor

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.side, self.patch = config.side, config.patch
        width = config.decoder_width
        if config.decoder_input_width is None:
            self.up: nn.Module = HiddenLinear(config.channels, width)
        else:
            self.up = nn.Sequential(
                HiddenLinear(config.channels, config.decoder_input_width),
                HiddenLinear(config.decoder_input_width, width),
            )
        self.extra = nn.Parameter(torch.zeros(width))
        self.register_buffer("places", grid_table(config.side, width))
        self.blocks = nn.ModuleList(
            DecoderBlock(width, config.decoder_heads, hidden=config.decoder_hidden, eps=EPS)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.pixels = HiddenLinear(width, config.patch**2 * config.colour_channels)

    def forward(self, latents: Tensor, registers: Registers) -> Tensor:
        """Latents (B, K, C) -> pixels (B, colours, S, S), float32."""
        del registers  # every image uses all of them
        x = self.up(latents) + self.places
        x = torch.cat((self.extra.to(x.dtype).expand(len(x), 1, -1), x), dim=1)
        for block in self.blocks:
            x = block(x, None, None)
        return self.unpatchify(self.pixels(self.norm(x[:, 1:])).float())

    def unpatchify(self, patches: Tensor) -> Tensor:
        """(B, K, p p colours), each patch [row, column, colour] -> (B, colours, S, S)."""
        batch, _, size = patches.shape
        colours = size // self.patch**2
        grid = patches.view(batch, self.side, self.side, self.patch, self.patch, colours)
        image = grid.permute(0, 5, 1, 3, 2, 4)  # (B, colours, side, p, side, p)
        return image.reshape(batch, colours, self.side * self.patch, self.side * self.patch)
