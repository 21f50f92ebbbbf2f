"""The order of the hydrogens of one atom, by where they lie and not by how a file lists them. NumPy only.

Hydrogens of one atom are interchangeable, but a model that puts out one after the other needs to know which comes
first. A code of the three hydrogens of a methyl group that does not depend on their order cannot be undone
continuously: turned by a third of a circle the group is the same again, but each hydrogen has become the next. Here the
first is the first that one meets when going around the bond to the atom's first heavy neighbour, starting in a
direction where hydrogens seldom are. So the step from the last order to the first lies where few molecules see it.

Dimensions: N molecules, A atoms of all molecules, G atoms with several hydrogens.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.flat import FlatMolecules, Integers, Positions, ordered_by_owner

_CARBON = 6
_METHYL_START, _METHYLENE_START, _AMINE_START = 20.0, -75.0, -90.0
"""Degrees from the reference at which one starts: for three hydrogens, for two on carbon, for two on another element.
Few hydrogens of QM9 lie there: within 10 degrees of the start are those of 2.4 % of its methyl groups, of none of its
CH2, of 1.3 % of its NH2 (docs/experiments/order-of-hydrogens.md)."""
_COLLINEAR = 0.25
"""Angstrom: an atom nearer than that to the line of the bond gives no direction."""
_NEIGHBOURS = 4
"""Neighbours of an atom that are looked at."""
_CHAIN = 6
"""Atoms of a chain whose neighbours are looked at."""


def ordered_hydrogens(molecules: FlatMolecules) -> FlatMolecules:
    """The same molecules with the positions of the hydrogens of each heavy atom exchanged into the order of this page.

    Nothing else of two such hydrogens differs. The order does not change when a molecule is turned or shifted, but for
    atoms without a heavy neighbour, such as that of methane, and in molecules with all heavy atoms in a line. Applied
    twice it changes nothing.

    Args:
        molecules: N molecules with explicit hydrogens; those without a geometry stay as they are.
    """
    parents, hydrogen = molecules.parents()
    children, _ = ordered_by_owner(parents, hydrogen)
    owners = parents[children]
    children = children[np.bincount(owners, minlength=len(parents))[owners] > 1]
    if not len(children):
        return molecules
    positions = molecules.positions
    groups, group = np.unique(parents[children], return_inverse=True)
    angles = _angles(molecules, hydrogen, groups, group, positions[children])
    without = np.flatnonzero(np.isnan(angles))
    x, y, z = positions[children[without]].T
    angles[without[np.lexsort((z, y, x))]] = np.arange(len(without)) / max(len(without), 1)
    order = np.argsort(group * 360.0 + angles, kind="stable")
    exchanged = positions.copy()
    exchanged[children] = positions[children[order]]
    return replace(molecules, positions=exchanged)


def _angles(
    molecules: FlatMolecules, hydrogen: NDArray[np.bool_], atoms: Integers, group: Integers, places: Positions
) -> NDArray[np.float64]:
    """Degrees from the start at which each hydrogen lies, seen along the bond; nan where there is no reference.

    Args:
        molecules: all.
        hydrogen: (A,) atoms that hang on others.
        atoms: (G,) those they hang on.
        group: of each hydrogen, among these.
        places: its position.
    """
    positions = molecules.positions.astype(np.float64)
    neighbours = _Neighbours(molecules, hydrogen)
    partner = neighbours(atoms, 0)
    pair = np.where(molecules.numbers[atoms] == _CARBON, _METHYLENE_START, _AMINE_START)
    starts = np.where(np.bincount(group) == 2, pair, _METHYL_START)
    with np.errstate(invalid="ignore", divide="ignore"):
        axis = positions[atoms] - positions[partner]
        axis /= np.linalg.norm(axis, axis=1, keepdims=True)
        reference = _references(neighbours, positions, atoms, partner, axis)
        axis, side = axis[group], np.cross(axis, reference)[group]
        across = places - positions[atoms[group]]
        angles = np.degrees(np.arctan2((across * side).sum(1), (across * reference[group]).sum(1)))
        angles = np.mod(angles - starts[group], 360.0)
    return np.where((partner >= 0)[group] & np.isfinite(angles), angles, np.nan)


def _references(
    neighbours: "_Neighbours", positions: NDArray[np.float64], atoms: Integers, partner: Integers, axis: NDArray[Any]
) -> NDArray[np.float64]:
    """Directions (G, 3) at right angles to the bonds from which angles count; nan where there is none.

    They point to the first atom that is not in line with the bond: of the other neighbours of the atom itself, then of
    those of its partner, then of the atoms that follow it in a chain.
    """
    reference = np.full(axis.shape, np.nan)
    left = np.flatnonzero((partner >= 0) & np.isfinite(axis).all(1))
    here, behind = atoms.copy(), partner.copy()
    for step in range(_CHAIN):
        for place in range(_NEIGHBOURS):
            candidate = _unless(neighbours(here[left], place), behind[left])
            across = positions[candidate] - positions[atoms[left]]
            across -= (across * axis[left]).sum(1, keepdims=True) * axis[left]
            good = (candidate >= 0) & ((across * across).sum(1) > _COLLINEAR**2)
            reference[left[good]] = across[good]
            left = left[~good]
        if step:
            first = _unless(neighbours(here, 0), behind)
            here, behind = np.where(first >= 0, first, neighbours(here, 1)), here
        else:
            here, behind = partner, atoms
    return reference


class _Neighbours:
    """The neighbours of atoms by place, smallest index first; hydrogens that hang on others are none."""

    def __init__(self, molecules: FlatMolecules, hydrogen: NDArray[np.bool_]) -> None:
        offset = np.repeat(molecules.atom_start[:-1], molecules.bonds)
        begin, end = molecules.begin + offset, molecules.end + offset
        kept = ~(hydrogen[begin] | hydrogen[end])
        source = np.concatenate([begin[kept], end[kept]])
        target = np.concatenate([end[kept], begin[kept]])
        self.targets = np.append(target[np.lexsort((target, source))], -1)
        counts = np.bincount(source, minlength=len(hydrogen))
        self.first = np.concatenate([np.cumsum(counts) - counts, [0]])
        self.counts = np.append(counts, 0)

    def __call__(self, atoms: Integers, place: int) -> Integers:
        """The neighbour of each atom at a place; -1 where there is none, or no atom (-1)."""
        there = place < self.counts[atoms]
        return np.where(there, self.targets[np.where(there, self.first[atoms] + place, -1)], -1)


def _unless(atoms: Integers, excluded: Integers) -> Integers:
    return np.where(atoms == excluded, -1, atoms)
