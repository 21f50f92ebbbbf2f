"""Molecules as a model sees them: which atoms have registers, and which hydrogens ride on them. NumPy only.

Dimensions: N molecules.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.flat import FlatMolecules
from unite_mm_molecule.hydrogen_order import ordered_hydrogens
from unite_mm_molecule.hydrogens import AttachedHydrogens, attach


@dataclass(frozen=True)
class MoleculeView:
    """N molecules as a model of some configuration sees them.

    Attributes:
        native: what goes in and comes out: the atoms of a sample, in its order.
        registers: the atoms that have registers.
        hydrogens: those that ride on these atoms; None where hydrogens are atoms or left out.
        unfit: (N,) True for molecules that cannot be seen so; see `attach`.
    """

    native: FlatMolecules
    registers: FlatMolecules
    hydrogens: AttachedHydrogens | None
    unfit: NDArray[np.bool_]


def view_molecules(molecules: FlatMolecules, config: MoleculeConfig) -> MoleculeView:
    """The hydrogens and the order of atoms that a model of this configuration sees."""
    none = np.zeros(len(molecules), dtype=bool)
    if config.hydrogens == "attached":
        # in the order in which decoded registers are written out
        grouped = ordered_hydrogens(molecules.grouped())
        registers, hydrogens, unfit = attach(grouped)
        return MoleculeView(grouped, registers, hydrogens, unfit)
    if config.hydrogens == "implicit":
        seen = molecules.without_hydrogens()
    else:
        seen = molecules.grouped() if config.atom_order == "grouped" else molecules
    return MoleculeView(seen, seen, None, none)
