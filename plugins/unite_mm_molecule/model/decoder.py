"""The molecule decoder: latents -> types, charges, symmetric bond orders, positions of atoms and their hydrogens.

Dimensions: B batch, L atoms of the batch, K atoms of the layout, C latent channels, W width of the decoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unite_mm.contract import Registers
from unite_mm.kit.layers import DecoderBlock, HiddenLinear, rotary_table
from unite_mm_molecule.hydrogens import ORDER_SUMS, SLOTS
from unite_mm_molecule.model.refinement import BOND_CLASSES, Refinement


@dataclass(frozen=True)
class MoleculeLogits:
    """Decoder output.

    Attributes:
        types: (B, L, number of elements) logits.
        charges: (B, L, number of charges) logits.
        positions: (B, L, 3) in scaled units; None for plain graphs.
        bonds: (B, 4, L, L) logits, symmetric in the atoms.
        hydrogen_counts: (B, L) int64, hydrogens that ride on each atom, as follows from the others; None: none do.
        hydrogen_offsets: (B, L, 4, 3) their positions relative to the atom in scaled units, the first
            `hydrogen_counts` of each; None: none ride, or plain graphs.
        unrefined: positions and offsets as they were before refinement; None: they are not refined.
    """

    types: Tensor
    charges: Tensor
    positions: Tensor | None
    bonds: Tensor
    hydrogen_counts: Tensor | None = None
    hydrogen_offsets: Tensor | None = None
    unrefined: tuple[Tensor, Tensor | None] | None = None


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


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of a molecule decoder.

    Attributes:
        types: number of elements.
        charges: number of formal charges.
        atoms: K.
        channels: C.
        width: W.
        depth: blocks.
        heads: attention heads.
        geometry: whether positions are decoded.
        rounds: rounds of refinement of the positions; 0: none.
        messages: width of the messages of the refinement.
    """

    types: int
    charges: int
    atoms: int
    channels: int
    width: int
    depth: int
    heads: int
    geometry: bool
    rounds: int = 0
    messages: int = 64


class MoleculeDecoder(nn.Module):
    """Transformer over the latents with heads for types, charges, bonds, positions, and those of attached hydrogens.

    Args:
        sizes: see `DecoderSizes`.
        hydrogens: (types, charges, 16) hydrogens that ride on an atom by its element, charge and sum of bond orders,
            see `count_table`; None: none ride.
    """

    hydrogens: Tensor | None

    def __init__(self, sizes: DecoderSizes, hydrogens: Tensor | None = None) -> None:
        super().__init__()
        width = sizes.width
        self.head_width = width // sizes.heads
        spatial = 3 if sizes.geometry else 0
        self.sizes = (sizes.types, sizes.charges, spatial, spatial * SLOTS if hydrogens is not None else 0)
        self.up = HiddenLinear(sizes.channels, width)
        self.index = nn.Parameter(torch.empty(sizes.atoms, width))
        self.blocks = nn.ModuleList(DecoderBlock(width, sizes.heads, qk_norm=True) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(width)
        self.atom = nn.Linear(width, sum(self.sizes))
        self.bond = BondHead(sizes.atoms, width)
        self.register_buffer("hydrogens", hydrogens, persistent=False)
        self.refinement = None
        if sizes.geometry and sizes.rounds:
            self.refinement = Refinement(width, sizes.messages, sizes.rounds, hydrogens is not None)
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
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 tells 2.00 from 2.02 angstrom and no nearer
            heads = self.atom(x.float())
        types, charges, positions, offsets = heads.split(self.sizes, dim=-1)
        bonds = self.bond(x)
        carried = None
        if self.hydrogens is not None:
            carried = decoded_hydrogens(self.hydrogens, types, charges, bonds, registers.mask)
        offsets = offsets.unflatten(-1, (SLOTS, 3)) if self.sizes[3] else None
        unrefined = None
        if self.refinement is not None:
            unrefined = (positions, offsets)
            positions, offsets = self.refinement(x, positions, offsets, bonds, carried, registers.mask)
        positions = positions if self.sizes[2] else None
        return MoleculeLogits(types, charges, positions, bonds, carried, offsets, unrefined)


def decoded_hydrogens(table: Tensor, types: Tensor, charges: Tensor, bonds: Tensor, mask: Tensor) -> Tensor:
    """Hydrogens (B, L) that the likeliest elements, charges and bonds leave room for.

    Args:
        table: (types, charges, 16), see `count_table`.
        types: (B, L, types) logits.
        charges: (B, L, charges) logits.
        bonds: (B, 4, L, L) logits.
        mask: (B, L) bool, registers in use.
    """
    orders = (bonds.argmax(1) * (mask[:, :, None] & mask[:, None, :])).triu(1)
    sums = (orders.sum(1) + orders.sum(2)).clamp(max=ORDER_SUMS - 1)
    return table[types.argmax(-1), charges.argmax(-1), sums] * mask
