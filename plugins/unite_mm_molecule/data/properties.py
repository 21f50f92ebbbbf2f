"""The properties of QM9's molecules: names, units, and where they are read from. NumPy only.

Dimensions: N molecules, P properties, K of them in the source (P less the atomization energies).
"""

import csv
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.flat import FlatMolecules

Values = NDArray[np.float64]

SOURCE_UNITS = {
    "A": "GHz",
    "B": "GHz",
    "C": "GHz",
    "mu": "D",
    "alpha": "bohr^3",
    "homo": "hartree",
    "lumo": "hartree",
    "gap": "hartree",
    "r2": "bohr^2",
    "zpve": "hartree",
    "U0": "hartree",
    "U": "hartree",
    "H": "hartree",
    "G": "hartree",
    "Cv": "cal/(mol K)",
}
"""Unit of each of the 15 properties of QM9 (Ramakrishnan et al. 2014, table 3), in the order of its files: rotational
constants, dipole moment, isotropic polarizability, energies of HOMO and LUMO and their gap, electronic spatial extent,
zero-point energy, internal energy at 0 K and at 298.15 K, enthalpy, free energy and heat capacity at 298.15 K."""

ATOM_ENERGIES: dict[str, dict[int, float]] = {
    "U0": {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730},
    "U": {1: -0.498857, 6: -37.845355, 7: -54.582445, 8: -75.063163, 9: -99.717314},
    "H": {1: -0.497912, 6: -37.844411, 7: -54.581501, 8: -75.062219, 9: -99.716370},
    "G": {1: -0.510927, 6: -37.861317, 7: -54.598897, 8: -75.079532, 9: -99.733544},
}
"""Energies of free atoms in hartree, by atomic number, at QM9's level of theory (B3LYP/6-31G(2df,p)): the file
`atomref.txt` that is published with QM9 (doi 10.6084/m9.figshare.978904)."""

ATOMIZATION = {energy: f"{energy}_atom" for energy in ATOM_ENERGIES}
"""Energy -> its atomization energy: the energy less those of the free atoms, negative for a bound molecule."""

UNITS = SOURCE_UNITS | {name: SOURCE_UNITS[energy] for energy, name in ATOMIZATION.items()}
"""Unit of each of the P properties, in the order of their columns."""

NAMES = tuple(UNITS)
"""(P,) names of the properties, in the order of their columns."""

_CSV_COLUMNS = {"U": "u298", "H": "h298", "G": "g298", "U0": "u0", "Cv": "cv"}
"""What `gdb9.sdf.csv` calls them, where it is another name."""


def number(text: str) -> float:
    """A number of QM9's files; exponents may be Mathematica's: `1.5*^-6`.

    Raises:
        ValueError: it is none.
    """
    return float(text.replace("*^", "e"))


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
