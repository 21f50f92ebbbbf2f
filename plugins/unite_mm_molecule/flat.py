"""Many molecules as a few whole arrays: what the cache holds and what batches are cut from. NumPy only.

Dimensions: N molecules, A atoms of all molecules, M bonds of all molecules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.kit.arrays import ArraySpec
from unite_mm_molecule.molecule import Molecule, hydrogen_parents

MOST = 1_000_000
"""Atoms, or bonds, of the largest molecule of an array file."""

Integers = NDArray[np.int64]
Positions = NDArray[np.float32]

ARRAYS: dict[str, ArraySpec] = {
    "atoms": ArraySpec(np.integer, (("N",),), least=0, most=MOST),
    "bonds": ArraySpec(np.integer, (("N",),), least=0, most=MOST),
    "numbers": ArraySpec(np.integer, (("A",),)),
    "charges": ArraySpec(np.integer, (("A",),)),
    "positions": ArraySpec(np.floating, (("A", 3),)),
    "begin": ArraySpec(np.integer, (("M",),)),
    "end": ArraySpec(np.integer, (("M",),)),
    "orders": ArraySpec(np.integer, (("M",),)),
    "names": ArraySpec(np.uint8),
}
"""What `FlatMolecules.to_arrays` saves."""


@dataclass(frozen=True)
class FlatMolecules:
    """N molecules with explicit hydrogens, one after the other.

    Attributes:
        atoms: (N,) atoms of each molecule.
        bonds: (N,) bonds of each molecule.
        numbers: (A,) atomic numbers.
        charges: (A,) formal charges.
        positions: (A, 3) in angstrom; nan where a molecule has no geometry, inf for one that is not a number.
        begin: (M,) first atom of each bond, counted within its molecule; begin < end.
        end: (M,) second atom of each bond.
        orders: (M,) 1, 2 or 3: kekulized.
        names: (N,) identifiers in the source.
    """

    atoms: NDArray[np.int32]
    bonds: NDArray[np.int32]
    numbers: NDArray[np.uint8]
    charges: NDArray[np.int8]
    positions: NDArray[np.float32]
    begin: NDArray[np.int32]
    end: NDArray[np.int32]
    orders: NDArray[np.uint8]
    names: tuple[str, ...]

    def __len__(self) -> int:
        """N, the number of molecules."""
        return len(self.atoms)

    @cached_property
    def atom_start(self) -> Integers:
        """(N + 1,) where the atoms of each molecule start."""
        return _starts(self.atoms)

    @cached_property
    def bond_start(self) -> Integers:
        """(N + 1,) where the bonds of each molecule start."""
        return _starts(self.bonds)

    @cached_property
    def atom_owner(self) -> Integers:
        """(A,) the molecule of each atom."""
        return np.repeat(np.arange(len(self)), self.atoms)

    def centred_positions(self) -> Positions:
        """Positions (A, 3) with the mean of each molecule's atoms at the origin; every molecule must have an atom."""
        sums = np.add.reduceat(self.positions, self.atom_start[:-1], axis=0)
        means = (sums / self.atoms[:, None]).astype(np.float32)
        return np.asarray(self.positions - np.repeat(means, self.atoms, axis=0))

    def molecule(self, index: int, explicit_hydrogens: bool = True, geometry: bool = True) -> Molecule:
        """One molecule as a record of its own.

        Args:
            index: which.
            explicit_hydrogens: as in `Molecule`.
            geometry: whether to give it its positions, if it has any.
        """
        atoms = slice(self.atom_start[index], self.atom_start[index + 1])
        bonds = slice(self.bond_start[index], self.bond_start[index + 1])
        positions = self.positions[atoms].astype(np.float64)
        given = geometry and not (positions.size and np.isnan(positions).all())
        return Molecule(
            numbers=self.numbers[atoms].astype(np.int64),
            charges=self.charges[atoms].astype(np.int64),
            bonds=np.stack([self.begin[bonds], self.end[bonds], self.orders[bonds]], axis=1).astype(np.int64),
            positions=positions if given else None,
            explicit_hydrogens=explicit_hydrogens,
            name=self.names[index],
        )

    def part(self, first: int, last: int) -> "FlatMolecules":
        """Molecules `first` to `last` (excluded)."""
        atoms = slice(self.atom_start[first], self.atom_start[last])
        bonds = slice(self.bond_start[first], self.bond_start[last])
        return FlatMolecules(
            atoms=self.atoms[first:last],
            bonds=self.bonds[first:last],
            numbers=self.numbers[atoms],
            charges=self.charges[atoms],
            positions=self.positions[atoms],
            begin=self.begin[bonds],
            end=self.end[bonds],
            orders=self.orders[bonds],
            names=self.names[first:last],
        )

    def select(self, keep: NDArray[np.bool_]) -> "FlatMolecules":
        """The molecules where `keep` (N,) is True."""
        return self._select(np.repeat(keep, self.atoms), np.repeat(keep, self.bonds), keep)

    def _select(
        self, atoms: NDArray[np.bool_], bonds: NDArray[np.bool_], molecules: NDArray[np.bool_]
    ) -> "FlatMolecules":
        return FlatMolecules(
            atoms=self.atoms[molecules],
            bonds=self.bonds[molecules],
            numbers=self.numbers[atoms],
            charges=self.charges[atoms],
            positions=self.positions[atoms],
            begin=self.begin[bonds],
            end=self.end[bonds],
            orders=self.orders[bonds],
            names=tuple(name for name, keep in zip(self.names, molecules.tolist(), strict=True) if keep),
        )

    def parents(self) -> tuple[Integers, NDArray[np.bool_]]:
        """(A,) `hydrogen_parents` as indices into all atoms, and whether each atom is such a hydrogen."""
        offset = np.repeat(self.atom_start[:-1], self.bonds)
        parents = hydrogen_parents(self.numbers, self.charges, self.begin + offset, self.end + offset, self.orders)
        return parents, parents != np.arange(len(parents))

    def grouped(self) -> "FlatMolecules":
        """The same molecules, each heavy atom followed by its hydrogens; otherwise the order stays."""
        parents, hydrogen = self.parents()
        sizes = np.bincount(parents, minlength=len(parents))  # each atom and its hydrogens; 0 for these themselves
        rank: Integers = np.cumsum(sizes) - sizes
        riders, slots = ordered_by_owner(parents, hydrogen)
        rank[riders] = rank[parents[riders]] + 1 + slots
        order = np.empty_like(rank)
        order[rank] = np.arange(len(rank))
        offset = np.repeat(self.atom_start[:-1], self.bonds)
        one, other = rank[self.begin + offset] - offset, rank[self.end + offset] - offset
        return replace(
            self,
            numbers=self.numbers[order],
            charges=self.charges[order],
            positions=self.positions[order],
            begin=np.minimum(one, other).astype(np.int32),
            end=np.maximum(one, other).astype(np.int32),
        )

    def order_sums(self) -> Integers:
        """(A,) sum of the orders of the bonds of each atom."""
        offset = np.repeat(self.atom_start[:-1], self.bonds)
        joined = np.concatenate([self.begin + offset, self.end + offset])
        return np.bincount(joined, np.tile(self.orders, 2), len(self.numbers)).astype(np.int64)

    def without_hydrogens(self) -> "FlatMolecules":
        """The same molecules without the hydrogens of heavy atoms (see `hydrogen_parents`), in the same order."""
        return self.without_atoms(self.parents()[1])

    def without_atoms(self, gone: NDArray[np.bool_]) -> "FlatMolecules":
        """The same molecules without some of their atoms (A,), and without the bonds of these."""
        offset = np.repeat(self.atom_start[:-1], self.bonds)
        keep_bond = ~(gone[self.begin + offset] | gone[self.end + offset])
        kept = self._select(~gone, keep_bond, np.ones(len(self), dtype=bool))
        before: Integers = np.cumsum(gone) - gone  # atoms dropped before each atom, over all molecules
        lost: Integers = before - np.repeat(before[np.minimum(self.atom_start[:-1], len(before) - 1)], self.atoms)
        atoms = np.bincount(self.atom_owner[~gone], minlength=len(self)).astype(np.int32)
        owner = np.repeat(np.arange(len(self)), self.bonds)
        return replace(
            kept,
            atoms=atoms,
            bonds=np.bincount(owner[keep_bond], minlength=len(self)).astype(np.int32),
            begin=(self.begin - lost[self.begin + offset])[keep_bond].astype(np.int32),
            end=(self.end - lost[self.end + offset])[keep_bond].astype(np.int32),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for saving; names as one run of UTF-8 bytes separated by line ends."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "names"}
        return arrays | {"names": pack_lines(self.names)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "FlatMolecules":
        """The inverse of `to_arrays`.

        Args:
            arrays: as `ARRAYS` specifies.

        Raises:
            ValueError: they do not belong together.
        """
        plain = {name: arrays[name] for name in ARRAYS if name != "names"}
        molecules = cls(**plain, names=unpack_lines(arrays["names"]))
        molecules.check()
        return molecules

    def check(self) -> None:
        """Check that the arrays are as long as they must be.

        Raises:
            ValueError: they do not belong together.
        """
        atoms = {len(self.numbers), len(self.charges), len(self.positions), int(self.atoms.sum())}
        bonds = {len(self.begin), len(self.end), len(self.orders), int(self.bonds.sum())}
        if not len(atoms) == len(bonds) == len({len(self.atoms), len(self.bonds), len(self.names)}) == 1:
            raise ValueError("its arrays do not belong together")

    @classmethod
    def from_molecules(cls, molecules: Sequence[Molecule]) -> "FlatMolecules":
        """From single records; all hydrogens they have are kept."""
        bonds = np.concatenate([m.bonds.reshape(-1, 3) for m in molecules] or [np.empty((0, 3), dtype=np.int64)])
        positions = [np.full((m.size, 3), np.nan) if m.positions is None else _numbers(m.positions) for m in molecules]
        return cls(
            atoms=np.array([m.size for m in molecules], dtype=np.int32),
            bonds=np.array([len(m.bonds) for m in molecules], dtype=np.int32),
            numbers=_join([m.numbers for m in molecules], np.uint8),
            charges=_join([m.charges for m in molecules], np.int8),
            positions=_join(positions, np.float32).reshape(-1, 3),
            begin=bonds[:, 0].astype(np.int32),
            end=bonds[:, 1].astype(np.int32),
            orders=bonds[:, 2].astype(np.uint8),
            names=tuple(m.name for m in molecules),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["FlatMolecules"]) -> "FlatMolecules":
        """Several sets as one, in order; no parts give an empty set."""
        parts = [*parts, cls.from_molecules([])]
        joined = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name != "names"
        }
        return cls(**joined, names=tuple(name for part in parts for name in part.names))


def ordered_by_owner(owners: Integers, chosen: NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """The chosen of A atoms by their owners, otherwise in their order, and the place of each among those of its owner.

    Sorting only these, which nearly are sorted, is several times faster than sorting all atoms.
    """
    atoms = np.flatnonzero(chosen)
    atoms = atoms[np.argsort(owners[atoms], kind="stable")]
    first = np.flatnonzero(np.diff(owners[atoms], prepend=-1))
    starts = np.repeat(first, np.diff(first, append=len(atoms)))
    return atoms, np.arange(len(atoms)) - starts


def pack_lines(lines: Sequence[str]) -> NDArray[np.uint8]:
    """Strings as bytes, each ended by a line end; line ends within become spaces."""
    text = "".join(line.replace("\n", " ") + "\n" for line in lines)
    return np.frombuffer(text.encode(), dtype=np.uint8)


def unpack_lines(data: NDArray[np.uint8]) -> tuple[str, ...]:
    """The inverse of `pack_lines`."""
    return tuple(np.asarray(data, dtype=np.uint8).tobytes().decode().split("\n")[:-1])


def _starts(counts: NDArray[np.int32]) -> Integers:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])


def _numbers(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The positions with infinity for nan, which stands for no geometry."""
    return np.where(np.isnan(positions), np.inf, positions) if np.isnan(positions).any() else positions


def _join(parts: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # coordinates beyond float32 become infinite
        return np.concatenate([*parts, np.empty((0, *parts[0].shape[1:]) if parts else (0,), dtype=kind)]).astype(kind)
