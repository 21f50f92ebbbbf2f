"""Bond lengths, angles and dihedrals of whole sets of molecules by type, and how far two sets of them are apart.

Needs no RDKit. Dimensions: N atoms, M bonds of all molecules together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.metrics.distributions import total_variation
from unite_mm_molecule.molecule import SYMBOLS, Molecule

Kind = Literal["lengths", "angles", "dihedrals"]
Values = dict[str, NDArray[np.float64]]
"""Sorted values by type, such as those of `C-C-O`."""

COMMONEST = 10
"""Types of each kind that are compared: those most frequent in the reference."""

BINS: dict[Kind, float] = {"lengths": 0.02, "angles": 4.0, "dihedrals": 10.0}
"""Widths of the bins of total variation, in angstrom and degrees."""

LONGEST = 10.0
"""Angstrom at which lengths are cut: what an untrained model draws may be astronomical."""

_AROMATIC = 4
_ORDERS = {1: "single", 2: "double", 3: "triple", _AROMATIC: "aromatic"}
_BASE = 128
"""Above every atomic number: types are coded as digits of this base."""


@dataclass
class InternalCoordinates:
    """Values by type, of each kind.

    Attributes:
        lengths: in angstrom, by elements and order of the bond: `C-N aromatic`.
        angles: in degrees, by elements, the centre in the middle: `C-C-O`.
        dihedrals: unsigned, in degrees, by elements of four heavy atoms in a row: `C-C-C-O`.
    """

    lengths: Values = field(default_factory=dict)
    angles: Values = field(default_factory=dict)
    dihedrals: Values = field(default_factory=dict)

    def of(self, kind: Kind) -> Values:
        """The values of a kind."""
        found: Values = getattr(self, kind)
        return found


def internal_coordinates(
    molecules: Sequence[Molecule], aromatic: Sequence[NDArray[np.bool_]], *, heavy: bool = False
) -> InternalCoordinates:
    """All bond lengths, angles and dihedrals of molecules; those without positions have none.

    Args:
        molecules: finite positions.
        aromatic: for each molecule (m,) whether a bond is aromatic: which of the kekulized forms a molecule has must
            not matter.
        heavy: leave hydrogens out.
    """
    pairs = [(one, ring) for one, ring in zip(molecules, aromatic, strict=True) if one.positions is not None]
    if not pairs:
        return InternalCoordinates()
    numbers = np.concatenate([one.numbers for one, _ in pairs])
    positions = np.concatenate([one.positions for one, _ in pairs if one.positions is not None])
    starts = np.cumsum([0, *(one.size for one, _ in pairs)])[:-1]
    bonds = np.concatenate([one.bonds[:, :2] + start for (one, _), start in zip(pairs, starts, strict=True)])
    orders = np.concatenate([np.where(ring, _AROMATIC, one.bonds[:, 2]) for one, ring in pairs])
    inner = (numbers[bonds] != 1).all(axis=1)
    if heavy:
        bonds, orders = bonds[inner], orders[inner]
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=-1).clip(0, LONGEST)
        chains = _chains(bonds)
        skeleton = bonds if heavy else bonds[inner]
        return InternalCoordinates(
            _by_type(lengths, np.sort(numbers[bonds], axis=1), orders),
            _by_type(_angles(positions, chains), _oriented(numbers[chains])),
            _by_type(_dihedrals(positions, rows := _rows(skeleton)), _oriented(numbers[rows])),
        )


def wasserstein(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """1-D Wasserstein distance of two samples: the area between their cumulative distributions; both sorted."""
    places = np.sort(np.concatenate([first, second]))
    below = [np.searchsorted(one, places[:-1], side="right") / len(one) for one in (first, second)]
    return float((np.abs(below[0] - below[1]) * np.diff(places)).sum())


def binned_variation(first: NDArray[np.float64], second: NDArray[np.float64], width: float) -> float:
    """Total variation distance of two samples in bins of a width."""
    shares = []
    for one in (first, second):
        bins, counts = np.unique(np.floor(one / width).astype(np.int64), return_counts=True)
        shares.append({str(name): count / len(one) for name, count in zip(bins, counts, strict=True)})
    return total_variation(*shares)


def commonest(values: Values) -> list[str]:
    """The types that are compared, the most frequent first."""
    return sorted(values, key=lambda name: (-len(values[name]), name))[:COMMONEST]


def _chains(bonds: NDArray[np.int64]) -> NDArray[np.int64]:
    """(A, 3) atoms a-b-c with both bonds, each once: a < c; bonds (M, 2)."""
    arrows = np.concatenate([bonds, bonds[:, ::-1]])  # both directions
    left, right = _joined(arrows[:, 1], arrows[:, 0])
    chains = np.stack([arrows[left, 0], arrows[left, 1], arrows[right, 1]], axis=1)
    found: NDArray[np.int64] = chains[chains[:, 0] < chains[:, 2]]
    return found


def _rows(bonds: NDArray[np.int64]) -> NDArray[np.int64]:
    """(D, 4) different atoms a-b-c-d with three bonds, each row in one direction; bonds (M, 2)."""
    arrows = np.concatenate([bonds, bonds[:, ::-1]])
    before, middle = _joined(arrows[:, 1], bonds[:, 0])  # a-b before each bond b-c
    a, b, c = arrows[before, 0], bonds[middle, 0], bonds[middle, 1]
    kept = a != c
    a, b, c = a[kept], b[kept], c[kept]
    triple, after = _joined(c, arrows[:, 0])
    rows = np.stack([a[triple], b[triple], c[triple], arrows[after, 1]], axis=1)
    found: NDArray[np.int64] = rows[(rows[:, 3] != rows[:, 1]) & (rows[:, 3] != rows[:, 0])]
    return found


def _joined(left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of indices (i, j) with left[i] == right[j]."""
    order = np.argsort(right, kind="stable")
    ranked = right[order]
    first, last = np.searchsorted(ranked, left, "left"), np.searchsorted(ranked, left, "right")
    counts = last - first
    i = np.repeat(np.arange(len(left)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return i, order[first[i] + within]


def _angles(positions: NDArray[np.float64], chains: NDArray[np.int64]) -> NDArray[np.float64]:
    """(A,) degrees between the bonds of each chain (A, 3)."""
    one, other = (positions[chains[:, end]] - positions[chains[:, 1]] for end in (0, 2))
    return _degrees((one * other).sum(-1), np.linalg.norm(np.cross(one, other), axis=-1))


def _dihedrals(positions: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(D,) unsigned degrees between the planes a-b-c and b-c-d of each row (D, 4): a mirror image has the same."""
    a, b, c, d = (positions[rows[:, k]] for k in range(4))
    one, other = np.cross(a - b, c - b), np.cross(b - c, d - c)
    return _degrees((one * other).sum(-1), np.linalg.norm(np.cross(one, other), axis=-1))


def _degrees(cosine: NDArray[np.float64], sine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles in [0, 180] of cosines and sines of any common length; what overflowed counts as 0."""
    return np.nan_to_num(np.degrees(np.arctan2(sine, cosine)))


def _oriented(elements: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of atomic numbers, each read from the end that makes it smaller."""
    weights = _BASE ** np.arange(elements.shape[1])[::-1]
    back = elements[:, ::-1]
    found: NDArray[np.int64] = np.where(((elements @ weights) <= (back @ weights))[:, None], elements, back)
    return found


def _by_type(
    values: NDArray[np.float64], elements: NDArray[np.int64], orders: NDArray[np.int64] | None = None
) -> Values:
    """Sorted values by the elements (and the bond order) of their atoms."""
    digits = elements if orders is None else np.concatenate([elements, orders[:, None]], axis=1)
    codes = digits @ (_BASE ** np.arange(digits.shape[1])[::-1])
    order = np.lexsort((values, codes))
    kinds, starts = np.unique(codes[order], return_index=True)
    found: Values = {}
    for part, start in zip(np.split(values[order], starts[1:]), starts, strict=False):
        row = digits[order[start]].tolist()
        name = "-".join(SYMBOLS[number] for number in row[: elements.shape[1]])
        found[name if orders is None else f"{name} {_ORDERS[row[-1]]}"] = part
    return found if len(kinds) else {}
