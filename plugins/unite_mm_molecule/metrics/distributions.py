"""What molecules are made of: rings, bond orders, elements and sizes, compared between two sets."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from unite_mm_molecule.metrics.assess import Traits
from unite_mm_molecule.molecule import SYMBOLS, Molecule
from unite_mm_schemas.metrics import Histogram

_MOST_RINGS = 6
_LARGEST_RING = 9
_MOST_ROTATABLE = 10
_ORDERS = {1: "single", 2: "double", 3: "triple"}


@dataclass
class StructureCounts:
    """Counts over a set of molecules.

    Attributes:
        molecules: how many.
        rings: number of molecules by rings of each (SSSR: bonds - atoms + fragments).
        orders: number of bonds between heavy atoms by kekulized order.
        elements: number of heavy atoms by element.
        all_elements: number of all atoms by element.
        sizes: number of molecules by heavy atoms of each.
        ring_counts: rings of each molecule.
        heavy_counts: heavy atoms of each molecule.
        atom_counts: all atoms of each molecule, as far as they are explicit.
        ring_sizes: number of rings by atoms of each; empty where traits are not known.
        rotatable: number of molecules by rotatable bonds of each; empty where traits are not known.
        explicit: whether all molecules have explicit hydrogens.
    """

    molecules: int = 0
    rings: Counter[int] = field(default_factory=Counter)
    orders: Counter[int] = field(default_factory=Counter)
    elements: Counter[int] = field(default_factory=Counter)
    all_elements: Counter[int] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    ring_counts: list[float] = field(default_factory=list)
    heavy_counts: list[float] = field(default_factory=list)
    atom_counts: list[float] = field(default_factory=list)
    ring_sizes: Counter[int] = field(default_factory=Counter)
    rotatable: Counter[int] = field(default_factory=Counter)
    explicit: bool = True


def count_structures(molecules: Sequence[Molecule], traits: Sequence[Traits] = ()) -> StructureCounts:
    """Count what molecules are made of; traits of each, where they are known."""
    counts = StructureCounts()
    for found in traits:
        counts.ring_sizes.update(found.ring_sizes)
        counts.rotatable[found.rotatable] += 1
    for molecule in molecules:
        heavy = molecule.numbers != 1
        inner = molecule.bonds[heavy[molecule.bonds[:, 0]] & heavy[molecule.bonds[:, 1]], 2]
        rings = ring_count(molecule)
        counts.molecules += 1
        counts.rings[rings] += 1
        counts.orders.update(inner.tolist())
        counts.elements.update(molecule.numbers[heavy].tolist())
        counts.all_elements.update(molecule.numbers.tolist())
        counts.sizes[int(heavy.sum())] += 1
        counts.ring_counts.append(rings)
        counts.heavy_counts.append(int(heavy.sum()))
        counts.atom_counts.append(molecule.size)
        counts.explicit &= molecule.explicit_hydrogens
    return counts


def ring_count(molecule: Molecule) -> int:
    """Rings of the smallest set (SSSR): bonds - atoms + fragments."""
    parent = np.arange(molecule.size).tolist()

    def root(atom: int) -> int:
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    rings = 0
    for begin, end, _ in molecule.bonds.tolist():
        one, other = root(begin), root(end)
        rings += one == other  # a bond within what is joined already closes a ring
        parent[one] = other
    return rings


def total_variation(first: dict[str, float], second: dict[str, float]) -> float:
    """Half the sum of absolute differences between two distributions; bins that one lacks are 0."""
    return sum(abs(first.get(name, 0.0) - second.get(name, 0.0)) for name in first.keys() | second.keys()) / 2


def histograms(samples: StructureCounts, reference: StructureCounts | None) -> list[Histogram]:
    """Distributions of the samples beside the reference's, with their total variation.

    A distribution over nothing (no molecules, no bond at all) is left out.
    """
    kinds: list[tuple[str, str, Callable[[StructureCounts], Counter[int]], Callable[[int], str]]] = [
        ("rings", "rings per molecule (SSSR)", lambda c: _capped(c.rings, _MOST_RINGS), _ring_name),
        ("ring_sizes", "rings by atoms", lambda c: _capped(c.ring_sizes, _LARGEST_RING), _size_name),
        ("rotatable", "rotatable bonds per molecule", lambda c: _capped(c.rotatable, _MOST_ROTATABLE), _turn_name),
        ("bond_orders", "bonds between heavy atoms, kekulized", lambda c: c.orders, _ORDERS.__getitem__),
        ("elements", "heavy atoms by element", lambda c: c.elements, SYMBOLS.__getitem__),
        ("heavy_atoms", "heavy atoms per molecule", lambda c: c.sizes, str),
    ]
    if samples.explicit and (reference is None or reference.explicit):
        kinds.append(
            (
                "elements_with_hydrogen",
                "all atoms by element",
                lambda c: c.all_elements,
                SYMBOLS.__getitem__,
            )
        )
    return [
        _histogram(name, title, pick, label, samples, reference)
        for name, title, pick, label in kinds
        if pick(samples) and (reference is None or pick(reference))
    ]


def _histogram(
    name: str,
    title: str,
    pick: Callable[[StructureCounts], Counter[int]],
    label: Callable[[int], str],
    samples: StructureCounts,
    reference: StructureCounts | None,
) -> Histogram:
    bins = sorted(pick(samples).keys() | (pick(reference).keys() if reference else set()))
    mine = _shares(pick(samples), bins, label)
    theirs = None if reference is None else _shares(pick(reference), bins, label)
    distance = None if theirs is None else total_variation(mine, theirs)
    return Histogram(name=name, title=title, samples=mine, reference=theirs, total_variation=distance)


def _shares(counts: Counter[int], bins: list[int], label: Callable[[int], str]) -> dict[str, float]:
    return {label(value): counts[value] / counts.total() for value in bins}


def _capped(counts: Counter[int], most: int) -> Counter[int]:
    capped: Counter[int] = Counter()
    for value, count in counts.items():
        capped[min(value, most)] += count
    return capped


def _ring_name(value: int) -> str:
    return _open_ended(value, _MOST_RINGS)


def _size_name(value: int) -> str:
    return _open_ended(value, _LARGEST_RING)


def _turn_name(value: int) -> str:
    return _open_ended(value, _MOST_ROTATABLE)


def _open_ended(value: int, most: int) -> str:
    return f"{value} or more" if value == most else str(value)
