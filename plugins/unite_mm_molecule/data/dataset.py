"""Prepared molecules as tensors: batches cut from whole arrays, random rotations, facts of the training split.

Needs no RDKit. Dimensions: B batch, L atoms of the longest molecule of a batch; N molecules with A atoms in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unite_mm.contract import SPLITS, DataRequest, ModalityData, Registers, Statistics
from unite_mm.errors import UsageError
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.flat import FlatMolecules
from unite_mm_molecule.data.prepare import Prepared, open_prepared
from unite_mm_molecule.molecule import SYMBOLS, Molecule

Positions = NDArray[np.float32]


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
        condition: (B, M) float, the counts of each whole molecule that the denoiser is told; None where not wanted.
    """

    types: Tensor
    charges: Tensor
    positions: Tensor
    bonds: Tensor
    registers: Registers
    condition: Tensor | None = None

    def to(self, device: torch.device) -> "MoleculeBatch":
        """A copy on `device`."""
        return MoleculeBatch(
            types=self.types.to(device, non_blocking=True),
            charges=self.charges.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            bonds=self.bonds.to(device, non_blocking=True),
            registers=self.registers.to(device),
            condition=None if self.condition is None else self.condition.to(device, non_blocking=True),
        )


class MoleculeTensors:
    """N molecules as whole tensors, in the terms of a model: class indices and scaled, centred positions.

    Args:
        molecules: the molecules, with the hydrogens and the order of atoms that the model sees.
        statistics: elements, charges and scale; every element and charge of the molecules must be among them.
        positions: (A, 3) as `centred` gives them; None for plain graphs.
        composition: (N, M) counts to be told to the denoiser; None or M = 0: it is told nothing.
    """

    def __init__(
        self,
        molecules: FlatMolecules,
        statistics: Statistics,
        positions: Positions | None,
        composition: NDArray[np.int64] | None = None,
    ) -> None:
        told = composition is not None and composition.shape[1] > 0
        self._composition = torch.from_numpy(composition).float() if told else None
        self.atoms = torch.from_numpy(molecules.atoms.astype(np.int64))
        self.bonds = torch.from_numpy(molecules.bonds.astype(np.int64))
        self._atom_start = torch.from_numpy(molecules.atom_start[:-1].copy())
        self._bond_start = torch.from_numpy(molecules.bond_start[:-1].copy())
        self._types = _class_index(molecules.numbers, statistics["elements"])
        self._charges = _class_index(molecules.charges, statistics["charges"])
        self._begin, self._end = torch.from_numpy(molecules.begin), torch.from_numpy(molecules.end)
        self._orders = torch.from_numpy(molecules.orders)
        self._geometry = positions is not None
        scaled = np.zeros_like(molecules.positions) if positions is None else positions / statistics["position_scale"]
        self._positions = torch.from_numpy(scaled.astype(np.float32))

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
        if generator is not None and self._geometry:
            rotations = random_rotations(size, generator)
            shifts = torch.randn(size, 1, 3, generator=generator) * translation
            positions = positions @ rotations.transpose(1, 2) + shifts
        return MoleculeBatch(
            types=self._types[place].long() * mask,
            charges=self._charges[place].long() * mask,
            positions=positions * mask[..., None],
            bonds=bonds,
            registers=registers,
            condition=None if self._composition is None else self._composition[chosen],
        )


class MoleculeData(ModalityData):
    """A prepared set of molecules, seen as a configuration says: hydrogens, order of atoms, geometry.

    Args:
        prepared: the molecules.
        config: how to see them.

    Attributes:
        statistics: what `measure` found; JSON-able.

    Raises:
        UsageError: no training molecule is left.
    """

    def __init__(self, prepared: Prepared, config: MoleculeConfig) -> None:
        if config.geometry:
            lost = np.isnan(prepared.molecules.positions).any(axis=1)
            without = np.bincount(_owner(prepared.molecules.atoms)[lost], minlength=len(prepared.molecules)) > 0
            prepared = prepared.without("has no 3D geometry", without, ["no coordinates"] * len(without))
        seen = arranged(prepared.molecules, config)
        if config.max_atoms is not None:
            large = seen.atoms > config.max_atoms
            reason = f"more than max_atoms={config.max_atoms} atoms"
            prepared = prepared.without(reason, large, [f"{count} atoms" for count in seen.atoms.tolist()])
            seen = seen.select(~large)
        if not prepared.card.splits["train"]:
            largest = prepared.card.excluded[-1].reason if prepared.card.excluded else "the source is empty"
            raise UsageError(f"{prepared.card.name}: no molecule is left for training ({largest})")
        self.card = prepared.card
        self.config = config
        self._smiles = prepared.smiles
        self._molecules = seen
        self._rows = {name: torch.from_numpy(np.flatnonzero(prepared.splits == i)) for i, name in enumerate(SPLITS)}
        positions = centred(seen) if config.geometry else None
        composition = count_composition(prepared.molecules, config)
        self.statistics: dict[str, Any] = measure(prepared, seen, positions, composition, config)
        self._tensors = MoleculeTensors(seen, self.statistics, positions, composition.counts)

    def size(self, split: str) -> int:
        return len(self._rows[split])

    def lengths(self, split: str) -> Tensor:
        """(N,) atoms of each molecule."""
        return self._tensors.atoms[self._rows[split]]

    def batch(self, split: str, indices: Tensor, generator: torch.Generator | None = None) -> MoleculeBatch:
        return self._tensors.batch(self._rows[split][indices], generator, self.config.translation)

    def samples(self, split: str, indices: Tensor) -> list[Molecule]:
        explicit, geometry = self.config.hydrogens == "explicit", self.config.geometry
        rows = self._rows[split][indices].tolist()
        return [self._molecules.molecule(row, explicit, geometry) for row in rows]

    def smiles(self, split: str) -> list[str]:
        """Canonical SMILES of the molecules of a split, in order: two molecules are the same if theirs are equal."""
        return [self._smiles[row] for row in self._rows[split].tolist()]


def open_data(request: DataRequest, config: MoleculeConfig) -> MoleculeData:
    """Prepare a source, or find it prepared, and open it.

    Raises:
        UsageError: the source does not exist, cannot be read, or holds no usable molecule.
        UniteError: QM9 cannot be downloaded, or the cache cannot be written.
    """
    return MoleculeData(open_prepared(request, config), config)


def arranged(molecules: FlatMolecules, config: MoleculeConfig) -> FlatMolecules:
    """The molecules with the hydrogens and the order of atoms that a model of this configuration sees."""
    if config.hydrogens == "implicit":
        return molecules.without_hydrogens()
    return molecules.grouped() if config.atom_order == "grouped" else molecules


def measure(
    prepared: Prepared,
    seen: FlatMolecules,
    positions: Positions | None,
    composition: "Composition",
    config: MoleculeConfig,
) -> dict[str, Any]:
    """What the model must know of the data; goes into every checkpoint.

    Args:
        prepared: the molecules with all hydrogens.
        seen: the same molecules as the model sees them.
        positions: their positions as `centred` gives them; None for plain graphs.
        composition: what the denoiser is told of each molecule.
        config: the configuration.

    Returns:
        `elements` (atomic numbers), `charges` (formal charges) and `max_atoms` cover all splits, so that the held-out
        molecules fit the layout. The rest is of the training split: `molecules`; `position_scale`, the standard
        deviation in angstrom of the centred coordinates (1 without geometry); `composition_names`, what is counted;
        `composition`, rows of [atoms the model sees, a count for each name, molecules].
    """
    train = prepared.splits == SPLITS.index("train")
    atoms = seen.atoms[train]
    scale = 1.0
    if positions is not None:
        scale = float(np.sqrt(np.square(positions[np.repeat(train, seen.atoms)]).mean(dtype=np.float64)))
    return {
        "elements": np.flatnonzero(np.bincount(seen.numbers)).tolist(),
        "charges": (np.flatnonzero(np.bincount(seen.charges.astype(np.int64) + 128)) - 128).tolist(),
        "max_atoms": config.max_atoms or int(seen.atoms.max()),
        "molecules": int(train.sum()),
        "position_scale": scale or 1.0,  # a set of single atoms has no extent
        "composition_names": list(composition.names),
        "composition": _histogram(np.column_stack([atoms, composition.counts[train]])),
    }


@dataclass(frozen=True)
class Composition:
    """What the denoiser is told of N molecules.

    Attributes:
        names: of the M counts.
        counts: (N, M) int64.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]


def count_composition(molecules: FlatMolecules, config: MoleculeConfig) -> Composition:
    """Count what the configuration wants told: heavy atoms and hydrogens, or the atoms of every element, or nothing.

    Args:
        molecules: N molecules with all their hydrogens.
        config: its `condition` decides.
    """
    owner = _owner(molecules.atoms)

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(owner[chosen], minlength=len(molecules)).astype(np.int64)

    hydrogen = molecules.numbers == 1
    wanted: dict[str, NDArray[np.int64]] = {}
    if config.condition == "counts":
        wanted = {"heavy atoms": count(~hydrogen), "hydrogens": count(hydrogen)}
    elif config.condition == "formula":
        for number in np.flatnonzero(np.bincount(molecules.numbers)).tolist():
            wanted[SYMBOLS.get(number, str(number))] = count(molecules.numbers == number)
    counts = np.stack(list(wanted.values()), axis=1) if wanted else np.empty((len(molecules), 0), dtype=np.int64)
    return Composition(tuple(wanted), counts)


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """Uniformly distributed rotation matrices (count, 3, 3), from normalised Gaussian quaternions."""
    w, x, y, z = torch.nn.functional.normalize(torch.randn(4, count, generator=generator), dim=0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(count, 3, 3)


def centred(molecules: FlatMolecules) -> Positions:
    """Positions (A, 3) with the mean of each molecule's atoms at the origin; every molecule has an atom."""
    sums = np.add.reduceat(molecules.positions, molecules.atom_start[:-1], axis=0)
    means = (sums / molecules.atoms[:, None]).astype(np.float32)
    return np.asarray(molecules.positions - np.repeat(means, molecules.atoms, axis=0))


def _owner(counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """(A,) the molecule of each atom."""
    return np.repeat(np.arange(len(counts)), counts)


def _histogram(rows: NDArray[Any]) -> list[list[int]]:
    """Distinct rows, each followed by how often it occurs."""
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    return [[*row, count] for row, count in zip(distinct.tolist(), counts.tolist(), strict=True)]


def _class_index(values: NDArray[Any], classes: Sequence[int]) -> Tensor:
    """Index of each value among the sorted classes, (A,) uint8."""
    return torch.from_numpy(np.searchsorted(np.asarray(classes), values).astype(np.uint8))
