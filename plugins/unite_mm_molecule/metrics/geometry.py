"""Superposition of two sets of points."""

import numpy as np
from numpy.typing import NDArray

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
