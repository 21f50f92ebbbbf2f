"""XYZ frames: types and positions, with bonds and charges in the comment line so that nothing is lost on the way back.

Read and written without RDKit; only frames without bonds, from other programs, ask it for them.
"""

import json
from importlib.util import find_spec
from typing import Any

import numpy as np

from unite_mm_molecule.files.sdf import BadRecord
from unite_mm_molecule.metrics.perception import edm_bonds
from unite_mm_molecule.molecule import SYMBOLS, Molecule

_MARK = "unite-mm "
_NUMBERS = {symbol: number for number, symbol in SYMBOLS.items()}


def write_frame(molecule: Molecule, hydrogens: str) -> str:
    """One frame: count, comment, one line per atom with 6 decimals.

    Args:
        molecule: with positions; valences are not looked at.
        hydrogens: note on hydrogens, kept in the comment.

    Raises:
        BadRecord: it has no positions.
    """
    if molecule.positions is None:
        raise BadRecord("no positions, which XYZ is made of")
    facts: dict[str, Any] = {"name": molecule.name, "hydrogens": hydrogens, "bonds": molecule.bonds.tolist()}
    if molecule.charges.any():
        facts["charges"] = molecule.charges.tolist()
    lines = [str(molecule.size), _MARK + json.dumps(facts, separators=(",", ":"))]
    for number, (x, y, z) in zip(molecule.numbers.tolist(), molecule.positions.tolist(), strict=True):
        lines.append(f"{SYMBOLS[number]:<2} {x:14.6f} {y:14.6f} {z:14.6f}")
    return "\n".join(lines) + "\n"


def read_frames(text: str) -> list[tuple[Molecule, str]]:
    """All frames: molecules, marked as having explicit hydrogens, and their notes on hydrogens (empty if foreign).

    Raises:
        BadRecord: cut off, or nonsense; the message names frame and line.
    """
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    frames: list[tuple[Molecule, str]] = []
    at = 0
    while at < len(lines):
        where = f"frame {len(frames) + 1} (line {at + 1})"
        if not lines[at].strip().isdecimal():
            raise BadRecord(f"{where}: {lines[at].strip()[:40]!r} where the number of atoms should stand")
        count = int(lines[at])
        rows = lines[at + 2 : at + 2 + count]
        if len(rows) < count or at + 1 >= len(lines):
            raise BadRecord(f"{where}: cut off: {len(rows)} of {count} atom lines")
        try:
            frames.append(_frame(lines[at + 1], rows))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BadRecord(f"{where}: {error}") from error
        at += 2 + count
    return frames


def _frame(comment: str, rows: list[str]) -> tuple[Molecule, str]:
    numbers, positions = [], []
    for row in rows:
        words = row.replace("*^", "e").split()
        if len(words) < 4:
            raise BadRecord(f"atom line {row.strip()[:40]!r}")
        number = int(words[0]) if words[0].isdecimal() else _NUMBERS.get(words[0].capitalize(), 0)
        if number not in SYMBOLS:
            raise BadRecord(f"unknown element {words[0]!r}; known are {', '.join(_NUMBERS)}")
        numbers.append(number)
        positions.append([float(word) for word in words[1:4]])
    bare = Molecule(
        numbers=np.array(numbers, dtype=np.int64),
        charges=np.zeros(len(numbers), dtype=np.int64),
        bonds=np.empty((0, 3), dtype=np.int64),
        positions=np.array(positions, dtype=np.float64).reshape(-1, 3),
        name=comment.strip()[:60],
    )
    if not comment.startswith(_MARK):
        return _with_bonds(bare), ""
    facts = json.loads(comment[len(_MARK) :])
    bonds = np.array(facts["bonds"], dtype=np.int64).reshape(-1, 3)
    charges = np.array(facts.get("charges", bare.charges), dtype=np.int64)
    if len(charges) != bare.size or (len(bonds) and not _sound_bonds(bonds, bare.size)):
        raise BadRecord("bonds or charges in the comment do not fit the atoms")
    whole = Molecule(bare.numbers, charges, bonds, bare.positions, True, str(facts["name"]))
    return whole, str(facts["hydrogens"])


def _sound_bonds(bonds: np.ndarray[Any, np.dtype[np.int64]], atoms: int) -> bool:
    """Whether bonds (m, 3) join two atoms that exist, begin < end, orders 1 to 3."""
    begin, end, order = bonds.T
    return bool(
        (begin >= 0).all() and (begin < end).all() and (end < atoms).all() and ((order >= 1) & (order <= 3)).all()
    )


def _with_bonds(bare: Molecule) -> Molecule:
    """Bonds from the geometry: RDKit's if it finds a sound neutral molecule, else those of EDM's distance table."""
    assert bare.positions is not None
    if find_spec("rdkit") is not None:
        from rdkit import rdBase

        from unite_mm_molecule.data.convert import Refused, perceive_bonds

        with rdBase.BlockLogs():
            try:
                return Molecule.from_rdkit(perceive_bonds(bare.numbers, bare.positions), bare.name)
            except (Refused, ValueError):
                pass
    return Molecule(bare.numbers, bare.charges, edm_bonds(bare.numbers, bare.positions), bare.positions, name=bare.name)
