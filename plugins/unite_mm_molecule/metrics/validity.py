"""Strict validity, which needs RDKit, and stability of a molecule."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import STANDARD_VALENCES, canonical_smiles, sanitized
from unite_mm_molecule.molecule import SYMBOLS, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Problem = Literal[
    "", "unreadable", "empty", "does not sanitize", "not finite", "radical", "fragments", "charged"
]  # fmt: skip
"""Why a molecule is not strictly valid; empty for a valid one. The first that applies, in this order."""

PROBLEMS: tuple[Problem, ...] = (
    "unreadable", "empty", "does not sanitize", "not finite", "radical", "fragments", "charged",
)  # fmt: skip


@dataclass(frozen=True)
class ValidityResult:
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


def check_validity(molecule: Molecule) -> ValidityResult:
    """Strict validity: finite coordinates, RDKit sanitizes it as it is, no radical, one fragment, neutral in total.

    Where hydrogens are explicit RDKit may add none, so that an atom short of a bond is a radical; where they are
    implicit RDKit supplies them and there are no radicals.
    """
    return examine(molecule)[0]


def examine(molecule: Molecule) -> tuple[ValidityResult, "Mol | None"]:
    """Strict validity as `check_validity` has it, and the sanitized RDKit molecule of a valid one."""
    if molecule.flaw:
        return ValidityResult("unreadable", molecule.flaw, None), None
    if molecule.size == 0:
        return ValidityResult("empty", "no atoms", None), None
    result, sound = _examine_atoms(molecule)
    return result, sound if result.valid else None


def _examine_atoms(molecule: Molecule) -> tuple[ValidityResult, "Mol | None"]:
    """`examine` of a molecule that has atoms; the RDKit molecule of any that sanitizes."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        try:
            sound = sanitized(molecule)
            smiles = canonical_smiles(sound)
        except (ValueError, RuntimeError) as error:  # what RDKit raises: MolSanitizeException is a ValueError
            return ValidityResult("does not sanitize", _valence_detail(molecule) or first_line(error), None), None
        radicals = [atom for atom in sound.GetAtoms() if atom.GetNumRadicalElectrons()]
        fragments = len(Chem.GetMolFrags(sound))
    if not molecule.finite:
        return ValidityResult("not finite", "coordinates that are not finite numbers", smiles), sound
    charge = int(molecule.charges.sum())
    if molecule.radicals:
        return ValidityResult("radical", f"{molecule.radicals} unpaired by declaration", smiles), sound
    if radicals:
        electrons = sum(atom.GetNumRadicalElectrons() for atom in radicals)
        where = ", ".join(sorted({atom.GetSymbol() for atom in radicals}))
        return ValidityResult("radical", f"{electrons} unpaired on {where}", smiles), sound
    if fragments > 1:
        return ValidityResult("fragments", f"{fragments} fragments", smiles), sound
    if charge:
        return ValidityResult("charged", f"charge {charge:+d}", smiles), sound
    return ValidityResult("", "", smiles), sound


def _valence_detail(molecule: Molecule) -> str:
    """The first atom with more bonds than its element and charge allow; empty if there is none."""
    for number, charge, valence in zip(molecule.numbers, molecule.charges, molecule.valences, strict=True):
        allowed = allowed_valences(int(number), int(charge))
        if int(number) in STANDARD_VALENCES and valence > max(allowed, default=0):
            sign = f"{int(charge):+d}" if charge else ""
            return f"{SYMBOLS[int(number)]}{sign} with {int(valence)} bonds"
    return ""


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
        for number, charge, valence in zip(molecule.numbers, molecule.charges, molecule.valences, strict=True)
    )
