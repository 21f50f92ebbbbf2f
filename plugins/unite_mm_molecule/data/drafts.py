"""A molecule of a source as it is read, before any check: RDKit's view of it, and its own arrays. Needs RDKit.

Files are read as samples are that will be scored, by the readers of `unite_mm_molecule.files`, so that both say the
same of a record. The arrays of SDF records are parsed from the text: walking over the atoms of an RDKit molecule in
Python (0.24 ms) takes longer than sanitizing it (0.05 ms).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import STANDARD_VALENCES, NoBonds, perceive_bonds
from unite_mm_molecule.data.package_rows import row_name
from unite_mm_molecule.data.pieces import Piece
from unite_mm_molecule.data.refusals import (
    IMPLAUSIBLE,
    NO_ATOMS,
    NO_BONDS,
    NOT_FINITE,
    UNKNOWN_ELEMENT,
    UNREADABLE,
    Refused,
)
from unite_mm_molecule.files.blocks import read_block
from unite_mm_molecule.files.mol2 import block_of_mol2, mol2_name
from unite_mm_molecule.files.records import BadRecord, Record, UnknownElement
from unite_mm_molecule.files.sdf import with_plain_exponents, without_dollars
from unite_mm_molecule.files.smiles import parse_smiles, split_line
from unite_mm_molecule.files.text import decode
from unite_mm_molecule.files.xyz import Frame, frame_name, parse_frame
from unite_mm_molecule.metrics.geometry import odd_distances
from unite_mm_molecule.molecule import MODELLED, MOST_ATOMS, SYMBOLS, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Content = str | Molecule
"""A MOL block, a record of MOL2, a SMILES, an XYZ frame or a row of qm9pack, or a molecule of arrays."""

_ORDINARY_VALENCES = np.array([STANDARD_VALENCES.get(number, (0,))[0] for number in range(max(SYMBOLS) + 1)])


@dataclass
class Draft:
    """A molecule on its way through the checks.

    Attributes:
        mol: RDKit's view of it.
        plain: the molecule as the source has it; None where only RDKit can tell, or where it was changed.
        radicals: unpaired electrons that the source declares.
        completed: whether it was given hydrogens.
        embedded: whether it was given a geometry.
        unrelaxed: whether the force field could not relax that.
    """

    mol: "Mol"
    plain: Molecule | None = None
    radicals: int = 0
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
        elif piece.kind == "mol2":
            yield mol2_name(text), text
        elif piece.kind == "xyz":
            yield frame_name(text), text
        elif piece.kind == "package":
            yield row_name(text), text
        else:
            smiles, name = split_line(text)
            yield name or smiles, smiles


def read_draft(content: Content, kind: str) -> Draft:
    """RDKit's view of a molecule, not yet sanitized, unless its bonds had to be perceived.

    Raises:
        Refused: it cannot be read, or holds what no molecule to train on may hold.
    """
    try:
        if isinstance(content, Molecule):
            return _draft_of(content)
        if kind == "sdf":
            return _draft_of_block(content)
        if kind == "mol2":
            return _draft_of_block(block_of_mol2(content))
        if kind == "xyz":
            return _draft_of_frame(parse_frame(content))
        mol = parse_smiles(content)
    except UnknownElement as error:
        raise Refused(UNKNOWN_ELEMENT, error.element) from error
    except BadRecord as error:
        raise Refused(UNREADABLE, str(error)) from error
    except (RuntimeError, OverflowError) as error:  # what RDKit raises where it does not expect a text
        raise Refused(UNREADABLE, first_line(error)) from error
    check_elements([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    return Draft(mol)


def _draft_of(molecule: Molecule) -> Draft:
    if problem := molecule.flaw or molecule.nonsense():
        raise Refused(UNREADABLE, problem)
    check_elements(molecule.numbers)
    if not molecule.finite:
        raise Refused(NOT_FINITE, "coordinates")
    # By default RDKit takes atoms with too few bonds for radicals. Where hydrogens may be missing it counts those,
    # which is quicker to ask for.
    return Draft(replace(molecule, explicit_hydrogens=False).to_rdkit(sanitize=False), molecule)


def _draft_of_block(block: str) -> Draft:
    from rdkit import Chem

    block = with_plain_exponents(block) if "*^" in block else block
    record = read_block(block)
    check_elements(record.molecule.numbers)
    if not record.molecule.finite:
        raise Refused(NOT_FINITE, "coordinates")
    mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
    if mol is None:
        raise Refused(UNREADABLE, "not a valid MOL block")
    return Draft(mol, _plain_arrays(block, record, mol), record.molecule.radicals)


def _draft_of_frame(frame: Frame) -> Draft:
    """The molecule of a frame, its bonds found from the geometry unless the frame names them."""
    if frame.record is not None:
        return _draft_of(frame.record.molecule)
    if not len(frame.numbers):
        raise Refused(NO_ATOMS, "no atom")
    check_elements(frame.numbers)
    if not np.isfinite(frame.positions).all():
        raise Refused(NOT_FINITE, "coordinates")
    if odd := odd_distances(frame.numbers, frame.positions):
        raise Refused(IMPLAUSIBLE, odd)
    if len(frame.numbers) > MOST_ATOMS:
        raise Refused(NO_BONDS, f"{len(frame.numbers):,} atoms; bonds are found for at most {MOST_ATOMS}")
    try:
        return Draft(perceive_bonds(frame.numbers, frame.positions))
    except NoBonds as error:
        raise Refused(NO_BONDS, str(error)) from error


def check_elements(numbers: Iterable[int] | NDArray[np.int64]) -> None:
    """Refuse atomic numbers outside `MODELLED`.

    Raises:
        Refused: there is one.
    """
    unknown = sorted({int(number) for number in numbers} - set(MODELLED))
    if unknown:
        raise Refused(UNKNOWN_ELEMENT, ", ".join(SYMBOLS.get(number, str(number)) for number in unknown))


def is_3d(mol: "Mol") -> bool:
    """Whether a molecule has a geometry."""
    return mol.GetNumConformers() > 0 and mol.GetConformer().Is3D()


def _plain_arrays(block: str, record: Record, mol: "Mol") -> Molecule | None:
    """The arrays of a plain V2000 block, or None for anything that only RDKit should interpret.

    Radicals, isotopes, aromatic bonds and neutral atoms above their ordinary valence (which RDKit may rewrite, such as
    N(=O)=O) are left to RDKit.
    """
    header = block.split("\n", 4)[3]
    if "V2000" not in header or "M  RAD" in block or "M  ISO" in block or "M  ZBO" in block or not is_3d(mol):
        return None
    molecule = record.molecule
    if molecule.radicals or molecule.positions is None or molecule.size != mol.GetNumAtoms():
        return None
    if ((molecule.charges == 0) & (molecule.valences > _ORDINARY_VALENCES[molecule.numbers])).any():
        return None
    return molecule
