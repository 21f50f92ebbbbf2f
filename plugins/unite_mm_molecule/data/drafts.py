"""A molecule of a source as it is read, before any check: RDKit's view of it, and its own arrays. Needs RDKit.

The arrays of SDF records are parsed from the text: walking over the atoms of an RDKit molecule in Python (0.24 ms)
takes longer than sanitizing it (0.05 ms).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.chemistry import STANDARD_VALENCES, NoBonds, perceive_bonds
from unite_mm_molecule.data.pieces import Piece
from unite_mm_molecule.data.refusals import NO_ATOMS, NO_BONDS, NOT_FINITE, UNKNOWN_ELEMENT, UNREADABLE, Refused
from unite_mm_molecule.files.records import BadRecord, NeedsRdkit, UnknownElement
from unite_mm_molecule.files.sdf import read_record, with_plain_exponents, without_dollars
from unite_mm_molecule.files.smiles import split_line
from unite_mm_molecule.files.text import decode
from unite_mm_molecule.files.xyz import parse_atoms, split_frame
from unite_mm_molecule.molecule import SYMBOLS, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Content = str | list[str] | Molecule
"""A MOL block or a SMILES, atom lines of XYZ, or a molecule of arrays."""

_ORDINARY_VALENCES = np.array([STANDARD_VALENCES.get(number, (0,))[0] for number in range(max(SYMBOLS) + 1)])


@dataclass
class Draft:
    """A molecule on its way through the checks.

    Attributes:
        mol: RDKit's view of it.
        plain: the molecule as the source has it; None where only RDKit can tell, or where it was changed.
        completed: whether it was given hydrogens.
        embedded: whether it was given a geometry.
        unrelaxed: whether the force field could not relax that.
    """

    mol: "Mol"
    plain: Molecule | None = None
    completed: bool = False
    embedded: bool = False
    unrelaxed: bool = False


def contents(piece: Piece) -> Iterator[tuple[str, Content]]:
    """Name and content of each molecule of a piece."""
    if piece.molecules is not None:
        for index in range(len(piece.molecules)):
            molecule = piece.molecules.molecule(index)
            yield molecule.name, molecule
        return
    for text in map(decode, piece.records):
        if piece.kind == "sdf":
            block = without_dollars(text)
            yield block.split("\n", 1)[0].strip(), block
        elif piece.kind == "xyz":
            comment, rows = split_frame(text)
            yield comment.strip()[:60], rows
        else:
            smiles, name = split_line(text)
            yield name or smiles, smiles


def read_draft(content: Content, kind: str) -> Draft:
    """RDKit's view of a molecule, not yet sanitized, unless its bonds had to be perceived.

    Raises:
        Refused: RDKit cannot read it.
    """
    from rdkit import Chem

    if isinstance(content, Molecule):
        check_elements(content.numbers)
        # By default RDKit takes atoms with too few bonds for radicals. Where hydrogens may be missing it counts those,
        # which is quicker to ask for.
        return Draft(replace(content, explicit_hydrogens=False).to_rdkit(sanitize=False), content)
    if isinstance(content, list):
        return Draft(_perceived(content))
    if kind == "sdf":
        block = with_plain_exponents(content) if "*^" in content else content
        mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        if mol is None:
            raise Refused(UNREADABLE, "not a valid MOL block")
        return Draft(mol, _plain_arrays(block, mol))
    mol = Chem.MolFromSmiles(content, sanitize=False)
    if mol is None:
        raise Refused(UNREADABLE, "not a valid SMILES")
    return Draft(mol)


def _perceived(rows: list[str]) -> "Mol":
    """The molecule of atom lines of XYZ, its bonds found from the geometry."""
    try:
        numbers, positions = parse_atoms(rows)
    except UnknownElement as error:
        raise Refused(UNKNOWN_ELEMENT, error.element) from error
    except BadRecord as error:
        raise Refused(UNREADABLE, str(error)) from error
    if not len(numbers):
        raise Refused(NO_ATOMS, "no atom")
    if not np.isfinite(positions).all():
        raise Refused(NOT_FINITE, "coordinates")
    try:
        return perceive_bonds(numbers, positions)
    except NoBonds as error:
        raise Refused(NO_BONDS, str(error)) from error


def check_elements(numbers: Iterable[int] | NDArray[np.int64]) -> None:
    """Refuse atomic numbers outside `SYMBOLS`.

    Raises:
        Refused: there is one.
    """
    from rdkit import Chem

    unknown = sorted({int(number) for number in numbers} - set(SYMBOLS))
    if unknown:
        table = Chem.GetPeriodicTable()
        raise Refused(UNKNOWN_ELEMENT, ", ".join(table.GetElementSymbol(number) for number in unknown))


def is_3d(mol: "Mol") -> bool:
    """Whether a molecule has a geometry."""
    return mol.GetNumConformers() > 0 and mol.GetConformer().Is3D()


def _plain_arrays(block: str, mol: "Mol") -> Molecule | None:
    """The arrays of a plain V2000 block, or None for anything that only RDKit should interpret.

    Radicals, isotopes, aromatic bonds, unknown elements and neutral atoms above their ordinary valence (which RDKit may
    rewrite, such as N(=O)=O) are left to RDKit.
    """
    header = block.split("\n", 4)[3]
    if "V2000" not in header or "M  RAD" in block or "M  ISO" in block or "M  ZBO" in block or not is_3d(mol):
        return None
    try:
        record = read_record(block)
    except (BadRecord, NeedsRdkit):
        return None
    molecule = record.molecule
    if record.doublets or molecule.positions is None or molecule.size != mol.GetNumAtoms():
        return None
    if ((molecule.charges == 0) & (molecule.valences > _ORDINARY_VALENCES[molecule.numbers])).any():
        return None
    return molecule
