"""The graph tokenizer: one input token per register, that is per atom with the hydrogens that ride on it.

Dimensions: B batch, L atoms of the batch, K atoms of the layout, W width of the trunk.
"""

import torch
from torch import Tensor, nn

from unite_mm.contract import Tokens
from unite_mm.kit.layers import HiddenLinear
from unite_mm_molecule.data.batch import MoleculeBatch
from unite_mm_molecule.hydrogens import SLOTS

BOND_ORDERS = 3


class BondRow(nn.Module):
    """The bonds of each atom as a vector: a sum over its bonds of an embedding of (offset of the partner, order).

    Without this row bond orders would have to be inferred from distances.
    """

    def __init__(self, atoms: int, width: int) -> None:
        super().__init__()
        self.atoms = atoms
        self.table = nn.Parameter(torch.empty(2 * atoms - 1, BOND_ORDERS, width))
        nn.init.normal_(self.table, std=0.3)

    def forward(self, bonds: Tensor) -> Tensor:
        """Bond orders (B, L, L), 0 for none -> (B, L, W)."""
        count = bonds.shape[1]
        index = torch.arange(count, device=bonds.device)
        offset = index[None, :] - index[:, None] + self.atoms - 1  # (L, L)
        order = torch.arange(1, BOND_ORDERS + 1, device=bonds.device, dtype=bonds.dtype)
        present = (bonds[..., None] == order).to(self.table.dtype).flatten(2)  # (B, L, 3 L)
        rows = self.table[offset].flatten(1, 2)  # (L, 3 L, W)
        return torch.bmm(present.transpose(0, 1), rows).transpose(0, 1)


class HydrogenPlaces(nn.Module):
    """The hydrogens that ride on each atom as a vector: their number and their positions relative to the atom.

    The positions come in the order of `ordered_hydrogens`, so that the vector does not depend on that of the input, and
    what it says of a rotating group can be put out again one hydrogen after the other.
    """

    def __init__(self, width: int, geometry: bool, hidden: int = 128) -> None:
        super().__init__()
        self.number = nn.Embedding(SLOTS + 1, width)
        self.of_number = self.offsets = self.out = None
        if geometry:
            self.of_number = nn.Embedding(SLOTS + 1, hidden)
            self.offsets = nn.Linear(SLOTS * 3, hidden, bias=False)
            # As large as the embedding of the number; at the usual start, a fifth of it, they are learned late.
            nn.init.normal_(self.offsets.weight, std=0.8)
            self.out = HiddenLinear(hidden, width)

    def forward(self, counts: Tensor, offsets: Tensor) -> Tensor:
        """Counts (B, L) and scaled offsets (B, L, 4, 3) -> (B, L, W)."""
        values: Tensor = self.number(counts)
        if self.offsets is None or self.of_number is None or self.out is None:
            return values
        present = torch.arange(SLOTS, device=counts.device) < counts[..., None]
        with torch.autocast(offsets.device.type, enabled=False):
            places = self.offsets((offsets * present[..., None]).flatten(-2))
        carried: Tensor = self.out(nn.functional.silu(places + self.of_number(counts)))
        return values + carried


class HydrogenSum(nn.Module):
    """The same without an order: an embedding of their number, plus the sum over them of an MLP of their position.

    What it says of a rotating group cannot be undone continuously; see docs/experiments/order-of-hydrogens.md.
    """

    def __init__(self, width: int, geometry: bool, hidden: int = 64) -> None:
        super().__init__()
        self.number = nn.Embedding(SLOTS + 1, width)
        self.offset = None
        if geometry:
            self.offset = nn.Sequential(nn.Linear(3, hidden), nn.SiLU(), HiddenLinear(hidden, width))

    def forward(self, counts: Tensor, offsets: Tensor) -> Tensor:
        """Counts (B, L) and scaled offsets (B, L, 4, 3) -> (B, L, W)."""
        values: Tensor = self.number(counts)
        if self.offset is None:
            return values
        present = torch.arange(SLOTS, device=counts.device) < counts[..., None]
        carried: Tensor = (self.offset(offsets) * present[..., None]).sum(2)
        return values + carried


class GraphTokenizer(nn.Module):
    """Molecule -> one token per register, from type, formal charge, 3D position, bonds and attached hydrogens.

    Args:
        types: number of elements.
        charges: number of formal charges.
        atoms: K.
        width: W.
        geometry: whether positions are part of the input.
        hydrogens: the hydrogens that atoms carry as vectors; None: they carry none.
    """

    def __init__(
        self,
        types: int,
        charges: int,
        atoms: int,
        width: int,
        geometry: bool,
        hydrogens: HydrogenPlaces | HydrogenSum | None,
    ) -> None:
        super().__init__()
        self.element = nn.Embedding(types, width)
        self.charge = nn.Embedding(charges, width)
        self.index = nn.Parameter(torch.empty(atoms, width))
        self.bonds = BondRow(atoms, width)
        self.position = HiddenLinear(3, width) if geometry else None
        self.hydrogens = hydrogens
        nn.init.normal_(self.index, std=0.5)

    def forward(self, batch: MoleculeBatch) -> Tokens:
        """Tokens (B, L, W) at the rotary positions of their registers."""
        count = batch.types.shape[1]
        values = self.element(batch.types) + self.charge(batch.charges) + self.index[:count] + self.bonds(batch.bonds)
        if self.position is not None:
            with torch.autocast(batch.positions.device.type, enabled=False):  # positions enter and leave in float32
                values = values + self.position(batch.positions)
        if self.hydrogens is not None:
            assert batch.hydrogen_counts is not None and batch.hydrogen_offsets is not None
            values = values + self.hydrogens(batch.hydrogen_counts, batch.hydrogen_offsets)
        mask = batch.registers.mask if batch.registers.padded else None
        return Tokens(values, torch.arange(count, device=values.device), mask)
