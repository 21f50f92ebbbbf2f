"""One row of the package `qm9pack` as a molecule with bonds: its SMILES laid over its geometry. Needs RDKit.

The SMILES lists the heavy atoms in the order of the coordinates. Each hydrogen of the geometry belongs to its nearest
heavy atom; the SMILES says how many each must have.
"""

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.chemistry import canonical_smiles
from unite_mm_molecule.data.package import COLUMNS
from unite_mm_molecule.data.properties import number, plain_exponents
from unite_mm_molecule.data.refusals import (
    CHARGED,
    FRAGMENTS,
    IMPLAUSIBLE,
    LONG_BOND,
    NOT_FINITE,
    OTHER_ATOMS,
    OTHER_HYDROGENS,
    RADICAL,
    REFUSED,
    UNKNOWN_ELEMENT,
    UNREADABLE,
    Refused,
)
from unite_mm_molecule.files.records import UnknownElement
from unite_mm_molecule.files.smiles import parse_smiles
from unite_mm_molecule.molecule import ATOMIC_NUMBERS, MODELLED, SYMBOLS, Molecule
from unite_mm_molecule.properties import SOURCE_UNITS

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SHORTEST, LONGEST, LONGEST_TO_HYDROGEN = 0.6, 2.0, 1.4
"""Angstrom. QM9's molecules have bonds above 0.95, below 1.79 between heavy atoms and below 1.25 to hydrogen;
two have lost a bond: 2.2."""

_INDEX, _SMILES, _ELEMENTS, _XYZ = (COLUMNS.index(name) for name in ("Index", "SMILES", "Elements", "XYZ_Ang"))


@dataclass(frozen=True)
class Row:
    """A row as a molecule that passed every check.

    Attributes:
        molecule: the atoms in the order of the geometry, with the bonds and charges of the SMILES.
        smiles: its canonical SMILES.
        properties: (K,) in the order of `SOURCE_UNITS`.
    """

    molecule: Molecule
    smiles: str
    properties: tuple[float, ...]


def row_name(text: str) -> str:
    """The molecule's name in QM9's raw files, such as `gdb_21`."""
    return f"gdb_{text.split(',', 2)[_INDEX]}" if text.count(",") > 1 else ""


def read_row(text: str) -> Row:
    """The molecule of a row, its SMILES and its geometry checked against each other.

    Raises:
        Refused: they disagree, or one is not what it should be.
    """
    from rdkit import Chem

    cells = next(csv.reader([text]), [])
    if len(cells) != len(COLUMNS):
        raise Refused(UNREADABLE, f"{len(cells)} cells instead of {len(COLUMNS)}")
    numbers, positions = _geometry(cells)
    try:
        properties = tuple(map(number, cells[-len(SOURCE_UNITS) :]))
        heavy = _heavy_atoms(cells[_SMILES])
        if (fragments := len(Chem.GetMolFrags(heavy))) > 1:
            raise Refused(FRAGMENTS, f"{fragments} fragments")
        if charge := Chem.GetFormalCharge(heavy):
            raise Refused(CHARGED, f"{charge:+d}")
        return Row(_laid_over(heavy, numbers, positions), canonical_smiles(heavy, bare=True), properties)
    except UnknownElement as error:
        raise Refused(UNKNOWN_ELEMENT, error.element) from error
    except ValueError as error:  # of a number; BadRecord is one
        raise Refused(UNREADABLE, str(error)) from error


def _geometry(cells: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Atomic numbers (n,) and positions (n, 3)."""
    symbols = cells[_ELEMENTS].strip("[]").replace("'", "").split(",")
    numbers = [ATOMIC_NUMBERS.get(symbol.strip(), 0) for symbol in symbols]
    if 0 in numbers:
        raise Refused(UNREADABLE, f"{symbols[numbers.index(0)][:20]!r} is no element")
    if unknown := sorted(set(numbers).difference(MODELLED)):
        raise Refused(UNKNOWN_ELEMENT, ", ".join(SYMBOLS[number] for number in unknown))
    try:
        places = list(map(float, plain_exponents(cells[_XYZ].replace("[", "").replace("]", "")).split(",")))
    except ValueError as error:
        raise Refused(UNREADABLE, str(error)) from error
    if len(places) != 3 * len(numbers):
        raise Refused(UNREADABLE, f"{len(places)} coordinates for {len(numbers)} atoms")
    positions = np.array(places).reshape(-1, 3)
    if not np.isfinite(positions).all():
        raise Refused(NOT_FINITE, "coordinates")
    return np.array(numbers, dtype=np.int64), positions


def _heavy_atoms(smiles: str) -> "Mol":
    """RDKit's molecule of a SMILES, sanitized, without hydrogens that can be left out: those of H2 stay."""
    from rdkit import Chem

    mol = parse_smiles(smiles)
    try:
        Chem.SanitizeMol(mol)
        if "H" not in smiles:  # most say nothing of hydrogens
            return mol
        bare = Chem.RemoveAllHs(mol)
        return bare if bare.GetNumAtoms() else mol
    except (ValueError, RuntimeError) as error:
        raise Refused(REFUSED, str(error)) from error


def _laid_over(heavy: "Mol", numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> Molecule:
    """The atoms of a geometry with the bonds of a SMILES.

    Args:
        heavy: as `_heavy_atoms` gives it.
        numbers: (n,) atomic numbers.
        positions: (n, 3) in angstrom, finite.

    Raises:
        Refused: they are not the same molecule, or it is a radical.
    """
    # RDKit's sequence of atoms makes a new object at every look at one, so each is looked at once.
    atoms = [
        (atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetTotalNumHs(), atom.GetNumRadicalElectrons())
        for atom in map(heavy.GetAtomWithIdx, range(heavy.GetNumAtoms()))
    ]
    wanted, charge, hydrogens, radicals = np.array(atoms, dtype=np.int64).reshape(-1, 4).T
    if radicals.any():
        raise Refused(RADICAL, f"{radicals.sum()} unpaired electrons")
    # A molecule of hydrogens alone has its atoms in the SMILES.
    in_smiles = numbers != 1 if (wanted != 1).any() else np.ones(len(numbers), dtype=bool)
    place, others = np.flatnonzero(in_smiles), np.flatnonzero(~in_smiles)
    if not np.array_equal(numbers[place], wanted):
        raise Refused(OTHER_ATOMS, f"{_formula(wanted)} in the SMILES, {_formula(numbers[place])} in the geometry")
    between = positions[others, None] - positions[place]
    apart = np.sqrt((between * between).sum(axis=-1))  # (hydrogens, heavy atoms)
    nearest = apart.argmin(axis=1) if len(others) else np.empty(0, dtype=np.int64)
    found = np.bincount(nearest, minlength=len(place))
    if (found != hydrogens).any():
        atom = int(np.flatnonzero(found != hydrogens)[0])
        raise Refused(OTHER_HYDROGENS, f"{found[atom]} instead of {hydrogens[atom]} at atom {place[atom] + 1}")
    if len(others):
        _check_lengths(apart.min(axis=1), LONGEST_TO_HYDROGEN)
    ends = _kekulized_bonds(heavy)
    ends[:, :2] = place[ends[:, :2]]
    if len(ends):
        between = positions[ends[:, 0]] - positions[ends[:, 1]]
        _check_lengths(np.sqrt((between * between).sum(axis=-1)), LONGEST)
    bonds = np.concatenate([ends, np.column_stack([place[nearest], others, np.ones_like(others)])])
    bonds[:, :2].sort(axis=1)
    charges = np.zeros_like(numbers)
    charges[place] = charge
    order = np.argsort(bonds[:, 0] * len(numbers) + bonds[:, 1])
    return Molecule(numbers, charges, bonds[order], positions)


def _check_lengths(lengths: NDArray[np.float64], longest: float) -> None:
    shortest, found = float(lengths.min()), float(lengths.max())
    if found > longest:
        raise Refused(LONG_BOND, f"{found:.2f} A")
    if shortest < SHORTEST:
        raise Refused(IMPLAUSIBLE, f"bonded atoms {shortest:.2f} A apart")


def _kekulized_bonds(mol: "Mol") -> NDArray[np.int64]:
    """(m, 3) begin, end, order."""
    from rdkit import Chem

    if any(bond.GetIsAromatic() for bond in map(mol.GetBondWithIdx, range(mol.GetNumBonds()))):
        mol = Chem.Mol(mol)
        Chem.Kekulize(mol, clearAromaticFlags=True)
    bonds = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondTypeAsDouble()))
        for bond in map(mol.GetBondWithIdx, range(mol.GetNumBonds()))
    ]
    return np.array(bonds, dtype=np.int64).reshape(-1, 3)


def _formula(numbers: NDArray[np.int64]) -> str:
    return "".join(SYMBOLS[atom] for atom in numbers.tolist()) or "none"
