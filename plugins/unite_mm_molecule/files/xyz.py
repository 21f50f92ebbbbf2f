"""XYZ frames: types and positions, with bonds and charges in the comment line so that nothing is lost on the way back.

Read and written without RDKit; only frames without bonds, from other programs, ask it for them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import perceive_bonds, rdkit_installed
from unite_mm_molecule.files.extxyz import Columns, find_columns
from unite_mm_molecule.files.records import BadRecord, Record, UnknownElement
from unite_mm_molecule.metrics.perception import edm_bonds
from unite_mm_molecule.molecule import ATOMIC_NUMBERS, MOST_ATOMS, SYMBOLS, Molecule

_MARK = "unite-mm "
_MOST_LETTERS = 60
"""Letters of a comment line that serve as a name."""


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


@dataclass(frozen=True)
class Frame:
    """A frame as it stands in a file, before bonds are looked for.

    Attributes:
        name: from the comment line.
        numbers: (n,) atomic numbers.
        positions: (n, 3) in angstrom.
        record: what the comment line says of bonds, charges and hydrogens; None in files of other programs.
    """

    name: str
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    record: Record | None = None


def frame_name(text: str) -> str:
    """The name of a frame: in its comment line, or the start of that line."""
    comment = text.split("\n", 2)[1].strip() if "\n" in text else ""
    if comment.startswith(_MARK):
        try:
            return str(_facts(comment)["name"])[:_MOST_LETTERS]
        except (BadRecord, KeyError):
            return ""
    return comment[:_MOST_LETTERS]


def parse_frame(text: str) -> Frame:
    """A frame, as preparation and scoring both read it.

    Args:
        text: as `unite_mm_molecule.files.text` cuts it out.

    Raises:
        BadRecord: an atom line or the comment cannot be understood; UnknownElement: an atom that is no element.
    """
    first, *lines = text.split("\n")
    if not (first.strip().isdecimal() and len(first.strip()) < 10):
        raise BadRecord(f"expected a number of atoms, found {first.strip()[:40]!r}")
    count, comment, rows = int(first), lines[0] if lines else "", lines[1:]
    found = sum(bool(row.strip()) for row in rows)
    if found < count or (found > count and not comment.startswith("gdb ")):
        raise BadRecord(f"{count} atoms are announced, but {found} lines follow")
    name, facts = frame_name(text), _facts(comment) if comment.startswith(_MARK) else None
    numbers, positions = _atoms(rows[:count], find_columns(comment) if facts is None else Columns())
    if facts is None:
        return Frame(name, numbers, positions)
    charges = _integers(facts.get("charges", [0] * len(numbers)), 1)
    molecule = Molecule(numbers, charges, _integers(facts.get("bonds"), 3).reshape(-1, 3), positions, name=name)
    if len(molecule.charges) != len(numbers) or molecule.nonsense():
        raise BadRecord("bonds or charges in the comment do not fit the atoms")
    return Frame(name, numbers, positions, Record(molecule, str(facts.get("hydrogens", ""))))


def read_frame(text: str) -> Record:
    """The molecule of a frame; where the comment names no bonds, they are found from the geometry.

    Raises:
        BadRecord: an atom line or the comment cannot be understood; UnknownElement: an atom that is no element.
    """
    frame = parse_frame(text)
    if frame.record is not None:
        return frame.record
    if len(frame.numbers) > MOST_ATOMS:
        raise BadRecord(f"{len(frame.numbers):,} atoms; bonds are found for at most {MOST_ATOMS}")
    return Record(_with_bonds(frame.numbers, frame.positions, frame.name))


def _atoms(rows: Sequence[str], columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Atomic numbers (n,) and positions (n, 3) of atom lines; other columns are ignored."""
    numbers, positions = [], []
    for row in rows:
        words = row.replace("*^", "e").split()
        try:
            symbol = words[columns.element]
            position = [float(word) for word in words[columns.position : columns.position + 3]]
        except (IndexError, ValueError):
            position = []
        if len(position) != 3:
            raise BadRecord(f"atom line {row.strip()[:100]!r}")
        plain = symbol.isascii() and symbol.isdigit() and len(symbol) < 4
        number = int(symbol) if plain else ATOMIC_NUMBERS.get(symbol.capitalize(), 0)
        if number not in SYMBOLS:
            raise UnknownElement(symbol)
        numbers.append(number)
        positions.append(position)
    return np.array(numbers, dtype=np.int64), np.array(positions, dtype=np.float64).reshape(-1, 3)


def _facts(comment: str) -> dict[str, Any]:
    """What a comment line of ours says."""
    try:
        facts = json.loads(comment[len(_MARK) :])
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"comment line: {first_line(error)[:100]}") from error
    if not isinstance(facts, dict) or "name" not in facts:
        raise BadRecord("comment line: not the facts of a molecule")
    return facts


def _integers(found: Any, width: int) -> NDArray[np.int64]:
    """Whole numbers, or rows of `width` of them, of a comment line."""
    try:
        array = np.array(found)
        if (array.dtype.kind != "i" and array.size) or not isinstance(found, list):
            raise BadRecord("bonds or charges in the comment are not whole numbers")
        if array.size and array.shape[1:] != (() if width == 1 else (width,)):
            raise BadRecord("bonds or charges in the comment do not fit the atoms")
        return array.astype(np.int64)
    except BadRecord:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRecord(f"comment line: {first_line(error)[:100]}") from error


def _with_bonds(numbers: NDArray[np.int64], positions: NDArray[np.float64], name: str) -> Molecule:
    """Bonds from the geometry: RDKit's if it finds a sound neutral molecule, else those of EDM's distance table."""
    if rdkit_installed() and np.isfinite(positions).all():
        from rdkit import rdBase

        with rdBase.BlockLogs():
            try:
                found = Molecule.from_rdkit(perceive_bonds(numbers, positions), name)
                return replace(found, perceived=True)
            except (ValueError, RuntimeError):  # no consistent bonds, or none that can be kekulized
                pass
    bonds = edm_bonds(numbers, positions)
    return Molecule(numbers, np.zeros_like(numbers), bonds, positions, name=name, perceived=True)
