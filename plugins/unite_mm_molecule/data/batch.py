"""Molecules in the terms of a model: batches cut from whole tensors, rotated and shifted at random.

Needs no RDKit. Dimensions: B batch, L atoms of the longest molecule of a batch, M numbers of the condition; N molecules
with A atoms in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unite_mm.contract import Registers, Statistics
from unite_mm_molecule.data.view import MoleculeView
from unite_mm_molecule.flat import Positions
from unite_mm_molecule.hydrogens import SLOTS, AttachedHydrogens


@dataclass(frozen=True)
class MoleculeBatch:
    """A batch of molecules. Entries of atoms that a molecule does not have are 0.

    Attributes:
        types: (B, L) int64, index into the statistics' `elements`.
        charges: (B, L) int64, index into the statistics' `charges`.
        positions: (B, L, 3) float32 in units of the statistics' `position_scale`; centred, then perhaps rotated and
            shifted; 0 for plain graphs.
        bonds: (B, L, L) int64, symmetric: 0 none, 1 single, 2 double, 3 triple.
        registers: one per atom.
        condition: (B, M) float, the counts and properties of each whole molecule that the denoiser is conditioned on,
            nan for a property that is not known; or None.
        hydrogen_counts: (B, L) int64, hydrogens that ride on each atom; None where no hydrogens do.
        hydrogen_offsets: (B, L, 4, 3) float32, their positions relative to the atom, scaled and rotated like
            `positions`, the first `hydrogen_counts` of each; else 0.
    """

    types: Tensor
    charges: Tensor
    positions: Tensor
    bonds: Tensor
    registers: Registers
    condition: Tensor | None = None
    hydrogen_counts: Tensor | None = None
    hydrogen_offsets: Tensor | None = None

    def to(self, device: torch.device) -> "MoleculeBatch":
        """A copy on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device, non_blocking=True) for name, value in values.items() if torch.is_tensor(value)}
        return replace(self, registers=self.registers.to(device), **moved)


class MoleculeTensors:
    """N molecules as whole tensors, in the terms of a model: class indices and scaled, centred positions.

    Args:
        view: the molecules as the model sees them.
        statistics: elements, charges and scale; every element and charge of the registers must be among them.
        positions: (A, 3) of the registers as `centred_positions` gives them; None for plain graphs.
        condition: (N, M) counts and properties that the denoiser is conditioned on; None or M = 0: it is not
            conditioned.
    """

    def __init__(
        self,
        view: MoleculeView,
        statistics: Statistics,
        positions: Positions | None,
        condition: NDArray[np.float32] | None = None,
    ) -> None:
        molecules = view.registers
        conditioned = condition is not None and condition.shape[1] > 0
        self._condition = torch.from_numpy(condition) if conditioned else None
        self.atoms = torch.from_numpy(molecules.atoms.astype(np.int64))
        self.bonds = torch.from_numpy(molecules.bonds.astype(np.int64))
        self._atom_start = torch.from_numpy(molecules.atom_start[:-1].copy())
        self._bond_start = torch.from_numpy(molecules.bond_start[:-1].copy())
        self._types = _class_index(molecules.numbers, statistics["elements"])
        self._charges = _class_index(molecules.charges, statistics["charges"])
        self._begin, self._end = torch.from_numpy(molecules.begin), torch.from_numpy(molecules.end)
        self._orders = torch.from_numpy(molecules.orders)
        self._geometry = positions is not None
        scale = statistics["position_scale"]
        scaled = np.zeros_like(molecules.positions) if positions is None else positions / scale
        self._positions = torch.from_numpy(scaled.astype(np.float32))
        self._hydrogens = None if view.hydrogens is None else _hydrogen_tensors(view.hydrogens, scale, self._geometry)

    def batch(self, chosen: Tensor, generator: torch.Generator | None, translation: float = 0.0) -> MoleculeBatch:
        """The batch of the chosen molecules (B,), in that order.

        Args:
            chosen: indices, int64.
            generator: rotate each molecule at random (uniformly) and shift it; None: leave it as it is.
            translation: standard deviation of the shift, in scaled units.
        """
        atoms = self.atoms[chosen]
        registers = Registers.from_counts(atoms)
        mask = registers.mask  # (B, L)
        size, longest = mask.shape
        place = (self._atom_start[chosen, None] + torch.arange(longest)) * mask  # unused entries point at atom 0
        counts = self.bonds[chosen]
        row = torch.repeat_interleave(torch.arange(size), counts)
        first = self._bond_start[chosen] - (counts.cumsum(0) - counts)
        bond = torch.arange(len(row)) + first[row]
        begin, end, orders = self._begin[bond].long(), self._end[bond].long(), self._orders[bond].long()
        bonds = torch.zeros(size, longest, longest, dtype=torch.int64)
        bonds[row, begin, end] = orders
        bonds[row, end, begin] = orders
        positions = self._positions[place]
        carried, offsets = (None, None) if self._hydrogens is None else (part[place] for part in self._hydrogens)
        if generator is not None and self._geometry:
            rotations = random_rotations(size, generator).transpose(1, 2)
            shifts = torch.randn(size, 1, 3, generator=generator) * translation
            positions = positions @ rotations + shifts
            offsets = None if offsets is None else (offsets.flatten(1, 2) @ rotations).view(size, longest, SLOTS, 3)
        return MoleculeBatch(
            types=self._types[place].long() * mask,
            charges=self._charges[place].long() * mask,
            positions=positions * mask[..., None],
            bonds=bonds,
            registers=registers,
            condition=None if self._condition is None else self._condition[chosen],
            hydrogen_counts=None if carried is None else carried.long() * mask,
            hydrogen_offsets=None if offsets is None else offsets * mask[..., None, None],
        )


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """Uniformly distributed rotation matrices (count, 3, 3), from normalised Gaussian quaternions."""
    w, x, y, z = torch.nn.functional.normalize(torch.randn(4, count, generator=generator), dim=0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(count, 3, 3)


def _hydrogen_tensors(hydrogens: AttachedHydrogens, scale: float, geometry: bool) -> tuple[Tensor, Tensor]:
    """Counts (A,) and scaled offsets (A, 4, 3), which are 0 for plain graphs."""
    offsets = hydrogens.offsets / scale if geometry else np.zeros_like(hydrogens.offsets)
    return torch.from_numpy(hydrogens.counts), torch.from_numpy(offsets.astype(np.float32))


def _class_index(values: NDArray[Any], classes: Sequence[int]) -> Tensor:
    """Index of each value among the sorted classes, (A,) uint8."""
    return torch.from_numpy(np.searchsorted(np.asarray(classes), values).astype(np.uint8))
