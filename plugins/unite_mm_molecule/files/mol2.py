"""Records of MOL2 files, as preparation and scoring both read them: RDKit makes MOL blocks of them.

RDKit knows the atom types of the program Corina alone, and reads no formal charges. Other programs (OpenBabel) write
those into a section UNITY_ATOM_ATTR, and give the nitrogen of pyrrole the type of that of pyridine.
"""

import re
from typing import TYPE_CHECKING

from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import rdkit_installed
from unite_mm_molecule.files.blocks import check_counts, read_block
from unite_mm_molecule.files.records import BadRecord, NeedsRdkit, Record, UnknownElement
from unite_mm_molecule.molecule import MOST_ATOMS, too_many

if TYPE_CHECKING:
    from rdkit.Chem import Mol

_SECTION = re.compile(r"^@<TRIPOS>UNITY_ATOM_ATTR\n(.*?)(?=^@<TRIPOS>|\Z)", re.MULTILINE | re.DOTALL)
_CHARGE = re.compile(r"^\s*(\d{1,6})\s+\d+\s*\n\s*charge\s+([-+]?\d{1,2})\s*$", re.MULTILINE)
_NUMBERS = re.compile(r"\n[ \t]*(\d[\d \t]*)(?=\n)")
_HEAD = re.compile(r"\A(@<TRIPOS>MOLECULE\n.*\n.*\n.*\n)(.*)\n")


def read_mol2_record(text: str) -> Record:
    """The molecule of a record of a MOL2 file; raises as `read_block`."""
    return read_block(block_of_mol2(text))


def mol2_name(text: str) -> str:
    """The name in a record of a MOL2 file: the line behind the one that begins it."""
    return text.split("\n", 2)[1].strip() if "\n" in text else ""


def block_of_mol2(text: str) -> str:
    """A record of a MOL2 file as a MOL block; charges are those of the file, else those that types and bonds imply.

    Raises:
        BadRecord: RDKit cannot read it; UnknownElement: an atom that is no element.
        NeedsRdkit: RDKit is not installed.
    """
    if not rdkit_installed():
        raise NeedsRdkit("MOL2 needs RDKit")
    from rdkit import Chem, rdBase

    check_counts(_NUMBERS.findall(text.partition("@<TRIPOS>ATOM")[0].partition("\n")[2]), text, "MOL2")
    section = _SECTION.search(text)
    charges = None if section is None else {int(at) - 1: int(charge) for at, charge in _CHARGE.findall(section[1])}
    # Without partial charges RDKit looks for formal ones.
    plain = _HEAD.sub(r"\1NO_CHARGES\n", _SECTION.sub("", text))
    with rdBase.BlockLogs():
        try:
            mol = Chem.MolFromMol2Block(plain, removeHs=False)
            # Which of two equal oxygens has the charge may differ.
            if mol is None or (charges is not None and sorted(charges.values()) != _charges(mol)):
                mol = Chem.MolFromMol2Block(plain, sanitize=False, removeHs=False, cleanupSubstructures=False)
                if mol is None:
                    raise BadRecord("MOL2: RDKit cannot read it")
                mol = _as_it_stands(mol, charges)
            else:
                Chem.Kekulize(mol, clearAromaticFlags=True)
            if mol.GetNumAtoms() > MOST_ATOMS:
                raise BadRecord(f"MOL2: {too_many(mol.GetNumAtoms())}")
            for atom in mol.GetAtoms():
                if atom.GetAtomicNum() == 0:
                    raise UnknownElement(atom.GetSymbol(), f"MOL2: atom {atom.GetIdx() + 1}: ")
            return str(Chem.MolToMolBlock(mol, includeStereo=False, kekulize=False))
        except BadRecord:
            raise
        except (ValueError, RuntimeError, OverflowError) as error:
            raise BadRecord(f"MOL2: {first_line(error)[:100]}") from error


def _charges(mol: "Mol") -> list[int]:
    return sorted(atom.GetFormalCharge() for atom in mol.GetAtoms() if atom.GetFormalCharge())


def _as_it_stands(mol: "Mol", charges: dict[int, int] | None) -> "Mol":
    """An unsanitized molecule with the charges of the file, its aromatic bonds kekulized where that is possible."""
    from rdkit import Chem

    for atom in mol.GetAtoms():
        if charges is not None:
            atom.SetFormalCharge(charges.get(atom.GetIdx(), 0))
        elif atom.GetAtomicNum() == 7 and atom.GetIsAromatic() and atom.GetDegree() == 3:
            atom.SetFormalCharge(0)  # RDKit takes every such nitrogen for that of a pyridinium, and failed with it
    sound = Chem.Mol(mol)
    try:
        Chem.SanitizeMol(sound)
        Chem.Kekulize(sound, clearAromaticFlags=True)
    except ValueError:  # the base of every chemistry error of RDKit
        return mol
    return sound
