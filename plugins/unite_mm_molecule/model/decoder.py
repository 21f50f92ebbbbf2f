"""The molecule decoder: latents -> types, charges, positions and symmetric pairwise bond orders.

Dimensions: B batch, L atoms of the batch, K atoms of the layout, C latent channels, W width of the decoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unite_mm.contract import Registers
from unite_mm.kit.layers import DecoderBlock, HiddenLinear, rotary_table

BOND_CLASSES = 4
"""No bond, single, double, triple."""


@dataclass(frozen=True)
class MoleculeLogits:
    """Decoder output.

    Attributes:
        types: (B, L, number of elements) logits.
        charges: (B, L, number of charges) logits.
        positions: (B, L, 3) in scaled units; None for plain graphs.
        bonds: (B, 4, L, L) logits, symmetric in the atoms.
    """

    types: Tensor
    charges: Tensor
    positions: Tensor | None
    bonds: Tensor


class BondHead(nn.Module):
    """Logits of bond orders of every pair of atoms, symmetric by construction.

    Each class has a bilinear form with fixed signs (half the channels positive, half negative, so that it can attract
    and repel), a share of either atom, and a bias by the distance of the two in the order of atoms.
    """

    signs: Tensor

    def __init__(self, atoms: int, width: int, channels: int = 32) -> None:
        super().__init__()
        self.channels = channels
        self.project = HiddenLinear(width, BOND_CLASSES * channels)
        self.single = nn.Linear(width, BOND_CLASSES)
        self.distance = nn.Parameter(torch.zeros(atoms, BOND_CLASSES))
        signs = torch.ones(channels)
        signs[1::2] = -1
        self.register_buffer("signs", signs / channels**0.5, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (B, 4, L, L)."""
        batch, count, _ = x.shape
        features = self.project(x).view(batch, count, BOND_CLASSES, self.channels)
        features = features.transpose(1, 2)  # (B, 4, L, channels)
        pair = (features * self.signs.to(features.dtype)) @ features.transpose(-1, -2)
        single = self.single(x).transpose(1, 2)  # (B, 4, L)
        index = torch.arange(count, device=x.device)
        distance = self.distance[(index[:, None] - index[None, :]).abs()].permute(2, 0, 1)  # (4, L, L)
        logits: Tensor = pair.float() + (single[..., :, None] + single[..., None, :]).float() + distance
        return logits


class MoleculeDecoder(nn.Module):
    """Transformer over the atoms' latents with heads for types, charges, positions and bonds."""

    def __init__(
        self,
        types: int,
        charges: int,
        atoms: int,
        channels: int,
        width: int,
        depth: int,
        heads: int,
        geometry: bool,
    ) -> None:
        super().__init__()
        self.head_width = width // heads
        self.sizes = (types, charges, 3 if geometry else 0)
        self.up = HiddenLinear(channels, width)
        self.index = nn.Parameter(torch.empty(atoms, width))
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, qk_norm=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.atom = nn.Linear(width, sum(self.sizes))
        self.bond = BondHead(atoms, width)
        nn.init.normal_(self.index, std=0.5)

    def forward(self, latents: Tensor, registers: Registers) -> MoleculeLogits:
        """Latents (B, L, C) -> logits and positions."""
        count = latents.shape[1]
        mask = registers.mask if registers.padded else None
        table = rotary_table(torch.arange(count, device=latents.device), self.head_width, base=50.0, highest=2.5)
        x = self.up(latents) + self.index[:count]
        for block in self.blocks:
            x = block(x, table, mask)
        x = self.norm(x)
        types, charges, positions = self.atom(x).float().split(self.sizes, dim=-1)
        return MoleculeLogits(types, charges, positions if self.sizes[2] else None, self.bond(x))
