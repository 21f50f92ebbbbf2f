"""One piece of a source into checked molecules: what worker processes do while data is prepared. Needs RDKit.

Every molecule either passes all checks or is refused with a reason that ends up in the data-set card. RDKit decides
what is chemistry: it reads, sanitizes and names the molecule. The arrays themselves are cut out of the text by fixed
columns: walking over the atoms of an RDKit molecule in Python (0.24 ms) takes longer than sanitizing it (0.05 ms).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.chemistry import canonical_smiles
from unite_mm_molecule.data.flat import FlatMolecules
from unite_mm_molecule.molecule import SYMBOLS, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

UNCHARACTERIZED = "listed as uncharacterized (geometry and bonds disagree)"
UNREADABLE = "cannot be read"
NO_ATOMS = "holds no atom"
UNKNOWN_ELEMENT = "holds an element that the plugin does not know"
REFUSED = "refused by RDKit (valence, charge or aromaticity)"
FRAGMENTS = "more than one fragment"
RADICAL = "an atom is short of bonds (radical or missing hydrogen)"
NOT_FINITE = "coordinates that are not finite numbers"
NO_BONDS = "no consistent bonds found from the geometry (total charge 0 assumed)"
NO_GEOMETRY = "no 3D geometry could be made"

_NUMBERS = {symbol: number for number, symbol in SYMBOLS.items()}
_ORDINARY_VALENCE = {1: 1, 5: 3, 6: 4, 7: 3, 8: 2, 9: 1, 14: 4, 15: 3, 16: 2, 17: 1, 35: 1, 53: 1}
_VALENCE = np.array([_ORDINARY_VALENCE.get(number, 0) for number in range(max(SYMBOLS) + 1)])
_CHARGE_CODES = {"0": 0, "": 0, "1": 3, "2": 2, "3": 1, "5": -1, "6": -2, "7": -3}
_EMBEDDING_SEED = 61453


class Refused(Exception):
    """A molecule that is left out.

    Args:
        reason: one of the constants of this module: molecules are counted by it.
        detail: what exactly, for the examples in the card.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = " ".join(detail.split())[:120]


@dataclass(frozen=True)
class Piece:
    """Some consecutive molecules of a source.

    Attributes:
        kind: format of `text`; `records` for molecules that are arrays already.
        first: index in the source of the first one.
        count: how many.
        text: the molecules; empty for `records`.
        records: the molecules; None for text.
        skip: indices in the source of molecules to leave out as uncharacterized.
    """

    kind: Literal["sdf", "xyz", "smiles", "records"]
    first: int
    count: int
    text: bytes = b""
    records: FlatMolecules | None = None
    skip: frozenset[int] = frozenset()


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
                draft = _draft(piece.kind, source)
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


def _entries(piece: Piece) -> Iterator[tuple[str, "str | Molecule"]]:
    """(name, molecule as text or record) of each molecule."""
    text = piece.text.decode("utf-8", errors="replace").replace("\r\n", "\n")
    if piece.records is not None:
        for index in range(len(piece.records)):
            record = piece.records.molecule(index)
            yield record.name, record
    elif piece.kind == "sdf":
        for block in split_blocks(text):
            yield block.split("\n", 1)[0].strip(), block
    elif piece.kind == "xyz":
        lines = text.split("\n")
        at = 0
        while at < len(lines) and lines[at].strip():
            count = int(lines[at])
            yield lines[at + 1].strip()[:60], "\n".join(lines[at + 2 : at + 2 + count])
            at += 2 + count
    else:
        for line in filter(str.strip, text.split("\n")):
            smiles, *rest = line.split(maxsplit=1)
            yield (rest[0].strip() if rest else smiles), smiles


def split_blocks(text: str) -> list[str]:
    """The molecules of SDF text, each up to its `$$$$` line, which is left out."""
    blocks = f"\n{text}".split("\n$$$$")
    # What follows the dollars on their line belongs to nothing.
    blocks = [blocks[0][1:], *(block.split("\n", 1)[1] if "\n" in block else "" for block in blocks[1:])]
    return blocks if blocks[-1].strip() else blocks[:-1]


def _draft(kind: str, source: "str | Molecule") -> _Draft:
    from rdkit import Chem

    if isinstance(source, Molecule):
        _check_elements(source.numbers)
        # Left to itself RDKit would call atoms short of bonds radicals; told that hydrogens may be missing, it counts
        # them, which is quicker to ask for.
        return _Draft(replace(source, explicit_hydrogens=False).to_rdkit(sanitize=False), source)
    if kind == "sdf":
        block = _repair_exponents(source) if "*^" in source else source
        mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        if mol is None:
            raise Refused(UNREADABLE, "not a valid MOL block")
        return _Draft(mol, _plain_arrays(block, mol))
    if kind == "xyz":
        return _Draft(perceive_bonds(*_xyz_atoms(source)))
    mol = Chem.MolFromSmiles(source, sanitize=False)
    if mol is None:
        raise Refused(UNREADABLE, "not a valid SMILES")
    return _Draft(mol)


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
        raise Refused(REFUSED, str(error).split("\n", 1)[0]) from error
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

    Fixed columns: coordinates 0-30, symbol 31-34, old-style charge 36-39; bond atoms and order 0-9. Radicals, isotopes,
    aromatic bonds, unknown elements and neutral atoms above their ordinary valence (which RDKit may rewrite, such as
    N(=O)=O) are left to RDKit.
    """
    lines = block.split("\n")
    header = lines[3]
    if "V2000" not in header or "M  RAD" in block or "M  ISO" in block or "M  ZBO" in block or not _is_3d(mol):
        return None
    try:
        count, bond_count = int(header[0:3]), int(header[3:6])
        rows, bond_rows = lines[4 : 4 + count], lines[4 + count : 4 + count + bond_count]
        numbers = np.array([_NUMBERS[row[31:34].strip()] for row in rows], dtype=np.int64)
        charges = np.array([_CHARGE_CODES[row[36:39].strip()] for row in rows], dtype=np.int64)
        places = [(float(row[0:10]), float(row[10:20]), float(row[20:30])) for row in rows]
        bonds = np.array(
            [(int(row[0:3]) - 1, int(row[3:6]) - 1, int(row[6:9])) for row in bond_rows], dtype=np.int64
        ).reshape(-1, 3)
        declared = [line for line in lines[4 + count + bond_count :] if line.startswith("M  CHG")]
        if declared:  # these lines replace the old-style charges
            charges[:] = 0
        for line in declared:
            fields = [int(value) for value in line[9:].split()]
            charges[np.array(fields[0::2]) - 1] = fields[1::2]
    except (KeyError, ValueError, IndexError):
        return None
    if not np.isin(bonds[:, 2], (1, 2, 3)).all() or count != mol.GetNumAtoms():
        return None
    order = bonds[:, 2].astype(np.float64)
    valence = np.bincount(bonds[:, 0], order, count) + np.bincount(bonds[:, 1], order, count)
    if ((charges == 0) & (valence > _VALENCE[numbers])).any():
        return None
    bonds[:, :2].sort(axis=1)
    return Molecule(numbers=numbers, charges=charges, bonds=bonds, positions=np.array(places))


def _repair_exponents(block: str) -> str:
    """Rewrite atom lines with numbers such as `1.5*^-6`, Mathematica's exponents, into fixed columns."""
    lines = block.split("\n")
    for index, line in enumerate(lines):
        words = line.replace("*^", "e").split()
        if "*^" in line and len(words) >= 4:
            try:
                x, y, z = (float(word) for word in words[:3])
            except ValueError:
                continue
            lines[index] = f"{x:10.4f}{y:10.4f}{z:10.4f} {words[3]:<3} 0  0  0  0  0  0  0  0  0  0  0  0"
    return "\n".join(lines)


def _xyz_atoms(text: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Atomic numbers (n,) and positions (n, 3) of the atom lines of an XYZ frame; further columns are ignored."""
    numbers, positions = [], []
    for line in text.split("\n"):
        words = line.replace("*^", "e").split()
        try:
            symbol, place = words[0].capitalize(), [float(word) for word in words[1:4]]
        except (IndexError, ValueError) as error:
            raise Refused(UNREADABLE, f"atom line {line.strip()!r}") from error
        if len(place) != 3:
            raise Refused(UNREADABLE, f"atom line {line.strip()!r}")
        number = int(symbol) if symbol.isdecimal() else _NUMBERS.get(symbol, 0)
        if number not in SYMBOLS:
            raise Refused(UNKNOWN_ELEMENT, symbol)
        numbers.append(number)
        positions.append(place)
    return np.array(numbers, dtype=np.int64), np.array(positions, dtype=np.float64).reshape(-1, 3)


def perceive_bonds(numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> "Mol":
    """The neutral molecule whose bonds follow from its geometry (RDKit's DetermineBonds), sanitized.

    Args:
        numbers: (n,) atomic numbers.
        positions: (n, 3) in angstrom.

    Raises:
        Refused: no consistent set of bonds exists, or the coordinates are not finite.
    """
    from rdkit.Chem import rdDetermineBonds

    if not np.isfinite(positions).all():
        raise Refused(NOT_FINITE, "coordinates")
    atoms = Molecule(numbers, np.zeros_like(numbers), np.empty((0, 3), dtype=np.int64), positions)
    mol = atoms.to_rdkit(sanitize=False)
    try:
        rdDetermineBonds.DetermineBonds(mol, charge=0, embedChiral=False)
    except (ValueError, RuntimeError) as error:
        raise Refused(NO_BONDS, str(error).split("\n", 1)[0]) from error
    return mol


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
