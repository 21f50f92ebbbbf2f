"""SMILES lines, one per sample, also for molecules that are not sound. Needs RDKit, imported inside."""

import re
from typing import TYPE_CHECKING, Any

from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import canonical_smiles, sanitize_without_cleanup, sanitized
from unite_mm_molecule.files.records import BadRecord, UnknownElement
from unite_mm_molecule.molecule import MOST_ATOMS, Molecule, too_many

if TYPE_CHECKING:
    from rdkit.Chem import Mol


_MOST_LETTERS = 20_000
"""Letters of the longest SMILES that is read."""

_DEUTERIUM = re.compile(r"\[D(?=[]+\-:])")


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


def split_line(line: str) -> tuple[str, str]:
    """SMILES and name of a line `SMILES [name]` that is not empty; the name is empty where there is none."""
    smiles, *name = line.split(maxsplit=1)
    return smiles, name[0].strip() if name else ""


def parse_smiles(smiles: str) -> "Mol":
    """RDKit's molecule of a SMILES with exactly the atoms written, not sanitized; `[D]` is deuterium.

    Raises:
        BadRecord: not a SMILES; UnknownElement: an atom that is no element.
    """
    from rdkit import Chem, rdBase

    if len(smiles) > _MOST_LETTERS:
        raise BadRecord(f"{smiles[:20]!r}... has {len(smiles):,} letters; at most {_MOST_LETTERS:,} are read")
    parameters: Any = Chem.SmilesParserParams()
    parameters.removeHs = False
    parameters.sanitize = False
    with rdBase.BlockLogs():
        try:
            read: Mol | None = Chem.MolFromSmiles(_DEUTERIUM.sub("[2H", smiles), parameters)
        except (ValueError, RuntimeError, OverflowError):
            read = None
    if read is None:
        raise BadRecord(f"{smiles[:60]!r} is not a SMILES")
    if read.GetNumAtoms() > MOST_ATOMS:
        raise BadRecord(too_many(read.GetNumAtoms()))
    for atom in map(read.GetAtomWithIdx, range(read.GetNumAtoms())):
        if atom.GetAtomicNum() == 0:
            raise UnknownElement(atom.GetSymbol())
    return read


def read_smiles(smiles: str, name: str) -> Molecule:
    """A molecule of any program's SMILES.

    One that sanitizes has implicit hydrogens, unless it is a radical. Others keep exactly the atoms written.

    Raises:
        BadRecord: not a SMILES; UnknownElement: an atom that is no element.
    """
    from rdkit import Chem, rdBase

    if smiles == "*":
        return Molecule.from_rdkit(Chem.Mol(), name)
    read = parse_smiles(smiles)
    with rdBase.BlockLogs():
        sound = Chem.Mol(read)
        try:
            sanitize_without_cleanup(sound)
            if any(atom.GetNumRadicalElectrons() for atom in sound.GetAtoms()):
                sound = Chem.AddHs(sound)  # with its hydrogens explicit, nobody fills the open valence
            return _sensible(Molecule.from_rdkit(sound, name))
        except BadRecord:
            raise
        except (ValueError, RuntimeError):
            pass
        try:
            return _sensible(Molecule.from_rdkit(read, name))
        except (ValueError, RuntimeError) as error:
            raise BadRecord(f"{smiles[:60]!r}: {first_line(error)}") from error


def _sensible(molecule: Molecule) -> Molecule:
    """The molecule, if it is one: SMILES may have bonds and charges that others cannot have."""
    if problem := molecule.nonsense():
        raise BadRecord(problem)
    return molecule
