"""Superposition of two sets of points, and whether the atoms of a molecule are plausible distances apart."""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.molecule import SYMBOLS, Molecule, hydrogen_parents

Points = NDArray[np.float64]
"""(n, 3) positions in angstrom."""


def kabsch(mobile: Points, target: Points) -> tuple[Points, Points]:
    """The rotation and translation that lay `mobile` best over `target` (Kabsch 1976).

    Proper rotations only, so that mirror images never coincide.

    Args:
        mobile: (n, 3).
        target: (n, 3), the same points in the same order.

    Returns:
        (3, 3) rotation R and (3,) translation t; `mobile @ R.T + t` is the superposition.

    Raises:
        ValueError: the shapes differ or there is no point.
    """
    if mobile.shape != target.shape or mobile.ndim != 2 or mobile.shape[1] != 3 or len(mobile) == 0:
        raise ValueError(f"cannot superpose points of shapes {mobile.shape} and {target.shape}")
    centre, goal = mobile.mean(axis=0), target.mean(axis=0)
    left, _, right = np.linalg.svd((target - goal).T @ (mobile - centre))
    handedness = np.sign(np.linalg.det(left) * np.linalg.det(right))
    rotation = (left * np.array([1.0, 1.0, handedness])) @ right
    return rotation, goal - rotation @ centre


def aligned_rmsd(mobile: Points, target: Points) -> float:
    """Root mean square distance in angstrom after superposition, over all points in the order given; (n, 3) each.

    Raises:
        ValueError: the shapes differ or there is no point.
    """
    rotation, translation = kabsch(mobile, target)
    difference = mobile @ rotation.T + translation - target
    return float(np.sqrt((difference * difference).sum() / len(mobile)))


# Covalent radii in picometres of hydrogen to curium (Cordero et al. 2008, doi 10.1039/b801115j).
_COVALENT = (
    31, 28, 128, 96, 84, 76, 71, 66, 57, 58, 166, 141, 121, 111, 107, 105, 102, 106, 203, 176, 170, 160, 153, 139, 139,
    132, 126, 124, 132, 122, 122, 120, 119, 120, 120, 116, 220, 195, 190, 175, 164, 154, 147, 146, 142, 139, 145, 144,
    142, 139, 139, 138, 139, 140, 244, 215, 207, 204, 203, 201, 199, 198, 198, 196, 194, 192, 192, 189, 190, 187, 187,
    175, 170, 162, 151, 144, 141, 136, 136, 132, 145, 146, 148, 140, 150, 150, 260, 221, 215, 206, 200, 196, 190, 187,
    180, 169,
)  # fmt: skip
_RADII = np.array([np.nan, *_COVALENT, *[np.nan] * (len(SYMBOLS) - len(_COVALENT))]) / 100
_PLAUSIBLE = (0.6, 1.4)
"""Bond lengths in units of the sum of both radii: those of molecules are 0.8 to 1.2 of it, in bohr 1.5 to 2.3."""
_COINCIDENT = 0.3
"""Angstrom between two atoms, half of the shortest bond."""
_MOST_PAIRS = 1000
"""Atoms up to which all pairs are looked at."""


_MOST_EXCHANGED = 5
"""Hydrogens of one atom of which all orders are tried."""


def odd_distances(numbers: NDArray[np.int64], positions: Points, bonds: NDArray[np.int64] | None = None) -> str:
    """What is odd about the distances between atoms, where they suggest another unit or no geometry; else empty.

    Half of the bonds may be strained or broken in any way: the median of their lengths decides.

    Args:
        numbers: (n,) atomic numbers.
        positions: (n, 3) in angstrom, finite.
        bonds: (m, 3) begin, end, order; None: each atom is taken as bonded to its nearest.
    """
    count = len(numbers)
    if count < 2:
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        if bonds is None:
            if count > _MOST_PAIRS:
                return ""
            apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
            ratios = apart / (_RADII[numbers][:, None] + _RADII[numbers][None])
            np.fill_diagonal(ratios, np.inf)
            nearest = np.nanargmin(ratios, axis=1)
            begin, end = np.arange(count), nearest
        else:
            begin, end = bonds[:, 0], bonds[:, 1]
        lengths = np.linalg.norm(positions[begin] - positions[end], axis=-1)
        known = lengths / (_RADII[numbers[begin]] + _RADII[numbers[end]])
        known = known[~np.isnan(known)]
    if len(lengths) and lengths.min() < _COINCIDENT:
        return f"bonded atoms {lengths.min():.2g} A apart"
    if not len(known) or _PLAUSIBLE[0] <= np.median(known) <= _PLAUSIBLE[1]:
        return ""
    return f"bonds of {np.median(lengths):.3g} A, {np.median(known):.2g} times the usual length"


def reconstruction_rmsd(copy: Molecule, original: Molecule) -> float:
    """RMSD in angstrom after superposition, atom i on atom i, but the hydrogens of one atom in the order that fits.

    They are interchangeable: a decoder whose hydrogens ride on their atoms puts them out in any order. Nothing is
    exchanged in a reconstruction with other atoms or bonds.

    Args:
        copy: the reconstruction, n atoms with finite positions.
        original: the input, likewise.
    """
    assert copy.positions is not None and original.positions is not None
    plain = aligned_rmsd(copy.positions, original.positions)
    if not (np.array_equal(copy.numbers, original.numbers) and _bonds(copy) == _bonds(original)):
        return plain
    begin, end, orders = original.bonds.T
    parents = hydrogen_parents(original.numbers, original.charges, begin, end, orders)
    heavy = original.numbers != 1
    rotations = [np.eye(3)]
    if heavy.any():
        rotations.append(kabsch(copy.positions[heavy], original.positions[heavy])[0])
    ways = [_exchanged(copy.positions @ rotation.T, original.positions, parents) for rotation in rotations]
    return min(plain, *(aligned_rmsd(way, original.positions) for way in ways))


def _exchanged(found: Points, goal: Points, parents: NDArray[np.int64]) -> Points:
    """Points found, the hydrogens of each atom in the order in which they lie nearest to the goal relative to it."""
    result = found.copy()
    riding = parents != np.arange(len(parents))
    for parent in np.flatnonzero(np.bincount(parents[riding], minlength=len(parents)) > 1).tolist():
        children = np.flatnonzero(riding & (parents == parent))
        if len(children) <= _MOST_EXCHANGED:
            there, here = found[children] - found[parent], goal[children] - goal[parent]
            costs = np.square(there[:, None] - here[None]).sum(-1)
            places = np.arange(len(children))
            best = min(permutations(places), key=lambda order: float(costs[np.array(order), places].sum()))
            result[children] = found[children[np.array(best)]]
    return result


def _bonds(molecule: Molecule) -> set[tuple[int, ...]]:
    return {tuple(bond) for bond in molecule.bonds.tolist()}
