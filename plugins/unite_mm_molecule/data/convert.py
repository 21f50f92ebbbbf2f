"""One piece of a source into checked molecules: what worker processes do while data is prepared. Needs RDKit.

Every molecule either passes all checks or is refused with a reason that ends up in the data-set card. RDKit decides
what is chemistry: it reads, sanitizes and names the molecule. The arrays of SDF records are parsed from the text:
walking over the atoms of an RDKit molecule in Python (0.24 ms) takes longer than sanitizing it (0.05 ms).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import STANDARD_VALENCES, NoBonds, canonical_smiles, perceive_bonds
from unite_mm_molecule.data.flat import FlatMolecules
from unite_mm_molecule.data.pieces import Piece
from unite_mm_molecule.data.refusals import (
    FRAGMENTS,
    NO_ATOMS,
    NO_BONDS,
    NO_GEOMETRY,
    NOT_FINITE,
    RADICAL,
    REFUSED,
    UNCHARACTERIZED,
    UNKNOWN_ELEMENT,
    UNREADABLE,
    Refused,
)
from unite_mm_molecule.files.records import BadRecord, NeedsRdkit, UnknownElement
from unite_mm_molecule.files.sdf import read_record, with_plain_exponents, without_dollars
from unite_mm_molecule.files.smiles import split_line
from unite_mm_molecule.files.text import decode
from unite_mm_molecule.files.xyz import parse_atoms, split_frame
from unite_mm_molecule.molecule import SYMBOLS, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

_ORDINARY_VALENCES = np.array([STANDARD_VALENCES.get(number, (0,))[0] for number in range(max(SYMBOLS) + 1)])
_EMBEDDING_SEED = 61453


@dataclass(frozen=True)
class Rules:
    """What preparation may do to a molecule.

    Attributes:
        add_hydrogens: supply missing hydrogens; otherwise a molecule that lacks any is refused.
        embed: give molecules without 3D coordinates a geometry; otherwise they stay plain graphs.
    """

    add_hydrogens: bool
    embed: bool


@dataclass(frozen=True)
class Converted:
    """What became of a piece.

    Attributes:
        molecules: those that passed, in the order of the source.
        smiles: their canonical SMILES.
        refused: (reason, `name: detail`) of the others.
        completed: molecules that were given hydrogens.
        embedded: molecules that were given a geometry.
        unrelaxed: those of them that the force field could not relax.
    """

    molecules: FlatMolecules
    smiles: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    completed: int = 0
    embedded: int = 0
    unrelaxed: int = 0


@dataclass
class _Draft:
    """A molecule on its way: RDKit's view, and its arrays as the source has them, where they are known."""

    mol: "Mol"
    plain: Molecule | None = None
    completed: bool = False
    embedded: bool = False
    unrelaxed: bool = False


def convert(piece: Piece, rules: Rules) -> Converted:
    """Read and check all molecules of a piece."""
    from rdkit import rdBase

    passed: list[Molecule] = []
    smiles: list[str] = []
    refused: list[tuple[str, str]] = []
    drafts: list[_Draft] = []
    with rdBase.BlockLogs():
        for offset, (name, source) in enumerate(_entries(piece)):
            label = name or f"molecule {piece.first + offset + 1}"
            try:
                if piece.first + offset in piece.skip:
                    raise Refused(UNCHARACTERIZED, "left out")
                draft = _draft(source, piece.kind)
                molecule, key = _examine(draft, rules, label)
            except Refused as refusal:
                refused.append((refusal.reason, f"{label}: {refusal.detail}"))
                continue
            passed.append(molecule)
            smiles.append(key)
            drafts.append(draft)
    return Converted(
        molecules=FlatMolecules.from_molecules(passed),
        smiles=tuple(smiles),
        refused=tuple(refused),
        completed=sum(draft.completed for draft in drafts),
        embedded=sum(draft.embedded for draft in drafts),
        unrelaxed=sum(draft.unrelaxed for draft in drafts),
    )


def _entries(piece: Piece) -> Iterator[tuple[str, "str | list[str] | Molecule"]]:
    """Name and content of each molecule: a MOL block, atom lines of XYZ, a SMILES, or a molecule of arrays."""
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


def _draft(source: "str | list[str] | Molecule", kind: str) -> _Draft:
    """RDKit's view of a molecule, not yet sanitized, unless its bonds had to be perceived.

    Raises:
        Refused: RDKit cannot read it.
    """
    from rdkit import Chem

    if isinstance(source, Molecule):
        _check_elements(source.numbers)
        # Left to itself RDKit would call atoms short of bonds radicals; told that hydrogens may be missing, it counts
        # them, which is quicker to ask for.
        return _Draft(replace(source, explicit_hydrogens=False).to_rdkit(sanitize=False), source)
    if isinstance(source, list):
        return _Draft(_perceived(source))
    if kind == "sdf":
        block = with_plain_exponents(source) if "*^" in source else source
        mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        if mol is None:
            raise Refused(UNREADABLE, "not a valid MOL block")
        return _Draft(mol, _plain_arrays(block, mol))
    mol = Chem.MolFromSmiles(source, sanitize=False)
    if mol is None:
        raise Refused(UNREADABLE, "not a valid SMILES")
    return _Draft(mol)


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


def _examine(draft: _Draft, rules: Rules, name: str) -> tuple[Molecule, str]:
    """The molecule and its canonical SMILES, if it passes every check; hydrogens and geometry added as ruled."""
    from rdkit import Chem

    mol, plain = draft.mol, draft.plain
    if mol.GetNumAtoms() == 0:
        raise Refused(NO_ATOMS, "no atom")
    if plain is None:
        _check_elements([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    try:
        Chem.SanitizeMol(mol)
        if len(Chem.GetMolFrags(mol)) > 1:
            raise Refused(FRAGMENTS, f"{len(Chem.GetMolFrags(mol))} fragments")
        if plain is None and (radicals := sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())):
            raise Refused(RADICAL, f"{radicals} unpaired electrons")  # others show as missing hydrogens
        missing = mol.GetNumAtoms(onlyExplicit=False) - mol.GetNumAtoms()
        if missing:
            if not rules.add_hydrogens:
                raise Refused(RADICAL, f"{missing} bonds short")
            mol = Chem.AddHs(mol, addCoords=_is_3d(mol))
            plain, draft.completed = None, True
        if rules.embed and not _is_3d(mol):
            mol, plain = _embed(mol, draft), None
        molecule = Molecule.from_rdkit(mol) if plain is None else plain
        if not np.isin(molecule.bonds[:, 2], (1, 2, 3)).all():
            raise Refused(UNREADABLE, "a bond that is not single, double or triple")
        key = canonical_smiles(mol)
    except ValueError as error:  # the base of every chemistry error of RDKit
        raise Refused(REFUSED, first_line(error)) from error
    if molecule.positions is not None and not np.isfinite(molecule.positions).all():
        raise Refused(NOT_FINITE, "coordinates")
    return replace(molecule, name=name, explicit_hydrogens=True), key


def _check_elements(numbers: Iterable[int] | NDArray[np.int64]) -> None:
    """Refuse elements outside `SYMBOLS`."""
    from rdkit import Chem

    unknown = sorted({int(number) for number in numbers} - set(SYMBOLS))
    if unknown:
        table = Chem.GetPeriodicTable()
        raise Refused(UNKNOWN_ELEMENT, ", ".join(table.GetElementSymbol(number) for number in unknown))


def _is_3d(mol: "Mol") -> bool:
    return mol.GetNumConformers() > 0 and mol.GetConformer().Is3D()


def _plain_arrays(block: str, mol: "Mol") -> Molecule | None:
    """The arrays of a plain V2000 block, or None for anything that only RDKit should interpret.

    Radicals, isotopes, aromatic bonds, unknown elements and neutral atoms above their ordinary valence (which RDKit may
    rewrite, such as N(=O)=O) are left to RDKit.
    """
    header = block.split("\n", 4)[3]
    if "V2000" not in header or "M  RAD" in block or "M  ISO" in block or "M  ZBO" in block or not _is_3d(mol):
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


def _embed(mol: "Mol", draft: _Draft) -> "Mol":
    """A copy with a geometry: ETKDGv3 with a fixed seed, relaxed with MMFF94."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    parameters: Any = rdDistGeom.ETKDGv3()  # its type stubs have no settable fields
    parameters.randomSeed = _EMBEDDING_SEED
    copy = type(mol)(mol)
    if rdDistGeom.EmbedMolecule(copy, parameters) < 0:
        parameters.useRandomCoords = True
        if rdDistGeom.EmbedMolecule(copy, parameters) < 0:
            raise Refused(NO_GEOMETRY, "embedding failed")
    draft.embedded = True
    known = rdForceFieldHelpers.MMFFHasAllMoleculeParams(copy)
    draft.unrelaxed = not known or rdForceFieldHelpers.MMFFOptimizeMolecule(copy, maxIters=1000) != 0
    return copy
