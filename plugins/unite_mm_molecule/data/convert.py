"""One piece of a source into checked molecules: what worker processes do while data is prepared. Needs RDKit.

Every molecule either passes all checks or is refused with a reason that ends up in the data-set card. RDKit decides
what is chemistry: it reads, sanitizes and names the molecule.
"""

from dataclasses import dataclass, replace

import numpy as np

from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import NoGeometry, canonical_smiles, embed
from unite_mm_molecule.data.drafts import Draft, contents, is_3d, read_draft
from unite_mm_molecule.data.package_rows import read_row
from unite_mm_molecule.data.pieces import Piece
from unite_mm_molecule.data.properties import Values
from unite_mm_molecule.data.refusals import (
    FRAGMENTS,
    IMPLAUSIBLE,
    NO_ATOMS,
    NO_GEOMETRY,
    NOT_FINITE,
    RADICAL,
    REFUSED,
    UNCHARACTERIZED,
    UNREADABLE,
    Refused,
)
from unite_mm_molecule.flat import FlatMolecules
from unite_mm_molecule.metrics.geometry import odd_distances
from unite_mm_molecule.molecule import Molecule
from unite_mm_molecule.properties import SOURCE_UNITS

_LETTERS = 80
"""Letters of a name in the card."""


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
        properties: (n, K) of those that passed, in the order of `properties.SOURCE_UNITS`; None where the source has
            none.
    """

    molecules: FlatMolecules
    smiles: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    completed: int = 0
    embedded: int = 0
    unrelaxed: int = 0
    properties: Values | None = None


def convert(piece: Piece, rules: Rules) -> Converted:
    """Read and check all molecules of a piece."""
    from rdkit import rdBase

    passed: list[Molecule] = []
    smiles: list[str] = []
    refused: list[tuple[str, str]] = []
    drafts: list[Draft] = []
    properties: list[tuple[float, ...]] = []
    with rdBase.BlockLogs():
        for offset, (name, content) in enumerate(contents(piece)):
            label = name or f"molecule {piece.first + offset + 1}"
            shown = label if len(label) <= _LETTERS else f"{label[:_LETTERS]}..."
            try:
                if piece.first + offset in piece.skip:
                    raise Refused(UNCHARACTERIZED, "left out")
                if piece.kind == "package" and isinstance(content, str):
                    row = read_row(content)
                    properties.append(row.properties)
                    molecule, key = replace(row.molecule, name=label), row.smiles
                else:
                    draft = read_draft(content, piece.kind)
                    molecule, key = _examine(draft, rules, label)
                    drafts.append(draft)
            except Refused as refusal:
                refused.append((refusal.reason, f"{shown}: {refusal.detail}"))
                continue
            passed.append(molecule)
            smiles.append(key)
    return Converted(
        molecules=FlatMolecules.from_molecules(passed),
        smiles=tuple(smiles),
        refused=tuple(refused),
        completed=sum(draft.completed for draft in drafts),
        embedded=sum(draft.embedded for draft in drafts),
        unrelaxed=sum(draft.unrelaxed for draft in drafts),
        properties=np.array(properties).reshape(-1, len(SOURCE_UNITS)) if piece.kind == "package" else None,
    )


def _examine(draft: Draft, rules: Rules, name: str) -> tuple[Molecule, str]:
    """The molecule and its canonical SMILES, if it passes every check; hydrogens and geometry added as ruled."""
    from rdkit import Chem

    mol, plain = draft.mol, draft.plain
    if mol.GetNumAtoms() == 0:
        raise Refused(NO_ATOMS, "no atom")
    if draft.radicals:
        raise Refused(RADICAL, f"{draft.radicals} unpaired electrons")
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
            mol = Chem.AddHs(mol, addCoords=is_3d(mol))
            plain, draft.completed = None, True
        if rules.embed and not is_3d(mol):
            mol, relaxed = embed(mol)
            plain, draft.embedded, draft.unrelaxed = None, True, not relaxed
        molecule = Molecule.from_rdkit(mol) if plain is None else plain
        if ((molecule.bonds[:, 2] < 1) | (molecule.bonds[:, 2] > 3)).any():
            raise Refused(UNREADABLE, "a bond that is not single, double or triple")
        key = canonical_smiles(mol)
    except NoGeometry as error:
        raise Refused(NO_GEOMETRY, str(error)) from error
    except (ValueError, RuntimeError, OverflowError) as error:  # ValueError is the base of RDKit's chemistry errors
        raise Refused(REFUSED, first_line(error)) from error
    if not molecule.finite:
        raise Refused(NOT_FINITE, "coordinates")
    given = None if draft.embedded else molecule.positions
    if given is not None and (odd := odd_distances(molecule.numbers, given, molecule.bonds)):
        raise Refused(IMPLAUSIBLE, odd)
    return replace(molecule, name=name, explicit_hydrogens=True), key
