"""SDF records (V2000) written and read without RDKit, so that raw, also invalid, molecules survive the trip.

By fixed columns after the CTfile format (Biovia, "CTfile Formats"): coordinates 0-30, symbol 31-34, old-style charge
36-39; bond atoms and order 0-9. Coordinates are written with 4 decimals, charges in `M  CHG` lines, which replace the
old style. The data field `unite_mm_hydrogens` holds the note on hydrogens (see `unite_mm_molecule.files.records`).
"""

from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.files.records import BadRecord, NeedsRdkit, Record, UnknownElement
from unite_mm_molecule.molecule import ATOMIC_NUMBERS, MOST_CHARGE, SYMBOLS, Molecule

HYDROGENS_FIELD = "unite_mm_hydrogens"
MOST_ATOMS = 999
"""The most that three digits of a V2000 counts line can hold."""

_DOUBLET = 4
_CHARGES = {0: 0, 1: 3, 2: 2, 3: 1, _DOUBLET: 0, 5: -1, 6: -2, 7: -3}
"""Charge by the code of an atom line."""
_ELECTRONS = {0: 0, 1: 2, 2: 1, 3: 2}
"""Unpaired electrons, as RDKit counts them, by the code of an `M  RAD` line: none, singlet, doublet, triplet."""


def write_record(record: Record) -> str:
    """A record with its `$$$$` line; valences are not looked at.

    Raises:
        BadRecord: more atoms or bonds than `MOST_ATOMS`.
    """
    molecule = record.molecule
    if max(molecule.size, len(molecule.bonds)) > MOST_ATOMS:
        raise BadRecord(f"{molecule.size} atoms and {len(molecule.bonds)} bonds; SDF V2000 holds at most {MOST_ATOMS}")
    dimension = "  " if molecule.positions is None else "3D"
    positions = np.zeros((molecule.size, 3)) if molecule.positions is None else molecule.positions
    lines = [
        " ".join(molecule.name.split())[:80],
        f"  unite-mm{'':10}{dimension}",
        "",
        f"{molecule.size:3d}{len(molecule.bonds):3d}  0  0  0  0  0  0  0  0999 V2000",
    ]
    for number, place in zip(molecule.numbers.tolist(), positions.tolist(), strict=True):
        x, y, z = map(_coordinate, place)
        lines.append(f"{x}{y}{z} {SYMBOLS[number]:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    lines += [f"{begin + 1:3d}{end + 1:3d}{order:3d}  0" for begin, end, order in molecule.bonds.tolist()]
    charged = [(index + 1, charge) for index, charge in enumerate(molecule.charges.tolist()) if charge]
    for start in range(0, len(charged), 8):
        part = charged[start : start + 8]
        lines.append(f"M  CHG{len(part):3d}" + "".join(f" {index:3d} {charge:3d}" for index, charge in part))
    lines += ["M  END", f"> <{HYDROGENS_FIELD}>", record.hydrogens, "", "$$$$", ""]
    return "\n".join(lines)


def _coordinate(value: float) -> str:
    """Ten columns; what an untrained model may put far away loses decimals rather than columns."""
    text = f"{value:10.4f}"
    return text if len(text) == 10 else f"{value:10.2e}"[:10]


def without_dollars(text: str) -> str:
    """A record of an SDF file without its `$$$$` line, as a MOL block."""
    return f"\n{text}".partition("\n$$$$")[0][1:]


def with_plain_exponents(block: str) -> str:
    """A MOL block in which atom lines with numbers such as `1.5*^-6`, Mathematica's exponents, keep to the columns."""
    lines = block.split("\n")
    for index, line in enumerate(lines):
        words = _split_exponents(line)
        if "*^" in line and len(words) >= 4:
            try:
                x, y, z = (float(word) for word in words[:3])
            except ValueError:
                continue
            lines[index] = f"{x:10.4f}{y:10.4f}{z:10.4f} {words[3]:<3} 0  0  0  0  0  0  0  0  0  0  0  0"
    return "\n".join(lines)


def _split_exponents(line: str) -> list[str]:
    return line.replace("*^", "e").split()


def read_record(text: str) -> Record:
    """The molecule of one record.

    Positions are read where the header says `3D` or any z differs from 0; flat drawings become plain graphs.

    Args:
        text: the record, without its `$$$$` line.

    Raises:
        BadRecord: incomplete, or nonsense; UnknownElement: an atom that is no element.
        NeedsRdkit: V3000, aromatic or query bonds.
    """
    lines = text.split("\n")
    if len(lines) < 4:
        raise BadRecord("incomplete: it ends before the counts line")
    if "V3000" in lines[3]:
        raise NeedsRdkit("V3000")
    counts = (lines[3][:3].strip(), lines[3][3:6].strip())
    if not all(count.isascii() and count.isdigit() for count in counts):
        raise BadRecord(f"counts line {lines[3][:20]!r}")
    atoms, bonds = map(int, counts)
    rest = lines[4 + atoms + bonds :]
    end = next((index for index, line in enumerate(rest) if line.startswith("M  END")), None)
    if len(lines) < 4 + atoms + bonds or end is None:
        raise BadRecord(f"incomplete: {atoms} atoms, {bonds} bonds and an `M  END` line should follow the counts")
    numbers, codes, positions = _atoms(lines[4 : 4 + atoms])
    declared, marked = ([line for line in rest[:end] if line.startswith(kind)] for kind in ("M  CHG", "M  RAD"))
    old = not (declared or marked)  # these lines replace the codes of all atoms
    charges = [_CHARGES[code] for code in codes] if old else _declared(declared, atoms, range(-MOST_CHARGE, 16))
    radicals = sum(_ELECTRONS[code] for code in _declared(marked, atoms, _ELECTRONS))
    flat = lines[1][20:22].upper() != "3D" and not positions[:, 2].any() and bool(np.isfinite(positions).all())
    molecule = Molecule(
        numbers=numbers,
        charges=np.array(charges, dtype=np.int64),
        bonds=_bonds(lines[4 + atoms : 4 + atoms + bonds], atoms),
        positions=None if flat else positions,
        name=lines[0].strip(),
        radicals=codes.count(_DOUBLET) if old else radicals,
    )
    return Record(molecule, _hydrogens_field(rest[end:]))


def _atoms(rows: list[str]) -> tuple[NDArray[np.int64], list[int], NDArray[np.float64]]:
    """Atomic numbers (n,), codes of old-style charges (n,) and positions (n, 3) of the atom lines."""
    numbers, codes, positions = [], [], []
    for index, row in enumerate(rows):
        x, y, z, symbol, code_text = row[0:10], row[10:20], row[20:30], row[31:34].strip(), row[36:39].strip()
        try:
            if "*^" in row:  # QM9's raw file has a few numbers that do not keep to the columns
                x, y, z, symbol, _, code_text = _split_exponents(row)[:6]
            position = (float(x), float(y), float(z))
            code = int(code_text or 0)
        except ValueError:
            code = -1
        if code not in _CHARGES:
            raise BadRecord(f"atom {index + 1}: {row.strip()[:40]!r}")
        number = ATOMIC_NUMBERS.get(symbol) or ATOMIC_NUMBERS.get(symbol.capitalize())
        if number is None:
            raise UnknownElement(symbol, f"atom {index + 1}: ")
        numbers.append(number)
        codes.append(code)
        positions.append(position)
    return np.array(numbers, dtype=np.int64), codes, np.array(positions, dtype=np.float64).reshape(-1, 3)


def _bonds(rows: list[str], atoms: int) -> NDArray[np.int64]:
    """(m, 3) begin, end, order; begin < end."""
    bonds = []
    for index, row in enumerate(rows):
        try:
            begin, end, order = int(row[0:3]) - 1, int(row[3:6]) - 1, int(row[6:9])
        except ValueError:
            raise BadRecord(f"bond {index + 1}: {row.strip()[:40]!r}") from None
        if not (0 <= begin < atoms and 0 <= end < atoms and begin != end):
            raise BadRecord(f"bond {index + 1} joins atoms {begin + 1} and {end + 1} of {atoms}")
        if order not in (1, 2, 3):
            raise NeedsRdkit(f"bond {index + 1} of type {order}")
        bonds.append((begin, end, order) if begin < end else (end, begin, order))
    if len({bond[:2] for bond in bonds}) != len(bonds):
        raise BadRecord("two bonds join the same atoms")
    return np.array(bonds, dtype=np.int64).reshape(-1, 3)


def _declared(lines: list[str], atoms: int, allowed: Container[int]) -> list[int]:
    """(n,) values of the `M  CHG` or `M  RAD` lines, 0 where they name none."""
    found = [0] * atoms
    for line in lines:
        try:
            values = [int(word) for word in line[9:].split()]
            pairs = list(zip(values[0::2], values[1::2], strict=True))
            count = int(line[6:9])
        except ValueError:
            raise BadRecord(f"property line {line[:40]!r}") from None
        if len(pairs) != count or any(not 1 <= index <= atoms or value not in allowed for index, value in pairs):
            raise BadRecord(f"property line {line[:40]!r}")
        for index, value in pairs:
            found[index - 1] = value
    return found


def _hydrogens_field(lines: list[str]) -> str:
    """The value of the field `unite_mm_hydrogens`; empty where there is none."""
    for index, line in enumerate(lines[:-1]):
        if line.startswith(">") and f"<{HYDROGENS_FIELD}>" in line:
            return lines[index + 1].strip()
    return ""
