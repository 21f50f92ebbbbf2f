"""SMILES lines, one per sample, also for molecules that are not sound. Needs RDKit, imported inside."""

from typing import TYPE_CHECKING, Any

from unite_mm_molecule.chemistry import canonical_smiles
from unite_mm_molecule.files.sdf import BadRecord
from unite_mm_molecule.metrics.validity import sanitize_uncleaned, sanitized
from unite_mm_molecule.molecule import SYMBOLS, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol


def write_smiles(molecule: Molecule) -> str:
    """Canonical SMILES without hydrogens where the molecule sanitizes and has no radical, else all atoms as they are.

    The latter writes every atom in brackets and every hydrogen as an atom, so that no reader supplies hydrogens and a
    miss stays a miss. A molecule without atoms becomes `*`.
    """
    from rdkit import Chem, rdBase

    if molecule.size == 0:
        return "*"
    with rdBase.BlockLogs():
        try:
            sound = sanitized(molecule)
            if not any(atom.GetNumRadicalElectrons() for atom in sound.GetAtoms()):
                return canonical_smiles(sound)
        except ValueError:
            pass
        raw = molecule.to_rdkit(sanitize=False)
        raw.UpdatePropertyCache(strict=False)
        # Writing every hydrogen count puts every atom in brackets, where readers supply none.
        return Chem.MolToSmiles(raw, allHsExplicit=molecule.explicit_hydrogens, canonical=False)


def read_smiles(text: str) -> list[Molecule]:
    """The molecules of lines `SMILES [name]`; a title line, empty lines and lines that start with # are passed over.

    A molecule that sanitizes has implicit hydrogens, unless it is a radical. Others keep exactly the atoms written.

    Raises:
        BadRecord: not a SMILES, or an unknown element; the message names the line.
    """
    molecules: list[Molecule] = []
    for number, line in enumerate(text.split("\n"), start=1):
        smiles, _, name = line.strip().replace("\t", " ").partition(" ")
        if not smiles or smiles.startswith("#") or (not molecules and smiles.lower() == "smiles"):
            continue
        try:
            molecules.append(_read(smiles, name.strip()))
        except BadRecord as error:
            raise BadRecord(f"line {number}: {error}") from error
    return molecules


def _read(smiles: str, name: str) -> Molecule:
    from rdkit import Chem, rdBase

    if smiles == "*":
        return Molecule.from_rdkit(Chem.Mol(), name)
    with rdBase.BlockLogs():
        parameters: Any = Chem.SmilesParserParams()
        parameters.removeHs = False
        parameters.sanitize = False
        read: Mol | None = Chem.MolFromSmiles(smiles, parameters)
        if read is None:
            raise BadRecord(f"{smiles[:60]!r} is not a SMILES")
        unknown = {atom.GetSymbol() for atom in read.GetAtoms() if atom.GetAtomicNum() not in SYMBOLS}
        if unknown:
            raise BadRecord(f"unknown element {', '.join(sorted(unknown))}; known are {', '.join(SYMBOLS.values())}")
        sound = Chem.Mol(read)
        try:
            sanitize_uncleaned(sound)
            if any(atom.GetNumRadicalElectrons() for atom in sound.GetAtoms()):
                sound = Chem.AddHs(sound)  # with its hydrogens explicit, nobody fills the open valence
            return Molecule.from_rdkit(sound, name)
        except ValueError:
            pass
        try:
            return Molecule.from_rdkit(read, name)
        except ValueError as error:
            raise BadRecord(f"{smiles[:60]!r}: {str(error).splitlines()[0]}") from error
