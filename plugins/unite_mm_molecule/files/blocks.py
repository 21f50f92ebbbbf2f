"""MOL blocks, the records of SDF files, as preparation and scoring both read them: plain ones here, others by RDKit."""

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import rdkit_installed
from unite_mm_molecule.files.records import BadRecord, NeedsRdkit, Record, UnknownElement
from unite_mm_molecule.files.sdf import read_record, without_dollars
from unite_mm_molecule.molecule import Molecule

_CONTINUED = re.compile(r"-[ \t]*\n(?:M  V30 )?")
_COUNTS = re.compile(r"^M\s+V30\s+COUNTS\s+(.*)$", re.MULTILINE | re.IGNORECASE)


def read_block(block: str) -> Record:
    """The molecule of a MOL block, V2000 or V3000.

    Raises:
        BadRecord: incomplete, or nonsense; UnknownElement: an atom that is no element.
        NeedsRdkit: it is of a kind that only RDKit reads, which is not installed.
    """
    try:
        return read_record(block)
    except NeedsRdkit as kind:
        if not rdkit_installed():
            raise NeedsRdkit(f"{kind} needs RDKit") from kind
        return _read_with_rdkit(block, str(kind))


def read_sdf_record(text: str) -> Record:
    """The molecule of a record of an SDF file; raises as `read_block`."""
    return read_block(without_dollars(text))


def check_counts(lines: Iterable[str], text: str, kind: str) -> None:
    """Refuse counts of atoms or bonds that a text has no lines for: RDKit makes room for as many as it is told.

    Args:
        lines: those that hold counts.
        text: the record.
        kind: what the record is, for the message.

    Raises:
        BadRecord: a count is larger than the number of lines.
    """
    most = text.count("\n") + 1
    for number in (int(found) for line in lines for found in re.findall(r"\d{1,18}", line)):
        if number > most:
            raise BadRecord(f"{kind}: it is to hold {number:,} atoms or bonds, in {most:,} lines")


def _read_with_rdkit(block: str, kind: str) -> Record:
    from rdkit import Chem, rdBase

    check_counts(_COUNTS.findall(_CONTINUED.sub("", block)), block, kind)
    with rdBase.BlockLogs():
        try:
            mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
            if mol is None:
                raise BadRecord(f"{kind}: RDKit cannot read it")
            for atom in mol.GetAtoms():
                if atom.GetAtomicNum() == 0:
                    raise UnknownElement(atom.GetSymbol(), f"{kind}: atom {atom.GetIdx() + 1}: ")
            molecule = Molecule.from_rdkit(mol, block.partition("\n")[0].strip())
        except BadRecord:
            raise
        except (ValueError, RuntimeError, OverflowError) as error:
            raise BadRecord(f"{kind}: {first_line(error)[:100]}") from error
        radicals = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
        points = mol.GetConformer().GetPositions() if mol.GetNumConformers() else np.zeros((0, 3))
    if not np.isin(molecule.bonds[:, 2], (1, 2, 3)).all():
        raise BadRecord("a bond that is not single, double, triple or aromatic")
    if problem := molecule.nonsense():
        raise BadRecord(f"{kind}: {problem}")
    if not np.isfinite(points).all():  # also where RDKit takes it for a drawing
        molecule = replace(molecule, positions=np.array(points))
    return Record(replace(molecule, explicit_hydrogens=True, radicals=radicals))
