"""The properties of QM9's molecules: where they are read from. NumPy only.

Dimensions: N molecules, P properties, K of them in the source (P less the atomization energies).
"""

import csv
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.flat import FlatMolecules
from unite_mm_molecule.properties import ATOM_ENERGIES, SOURCE_UNITS

Values = NDArray[np.float64]

_CSV_COLUMNS = {"U": "u298", "H": "h298", "G": "g298", "U0": "u0", "Cv": "cv"}
"""What `gdb9.sdf.csv` calls them, where it is another name."""


def plain_exponents(text: str) -> str:
    """Numbers of QM9's files, whose exponents may be Mathematica's, as Python reads them: `1.5*^-6` as `1.5e-6`."""
    return text.replace("*^", "e")


def number(text: str) -> float:
    """A number of QM9's files.

    Raises:
        ValueError: it is none.
    """
    return float(plain_exponents(text))


def with_atomization(values: Values, molecules: FlatMolecules) -> Values:
    """The K properties of a source and after them the atomization energies.

    Args:
        values: (N, K) in the order of `SOURCE_UNITS`; nan where a molecule has none.
        molecules: the N molecules, with all their hydrogens.

    Returns:
        (N, P) in the order of `NAMES`; the atomization energies of a molecule that holds an element without
        a reference are nan.
    """
    columns = [values]
    place = list(SOURCE_UNITS)
    for energy, references in ATOM_ENERGIES.items():
        free = np.full(256, np.nan)
        free[list(references)] = list(references.values())
        atoms = np.bincount(molecules.atom_owner, free[molecules.numbers], minlength=len(molecules))
        columns.append((values[:, place.index(energy)] - atoms)[:, None])
    return np.concatenate(columns, axis=1)


def read_property_table(lines: Iterable[str]) -> Mapping[str, Sequence[float]] | None:
    """The properties of `gdb9.sdf.csv`: name of a molecule -> (K,) values in the order of `SOURCE_UNITS`.

    Args:
        lines: of the file.

    Returns:
        None where the first line does not name all the columns. Rows that are incomplete or hold no numbers are left
        out.
    """
    rows = csv.reader(lines)
    header = next(rows, [])
    wanted = ["mol_id", *(_CSV_COLUMNS.get(name, name) for name in SOURCE_UNITS)]
    if not set(wanted) <= set(header):
        return None
    label, *places = (header.index(column) for column in wanted)
    found = {}
    for row in rows:
        try:
            found[row[label]] = tuple(number(row[place]) for place in places)
        except (ValueError, IndexError):
            continue
    return found


def in_order_of(table: Mapping[str, Sequence[float]], molecules: FlatMolecules) -> Values:
    """(N, K) values of the molecules by their names; nan where the table has no such name."""
    none = (np.nan,) * len(SOURCE_UNITS)
    return np.array([table.get(name, none) for name in molecules.names], dtype=np.float64).reshape(-1, len(none))
