"""Hydrogens that ride on their atoms: one register for a heavy atom and the hydrogens it carries.

How many an atom carries is not stored anywhere: it follows from its element, its charge and the orders of its bonds, as
in SMILES. NumPy only.

Dimensions: N molecules, A atoms of all molecules, T elements, C charges, R atoms with a register.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.chemistry import STANDARD_VALENCES
from unite_mm_molecule.flat import FlatMolecules, Integers, Positions, ordered_by_owner
from unite_mm_molecule.molecule import Molecule

SLOTS = 4
"""The most hydrogens that ride on an atom; the hydrogens of an atom with more have registers of their own."""

ORDER_SUMS = 16
"""Sums of bond orders that the rule tells apart: 0 to 15; larger ones count as 15, which no valence reaches."""

_CARBON_GROUP = (6, 14)
_BORON = 5


@dataclass(frozen=True)
class AttachedHydrogens:
    """The hydrogens of R atoms.

    Attributes:
        counts: (R,) how many each atom carries, 0 to `SLOTS`.
        offsets: (R, SLOTS, 3) their positions relative to the atom in angstrom, the first `counts` of each; else 0.
    """

    counts: NDArray[np.uint8]
    offsets: Positions


def attach(molecules: FlatMolecules) -> tuple[FlatMolecules, AttachedHydrogens, NDArray[np.bool_]]:
    """Take away the hydrogens that ride on their atoms.

    A hydrogen rides if it hangs on a heavy atom (see `hydrogen_parents`) and the rule finds exactly the hydrogens that
    this atom has. Otherwise all hydrogens of the atom stay atoms, as in a bridged borane: their bonds then use up the
    atom's valence.

    Args:
        molecules: N molecules with all their hydrogens.

    Returns:
        The molecules without these hydrogens, in the same order; the hydrogens of their R atoms; and (N,) True for a
        molecule that this cannot express, because an atom has fewer hydrogens than its valence asks for.
    """
    parents, hydrogen = molecules.parents()
    sums = molecules.order_sums()
    hanging = np.bincount(parents[hydrogen], minlength=len(parents))
    ruled = ruled_counts(molecules.numbers, molecules.charges, sums - hanging)
    riding = hydrogen & ((hanging == ruled) & (hanging <= SLOTS))[parents]
    carried = np.bincount(parents[riding], minlength=len(parents))
    wrong = ruled_counts(molecules.numbers, molecules.charges, sums - carried) != carried
    unfit = np.bincount(molecules.atom_owner[wrong & ~riding], minlength=len(molecules)) > 0
    offsets = np.zeros((len(parents), SLOTS, 3), dtype=np.float32)
    children, slots = ordered_by_owner(parents, riding)
    owners = parents[children]
    offsets[owners, slots] = molecules.positions[children] - molecules.positions[owners]
    kept = ~riding
    return molecules.without_atoms(riding), AttachedHydrogens(carried[kept].astype(np.uint8), offsets[kept]), unfit


def with_hydrogens(molecule: Molecule, counts: Integers, offsets: NDArray[np.float64] | None) -> Molecule:
    """The molecule with its attached hydrogens as atoms, each heavy atom followed by its own.

    Args:
        molecule: n atoms that have registers.
        counts: (n,) hydrogens of each.
        offsets: (at least n, at least max(counts), 3) in angstrom; None for plain graphs.
    """
    owner = np.repeat(np.arange(molecule.size), counts + 1)
    first = np.arange(molecule.size) + np.cumsum(counts) - counts
    slot = np.arange(len(owner)) - first[owner] - 1  # -1 for the atoms themselves
    hydrogen = slot >= 0
    own = np.stack([first[owner], np.arange(len(owner)), np.ones_like(owner)], axis=1)[hydrogen]
    heavy = np.column_stack([first[molecule.bonds[:, :2]], molecule.bonds[:, 2]])
    bonds = np.concatenate([heavy, own])
    positions = None
    if molecule.positions is not None and offsets is not None:
        positions = molecule.positions[owner]
        positions[hydrogen] += offsets[owner[hydrogen], slot[hydrogen]]
    return replace(
        molecule,
        numbers=np.where(hydrogen, 1, molecule.numbers[owner]),
        charges=np.where(hydrogen, 0, molecule.charges[owner]),
        bonds=bonds[np.lexsort((bonds[:, 1], bonds[:, 0]))],
        positions=positions,
        explicit_hydrogens=True,
    )


def ruled_counts(numbers: NDArray[np.uint8], charges: NDArray[np.int8], sums: Integers) -> Integers:
    """(A,) hydrogens that each atom carries by the rule of `hydrogen_count`."""
    kinds = numbers.astype(np.int64) * 256 + charges + 128
    table = np.zeros((256 * 256, ORDER_SUMS), dtype=np.int64)
    for kind in np.flatnonzero(np.bincount(kinds)).tolist():
        table[kind] = [hydrogen_count(kind // 256, kind % 256 - 128, total) for total in range(ORDER_SUMS)]
    return np.asarray(table[kinds, np.minimum(sums, ORDER_SUMS - 1)])


def count_table(elements: Sequence[int], charges: Sequence[int]) -> Integers:
    """(T, C, ORDER_SUMS) `hydrogen_count` of every element and charge, cut to `SLOTS`."""
    counts = [[[hydrogen_count(z, q, n) for n in range(ORDER_SUMS)] for q in charges] for z in elements]
    return np.minimum(np.array(counts, dtype=np.int64).reshape(len(elements), len(charges), ORDER_SUMS), SLOTS)


@cache
def hydrogen_count(number: int, charge: int, orders: int) -> int:
    """Hydrogens of an atom: its valence less the orders of its bonds, at least 0.

    The valence is the ordinary one of the element plus the charge; less the charge for boron, less its size for carbon
    and silicon. An element with several, such as sulfur, has the smallest that its bonds fit into. Hydrogen, and
    elements without an ordinary valence, carry none.

    Args:
        number: atomic number.
        charge: formal charge.
        orders: sum of the orders of the bonds to atoms that have registers.
    """
    if number == 1:
        return 0
    shift = -abs(charge) if number in _CARBON_GROUP else -charge if number == _BORON else charge
    room = [valence + shift - orders for valence in STANDARD_VALENCES.get(number, ())]
    return min((left for left in room if left >= 0), default=0)
