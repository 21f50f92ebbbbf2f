"""Bonds from types and coordinates alone, by the conventions other papers score with: EDM's table and ADiT's OpenBabel.

Both ignore the bonds and charges a model predicts, and both are looser than strict validity: RDKit adds hydrogens.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.molecule import ATOMIC_NUMBERS, Molecule, bond_order_sums

# Bond lengths in picometres with the margins and valences of EDM (Hoogeboom et al. 2022, arXiv 2203.17003, appendix E),
# whose sources are wiredchemist.com (bond energies and lengths) and chemistry-reference.com.
_SINGLE = {
    "H": {"H": 74, "C": 109, "N": 101, "O": 96, "F": 92, "B": 119, "Si": 148, "P": 144, "S": 134, "Cl": 127, "Br": 141,
          "I": 161},
    "C": {"C": 154, "N": 147, "O": 143, "F": 135, "Si": 185, "P": 184, "S": 182, "Cl": 177, "Br": 194, "I": 214},
    "N": {"N": 145, "O": 140, "F": 136, "P": 177, "S": 168, "Cl": 175, "Br": 214, "I": 222},
    "O": {"O": 148, "F": 142, "Si": 163, "P": 163, "S": 151, "Cl": 164, "Br": 172, "I": 194},
    "F": {"F": 142, "Si": 160, "P": 156, "S": 158, "Cl": 166, "Br": 178, "I": 187},
    "B": {"Cl": 175},
    "Si": {"Si": 233, "S": 200, "Cl": 202, "Br": 215, "I": 243},
    "P": {"P": 221, "S": 210, "Cl": 203, "Br": 222},
    "S": {"S": 204, "Cl": 207, "Br": 225, "I": 234},
    "Cl": {"Cl": 199, "Br": 214},
    "Br": {"Br": 228},
    "I": {"I": 266},
}  # fmt: skip
_DOUBLE = {
    "C": {"C": 134, "N": 129, "O": 120, "S": 160},
    "N": {"N": 125, "O": 121},
    "O": {"O": 121, "P": 150},
    "P": {"S": 186},
}
_TRIPLE = {"C": {"C": 120, "N": 116, "O": 113}, "N": {"N": 110}}
_MARGINS = (10, 5, 3)
_EDM_VALENCES: dict[int, tuple[int, ...]] = {
    1: (1,), 5: (3,), 6: (4,), 7: (3,), 8: (2,), 9: (1,), 14: (4,), 15: (3, 5), 16: (4,), 17: (1,), 35: (1,), 53: (1,)
}  # fmt: skip


def _limits() -> NDArray[np.float64]:
    """(3, 119, 119) greatest length in angstrom of a single, double and triple bond; -1 where there is none."""
    limits = np.full((3, 119, 119), -1.0)
    for order, (table, margin) in enumerate(zip((_SINGLE, _DOUBLE, _TRIPLE), _MARGINS, strict=True)):
        for first, row in table.items():
            for second, length in row.items():
                a, b = ATOMIC_NUMBERS[first], ATOMIC_NUMBERS[second]
                limits[order, a, b] = limits[order, b, a] = (length + margin) / 100
    return limits


_LIMITS = _limits()


def edm_bonds(numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bonds by EDM's distance table.

    Args:
        numbers: (n,) atomic numbers.
        positions: (n, 3) in angstrom.

    Returns:
        (m, 3) begin, end, order; begin < end.
    """
    begin, end = np.triu_indices(len(numbers), 1)
    with np.errstate(over="ignore", invalid="ignore"):  # what an untrained model may put anywhere
        lengths = np.linalg.norm(positions[begin] - positions[end], axis=-1)
    within = lengths < _LIMITS[:, numbers[begin], numbers[end]]  # (3, pairs)
    # A double bond counts only below the limit of the single one, and a triple one only below both, as in EDM.
    orders = np.cumprod(within, axis=0).sum(axis=0)
    bonded = orders > 0
    return np.stack([begin[bonded], end[bonded], orders[bonded]], axis=1).astype(np.int64)


def edm_stable_atoms(numbers: NDArray[np.int64], bonds: NDArray[np.int64]) -> int:
    """Atoms whose bond orders add up to EDM's valence of the element (no charges); bonds (m, 3) of `edm_bonds`."""
    pairs = zip(numbers.tolist(), bond_order_sums(bonds, len(numbers)).tolist(), strict=True)
    return sum(valence in _EDM_VALENCES.get(number, ()) for number, valence in pairs)


@dataclass(frozen=True)
class Perceived:
    """A molecule perceived from coordinates.

    Attributes:
        smiles: SMILES of the largest fragment in the convention's own form; None if it is not valid.
        stable_atoms: atoms with an exact valence; None where the convention has no such notion.
    """

    smiles: str | None
    stable_atoms: int | None = None


def perceive_edm(molecule: Molecule) -> Perceived:
    """EDM's convention: bonds by the distance table; valid if RDKit sanitizes them (it may add hydrogens)."""
    from rdkit import Chem, rdBase

    if molecule.positions is None or molecule.size == 0 or not molecule.finite:
        return Perceived(None, 0)
    bonds = edm_bonds(molecule.numbers, molecule.positions)
    bare = Molecule(molecule.numbers, np.zeros_like(molecule.charges), bonds, explicit_hydrogens=False)
    with rdBase.BlockLogs():
        try:
            smiles = Chem.MolToSmiles(_largest_fragment(bare.to_rdkit()))
        except (ValueError, RuntimeError):
            smiles = None
    return Perceived(smiles, edm_stable_atoms(molecule.numbers, bonds))


def perceive_adit(molecule: Molecule) -> Perceived:
    """ADiT's convention (Joshi et al. 2025): OpenBabel perceives bonds and their orders, RDKit reads its PDB.

    Valid if RDKit sanitizes what it reads; the SMILES is that of the largest fragment, with stereo.

    Raises:
        ImportError: OpenBabel is not installed.
    """
    from openbabel import openbabel
    from rdkit import Chem, rdBase

    if molecule.positions is None or molecule.size == 0 or not molecule.finite:
        return Perceived(None)
    openbabel.obErrorLog.StopLogging()
    with rdBase.BlockLogs():
        try:
            read = Chem.MolFromPDBBlock(_pdb_block(openbabel, molecule), removeHs=True)
            smiles = None if read is None else Chem.MolToSmiles(_largest_fragment(read), isomericSmiles=True)
        except (ValueError, RuntimeError):
            smiles = None
    return Perceived(smiles or None)


def _pdb_block(openbabel: Any, molecule: Molecule) -> str:
    """The PDB text OpenBabel writes for types and coordinates, bonds perceived; as pymatgen's `BabelMolAdaptor`."""
    perceived = openbabel.OBMol()
    perceived.BeginModify()
    assert molecule.positions is not None
    for number, (x, y, z) in zip(molecule.numbers.tolist(), molecule.positions.tolist(), strict=True):
        atom = openbabel.OBAtom()
        atom.SetAtomicNum(number)
        atom.SetVector(x, y, z)
        perceived.AddAtom(atom)
    perceived.ConnectTheDots()
    perceived.PerceiveBondOrders()
    electrons = int(molecule.numbers.sum())
    perceived.SetTotalSpinMultiplicity(1 + electrons % 2)
    perceived.SetTotalCharge(0)
    perceived.Center()
    perceived.EndModify()
    conversion = openbabel.OBConversion()
    conversion.SetOutFormat("pdb")
    return str(conversion.WriteString(perceived))


def _largest_fragment(molecule: Any) -> Any:
    """The fragment of most atoms of an RDKit molecule."""
    from rdkit import Chem

    fragments = Chem.GetMolFrags(molecule, asMols=True)
    return max(fragments, key=lambda fragment: fragment.GetNumAtoms(), default=molecule)
