"""The properties of QM9's molecules: names, units, energies of free atoms.

Dimensions: P properties, K of them in the source (P less the atomization energies).
"""

from collections.abc import Iterable

from unite_mm_molecule.molecule import SYMBOLS

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


def property_labels(names: Iterable[str], *, beside_formula: bool) -> list[str]:
    """Names by which callers ask for properties.

    QM9 calls a rotational constant C and the enthalpy H: beside a formula such a name has its unit at the end (C_GHz,
    H_hartree), for the bare one is an element.
    """
    taken = set(SYMBOLS.values()) if beside_formula else set()
    return [f"{name}_{UNITS[name]}" if name in taken else name for name in names]
