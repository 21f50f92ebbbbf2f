"""XYZ frames: types and positions, with bonds and charges in the comment line so that nothing is lost on the way back.

Read and written without RDKit; only frames without bonds, from other programs, ask it for them.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.chemistry import perceive_bonds, rdkit_installed
from unite_mm_molecule.files.records import BadRecord, Record, UnknownElement
from unite_mm_molecule.metrics.perception import edm_bonds
from unite_mm_molecule.molecule import ATOMIC_NUMBERS, SYMBOLS, Molecule

_MARK = "unite-mm "


def write_frame(record: Record) -> str:
    """One frame: count, comment, one line per atom with 6 decimals; valences are not looked at.

    Raises:
        BadRecord: the molecule has no positions.
    """
    molecule = record.molecule
    if molecule.positions is None:
        raise BadRecord("no positions, which XYZ is made of")
    facts: dict[str, Any] = {"name": molecule.name, "hydrogens": record.hydrogens, "bonds": molecule.bonds.tolist()}
    if molecule.charges.any():
        facts["charges"] = molecule.charges.tolist()
    lines = [str(molecule.size), _MARK + json.dumps(facts, separators=(",", ":"))]
    for number, (x, y, z) in zip(molecule.numbers.tolist(), molecule.positions.tolist(), strict=True):
        lines.append(f"{SYMBOLS[number]:<2} {x:14.6f} {y:14.6f} {z:14.6f}")
    return "\n".join(lines) + "\n"


def split_frame(text: str) -> tuple[str, list[str]]:
    """The comment and the atom lines of a frame, as `unite_mm_molecule.files.text` cuts them out."""
    count, comment, *rows = text.split("\n")
    return comment, rows[: int(count)]


def parse_atoms(rows: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Atomic numbers (n,) and positions (n, 3) of atom lines; further columns are ignored.

    Raises:
        BadRecord: a line is not an element (a symbol or an atomic number) and three numbers.
        UnknownElement: the plugin does not know it.
    """
    numbers, positions = [], []
    for row in rows:
        words = row.replace("*^", "e").split()
        try:
            symbol, position = words[0].capitalize(), [float(word) for word in words[1:4]]
        except (IndexError, ValueError):
            position = []
        if len(position) != 3:
            raise BadRecord(f"atom line {row.strip()[:100]!r}")
        number = int(symbol) if symbol.isdecimal() else ATOMIC_NUMBERS.get(symbol, 0)
        if number not in SYMBOLS:
            raise UnknownElement(symbol)
        numbers.append(number)
        positions.append(position)
    return np.array(numbers, dtype=np.int64), np.array(positions, dtype=np.float64).reshape(-1, 3)


def read_frame(text: str) -> Record:
    """The molecule of a frame; where the comment names no bonds, they are found from the geometry.

    Raises:
        BadRecord: an atom line or the comment cannot be understood.
    """
    comment, rows = split_frame(text)
    numbers, positions = parse_atoms(rows)
    if not comment.startswith(_MARK):
        return Record(_with_bonds(numbers, positions, comment.strip()[:60]))
    try:
        facts = json.loads(comment[len(_MARK) :])
        bonds = np.array(facts["bonds"], dtype=np.int64).reshape(-1, 3)
        charges = np.array(facts.get("charges", np.zeros_like(numbers)), dtype=np.int64)
        name, hydrogens = str(facts["name"]), str(facts["hydrogens"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRecord(f"comment line: {error}") from error
    if charges.shape != numbers.shape or not _sound_bonds(bonds, len(numbers)):
        raise BadRecord("bonds or charges in the comment do not fit the atoms")
    return Record(Molecule(numbers, charges, bonds, positions, name=name), hydrogens)


def _sound_bonds(bonds: NDArray[np.int64], atoms: int) -> bool:
    """Whether bonds (m, 3) join two atoms that exist, begin < end, orders 1 to 3."""
    begin, end, order = bonds.T
    return bool(
        (begin >= 0).all() and (begin < end).all() and (end < atoms).all() and ((order >= 1) & (order <= 3)).all()
    )


def _with_bonds(numbers: NDArray[np.int64], positions: NDArray[np.float64], name: str) -> Molecule:
    """Bonds from the geometry: RDKit's if it finds a sound neutral molecule, else those of EDM's distance table."""
    if rdkit_installed() and np.isfinite(positions).all():
        from rdkit import rdBase

        with rdBase.BlockLogs():
            try:
                return Molecule.from_rdkit(perceive_bonds(numbers, positions), name)
            except ValueError:  # no consistent bonds, or none that can be kekulized
                pass
    return Molecule(numbers, np.zeros_like(numbers), edm_bonds(numbers, positions), positions, name=name)
