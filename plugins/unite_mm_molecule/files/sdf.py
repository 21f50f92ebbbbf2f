"""SDF records (V2000) written and read without RDKit, so that raw, also invalid, molecules survive the trip.

Written by fixed columns after the CTfile format (Biovia, "CTfile Formats"): coordinates with 4 decimals, charges in
`M  CHG` lines. The data field `unite_mm_hydrogens` tells a later reader which hydrogens are the molecule's own:
`explicit`; `implicit` (none are, and none were added); `added N` (the first N atoms are its own).
"""

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.molecule import SYMBOLS, Molecule

HYDROGENS_FIELD = "unite_mm_hydrogens"
MOST_ATOMS = 999
"""What the three digits of a V2000 counts line can say."""

_NUMBERS = {symbol: number for number, symbol in SYMBOLS.items()}
_OLD_CHARGES = {0: 0, 1: 3, 2: 2, 3: 1, 4: 0, 5: -1, 6: -2, 7: -3}  # code of the atom line; 4 is a doublet radical


class BadRecord(ValueError):
    """A record that cannot be understood; the message says why."""


class NeedsRdkit(Exception):
    """A record of a kind that is left to RDKit: V3000, aromatic or query bonds."""


def write_record(molecule: Molecule, hydrogens: str) -> str:
    """One record with its `$$$$` line.

    Args:
        molecule: at most `MOST_ATOMS` atoms; valences are not looked at.
        hydrogens: value of the field `unite_mm_hydrogens`.

    Raises:
        BadRecord: too many atoms or bonds.
    """
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
    lines += ["M  END", f"> <{HYDROGENS_FIELD}>", hydrogens, "", "$$$$", ""]
    return "\n".join(lines)


def _coordinate(value: float) -> str:
    """Ten columns; what an untrained model may put far away loses decimals rather than columns."""
    text = f"{value:10.4f}"
    return text if len(text) == 10 else f"{value:10.2e}"[:10]


def read_record(text: str) -> tuple[Molecule, str]:
    """The molecule of one record and the value of its field `unite_mm_hydrogens` (empty if there is none).

    The molecule has all atoms of the record and is marked as having explicit hydrogens. Positions are read where the
    header says `3D` or any z differs from 0; flat drawings become plain graphs.

    Args:
        text: the record, without its `$$$$` line.

    Raises:
        BadRecord: cut off, or nonsense.
        NeedsRdkit: V3000, aromatic or query bonds.
    """
    lines = text.split("\n")
    if len(lines) < 4:
        raise BadRecord("cut off before the counts line")
    if "V3000" in lines[3]:
        raise NeedsRdkit("V3000")
    try:
        atoms, bonds = int(lines[3][:3]), int(lines[3][3:6])
    except ValueError:
        raise BadRecord(f"counts line {lines[3][:20]!r}") from None
    rest = lines[4 + atoms + bonds :]
    end = next((index for index, line in enumerate(rest) if line.startswith("M  END")), None)
    if len(lines) < 4 + atoms + bonds or end is None:
        raise BadRecord(f"cut off: {atoms} atoms, {bonds} bonds and an `M  END` line should follow the counts")
    numbers, charges, positions = _atoms(lines[4 : 4 + atoms])
    declared = [line for line in rest[:end] if line.startswith("M  CHG")]
    if declared:
        charges = _charges(declared, atoms)
    flat = lines[1][20:22].upper() != "3D" and not positions[:, 2].any()
    molecule = Molecule(
        numbers=numbers,
        charges=charges,
        bonds=_bonds(lines[4 + atoms : 4 + atoms + bonds], atoms),
        positions=None if flat else positions,
        name=lines[0].strip(),
    )
    return molecule, _field(rest[end:])


def _atoms(rows: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Atomic numbers (n,), charges (n,) of the old kind and positions (n, 3) of the atom lines."""
    numbers, charges, positions = [], [], []
    for index, row in enumerate(rows):
        columns = [row[0:10], row[10:20], row[20:30], row[31:34], row[34:36], row[36:39]]
        if "*^" in row:  # QM9's raw file has numbers such as 1.5*^-6, which do not keep to the columns
            columns = row.replace("*^", "e").split()
        try:
            place = [float(column) for column in columns[:3]]
            symbol = columns[3].strip()
            charge = _OLD_CHARGES[int(columns[5].strip() or 0)]
        except (ValueError, KeyError, IndexError):
            raise BadRecord(f"atom {index + 1}: {row.strip()[:40]!r}") from None
        if symbol not in _NUMBERS:
            raise BadRecord(f"atom {index + 1}: unknown element {symbol!r}; known are {', '.join(_NUMBERS)}")
        numbers.append(_NUMBERS[symbol])
        charges.append(charge)
        positions.append(place)
    return (
        np.array(numbers, dtype=np.int64),
        np.array(charges, dtype=np.int64),
        np.array(positions, dtype=np.float64).reshape(-1, 3),
    )


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
        bonds.append((min(begin, end), max(begin, end), order))
    if len({bond[:2] for bond in bonds}) != len(bonds):
        raise BadRecord("two bonds join the same atoms")
    return np.array(bonds, dtype=np.int64).reshape(-1, 3)


def _charges(lines: list[str], atoms: int) -> NDArray[np.int64]:
    """(n,) charges of the `M  CHG` lines, which replace the old kind."""
    charges = np.zeros(atoms, dtype=np.int64)
    for line in lines:
        try:
            values = [int(word) for word in line[9:].split()]
            pairs = list(zip(values[0::2], values[1::2], strict=True))
        except ValueError:
            raise BadRecord(f"charge line {line!r}") from None
        if len(pairs) != int(line[6:9]) or any(not 1 <= index <= atoms for index, _ in pairs):
            raise BadRecord(f"charge line {line!r}")
        for index, charge in pairs:
            charges[index - 1] = charge
    return charges


def _field(lines: list[str]) -> str:
    """The value of the field `unite_mm_hydrogens`."""
    for index, line in enumerate(lines[:-1]):
        if line.startswith(">") and f"<{HYDROGENS_FIELD}>" in line:
            return lines[index + 1].strip()
    return ""
