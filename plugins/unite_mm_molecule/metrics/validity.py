"""Strict validity and stability of a molecule: what is wrong with it, if anything. Needs RDKit for the first."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.chemistry import canonical_smiles
from unite_mm_molecule.molecule import SYMBOLS, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Problem = Literal["", "empty", "does not sanitize", "radical", "fragments", "charged"]
"""Why a molecule is not strictly valid; empty for a valid one. The first that applies, in this order."""

PROBLEMS: tuple[Problem, ...] = ("empty", "does not sanitize", "radical", "fragments", "charged")

STANDARD_VALENCES: dict[int, tuple[int, ...]] = {
    1: (1,), 5: (3,), 6: (4,), 7: (3,), 8: (2,), 9: (1,), 14: (4,), 15: (3, 5), 16: (2, 4, 6), 17: (1,), 35: (1,),
    53: (1,),
}  # fmt: skip
"""Valences of the neutral elements, by atomic number."""


@dataclass(frozen=True)
class Verdict:
    """What RDKit makes of a molecule.

    Attributes:
        problem: why it is not strictly valid; empty if it is.
        detail: the same for a reader, such as `C with 5 bonds` or `2 fragments`.
        smiles: canonical SMILES (no stereo, no hydrogens); None if the molecule does not sanitize.
    """

    problem: Problem
    detail: str
    smiles: str | None

    @property
    def valid(self) -> bool:
        """Whether the molecule is strictly valid."""
        return not self.problem


def sanitized(molecule: Molecule) -> "Mol":
    """The RDKit molecule, sanitized as it is.

    RDKit's clean-up step is left out: it would quietly repair five-valent nitrogen (`N(=O)=O` to `[N+](=O)[O-]`).

    Raises:
        rdkit.Chem.MolSanitizeException: the molecule is not chemically sound; a ValueError.
    """
    from rdkit import Chem

    return sanitize_uncleaned(molecule.to_rdkit(sanitize=False)) if molecule.size else Chem.Mol()


def sanitize_uncleaned(mol: "Mol") -> "Mol":
    """Sanitize an RDKit molecule in place without its clean-up steps, and return it.

    Raises:
        rdkit.Chem.MolSanitizeException: it is not chemically sound; a ValueError.
    """
    from rdkit import Chem

    flags = Chem.SanitizeFlags
    clean_up = flags.SANITIZE_CLEANUP | flags.SANITIZE_CLEANUP_ORGANOMETALLICS
    Chem.SanitizeMol(mol, sanitizeOps=int(flags.SANITIZE_ALL) & ~int(clean_up))
    return mol


def judge(molecule: Molecule) -> Verdict:
    """Strict validity: RDKit sanitizes it as it is, no radical, one fragment, neutral in total.

    Where hydrogens are explicit RDKit may add none, so that an atom short of a bond is a radical; where they are
    implicit RDKit supplies them and there are no radicals.
    """
    from rdkit import Chem, rdBase

    if molecule.size == 0:
        return Verdict("empty", "no atoms", None)
    with rdBase.BlockLogs():
        try:
            sound = sanitized(molecule)
            smiles = canonical_smiles(sound)
        except (ValueError, RuntimeError) as error:  # what RDKit raises: MolSanitizeException is a ValueError
            return Verdict("does not sanitize", _valence_detail(molecule) or str(error).splitlines()[0], None)
        radicals = [atom for atom in sound.GetAtoms() if atom.GetNumRadicalElectrons()]
        fragments = len(Chem.GetMolFrags(sound))
    charge = int(molecule.charges.sum())
    if radicals:
        electrons = sum(atom.GetNumRadicalElectrons() for atom in radicals)
        where = ", ".join(sorted({atom.GetSymbol() for atom in radicals}))
        return Verdict("radical", f"{electrons} unpaired on {where}", smiles)
    if fragments > 1:
        return Verdict("fragments", f"{fragments} fragments", smiles)
    if charge:
        return Verdict("charged", f"charge {charge:+d}", smiles)
    return Verdict("", "", smiles)


def _valence_detail(molecule: Molecule) -> str:
    """The first atom with more bonds than its element and charge allow; empty if there is none."""
    valences = explicit_valences(molecule)
    for number, charge, valence in zip(molecule.numbers, molecule.charges, valences, strict=True):
        allowed = allowed_valences(int(number), int(charge))
        if valence > max(allowed, default=0):
            sign = f"{int(charge):+d}" if charge else ""
            return f"{SYMBOLS[int(number)]}{sign} with {int(valence)} bonds"
    return ""


def explicit_valences(molecule: Molecule) -> NDArray[np.int64]:
    """(n,) sum of the bond orders of each atom."""
    valences = np.zeros(molecule.size, dtype=np.int64)
    np.add.at(valences, molecule.bonds[:, 0], molecule.bonds[:, 2])
    np.add.at(valences, molecule.bonds[:, 1], molecule.bonds[:, 2])
    return valences


def allowed_valences(number: int, charge: int) -> tuple[int, ...]:
    """Valences of an element at a formal charge: those of the isoelectronic neutral element (N+ as C, O- as F).

    Empty where there is none, such as C+3.
    """
    if charge == 0:
        return STANDARD_VALENCES.get(number, ())
    # The periodic table around the known elements; noble gases (and a bare proton) bind nothing.
    if number - charge in (0, 2, 10, 18, 36, 54):
        return (0,)
    return STANDARD_VALENCES.get(number - charge, ())


def stable_atoms(molecule: Molecule) -> int:
    """Atoms whose explicit valence is exactly one allowed for element and charge; hydrogens must be explicit."""
    return sum(
        int(valence) in allowed_valences(int(number), int(charge))
        for number, charge, valence in zip(molecule.numbers, molecule.charges, explicit_valences(molecule), strict=True)
    )
