"""A set of strictly valid molecules as distributions, and the distances between two such sets."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.metrics.assess import Assessment
from unite_mm_molecule.metrics.chemnet import Moments, frechet_distance
from unite_mm_molecule.metrics.distributions import StructureCounts, count_structures, histograms, total_variation
from unite_mm_molecule.metrics.groups import DISTANCE
from unite_mm_molecule.metrics.internal import (
    BINS,
    InternalCoordinates,
    Kind,
    Values,
    binned_variation,
    commonest,
    internal_coordinates,
    wasserstein,
)
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric

_UNITS = {"lengths": "angstrom", "angles": "degrees", "dihedrals": "degrees"}
_TITLES = {"lengths": "bond lengths", "angles": "angles", "dihedrals": "dihedrals"}
_BY_TYPE = {
    "lengths": "by elements and order of the bond",
    "angles": "by elements, the centre in the middle",
    "dihedrals": "unsigned, of four heavy atoms in a row, by elements",
}
_COUNTED: tuple[tuple[str, str, Callable[[StructureCounts], Counter[int]]], ...] = (
    ("rings", "rings per molecule", lambda counts: counts.rings),
    ("ring_sizes", "ring sizes", lambda counts: counts.ring_sizes),
    ("rotatable", "rotatable bonds", lambda counts: counts.rotatable),
    ("heavy_atoms", "heavy atoms", lambda counts: counts.sizes),
)


@dataclass(frozen=True)
class Profile:
    """Distributions over the strictly valid molecules of a set.

    Attributes:
        counts: what they are made of.
        molecules: themselves.
        aromatic: (m,) of each, whether a bond is aromatic.
        smiles: canonical SMILES of each.
    """

    counts: StructureCounts
    molecules: tuple[Molecule, ...]
    aromatic: tuple[NDArray[np.bool_], ...]
    smiles: tuple[str, ...]

    def coordinates(self, *, heavy: bool) -> InternalCoordinates:
        """Bond lengths, angles and dihedrals, with hydrogens or without."""
        return internal_coordinates(self.molecules, self.aromatic, heavy=heavy)


def take_profile(molecules: Sequence[Molecule], assessments: Sequence[Assessment]) -> Profile:
    """The distributions of those molecules that are strictly valid."""
    valid = [
        (one, found.traits, found.validity.smiles)
        for one, found in zip(molecules, assessments, strict=True)
        if found.traits is not None and found.validity.smiles is not None
    ]
    chosen, traits = [one for one, _, _ in valid], [found for _, found, _ in valid]
    return Profile(
        count_structures(chosen, traits),
        tuple(chosen),
        tuple(found.aromatic for found in traits),
        tuple(smiles for _, _, smiles in valid),
    )


def distance_metrics(samples: Profile, reference: Profile) -> tuple[list[Metric], list[str]]:
    """Total variation and Wasserstein distances between two sets, and remarks on them."""
    between = f"{samples.counts.molecules} valid samples and {reference.counts.molecules} held-out molecules"
    metrics = []
    for histogram in histograms(samples.counts, reference.counts):
        if histogram.total_variation is not None:
            metrics.append(
                Metric(
                    name=f"variation_{histogram.name}",
                    title=f"{histogram.name.replace('_', ' ')}, TV",
                    value=histogram.total_variation,
                    total=samples.counts.molecules,
                    group=DISTANCE,
                    definition=f"total variation distance of the distributions below, between {between}",
                )
            )
    for name, title, pick in _COUNTED:
        if (mine := pick(samples.counts)) and (theirs := pick(reference.counts)):
            metrics.append(
                Metric(
                    name=f"wasserstein_{name}",
                    title=f"{title}, W1",
                    value=wasserstein(
                        *(np.sort(list(counts.elements())).astype(np.float64) for counts in (mine, theirs))
                    ),
                    total=samples.counts.molecules,
                    group=DISTANCE,
                    definition=f"1-D Wasserstein distance of the numbers, between {between}",
                )
            )
    heavy = not (samples.counts.explicit and reference.counts.explicit)
    found, notes = _geometry_metrics(samples.coordinates(heavy=heavy), reference.coordinates(heavy=heavy), between)
    found = [metric.model_copy(update={"total": samples.counts.molecules}) for metric in found]
    return metrics + found, notes


def chemnet_metric(samples: Moments | None, reference: Moments | None) -> Metric:
    """The Frechet ChemNet distance; not measured where a set has fewer than two molecules."""
    known = samples is not None and reference is not None
    against = f"{reference.count} held-out ones" if reference is not None else "held-out ones"
    return Metric(
        name="fcd",
        title="Frechet ChemNet (FCD)",
        value=frechet_distance(samples, reference) if samples is not None and reference is not None else None,
        total=samples.count if samples is not None and known else None,
        group=DISTANCE,
        definition="squared Frechet distance in ChemNet's features (package fcd; canonical SMILES without stereo) of "
        f"the valid samples to {against}; fewer molecules give a higher value",
    )


def _geometry_metrics(
    samples: InternalCoordinates, reference: InternalCoordinates, between: str
) -> tuple[list[Metric], list[str]]:
    metrics, notes = [], []
    kinds: tuple[Kind, ...] = ("lengths", "angles", "dihedrals")
    for kind in kinds:
        mine, theirs = samples.of(kind), reference.of(kind)
        chosen = commonest(theirs)
        shared = [name for name in chosen if name in mine]
        if not shared:
            continue
        if absent := [name for name in chosen if name not in mine]:
            notes.append(f"{_TITLES[kind]}: no {', '.join(absent)} among the valid samples, so these are left out")
        weights = {name: len(theirs[name]) for name in shared}
        of = (
            f"the values ({_BY_TYPE[kind]}; mean over the {len(shared)} commonest types, weighted by their number in "
            f"the data), between {between}"
        )
        width, unit = BINS[kind], _UNITS[kind]
        areas = {name: wasserstein(mine[name], theirs[name]) for name in shared}
        shares = {name: binned_variation(mine[name], theirs[name], width) for name in shared}
        metrics += [
            _weighted(f"wasserstein_{kind}", f"{_TITLES[kind]}, W1", areas, weights, unit, f"1-D Wasserstein of {of}"),
            _weighted(
                f"variation_{kind}", f"{_TITLES[kind]}, TV", shares, weights, "",
                f"total variation, in bins of {width:g} {unit}, of {of}",
            ),
            Metric(
                name=f"variation_{kind}_types",
                title=f"types of {_TITLES[kind]}, TV",
                value=_types_apart(mine, theirs),
                group=DISTANCE,
                definition=f"total variation of how often each type occurs ({_BY_TYPE[kind]}), between {between}",
            ),
        ]  # fmt: skip
    return metrics, notes


def _weighted(
    name: str, title: str, parts: dict[str, float], weights: dict[str, int], unit: str, definition: str
) -> Metric:
    value = sum(parts[key] * weights[key] for key in parts) / sum(weights.values())
    return Metric(
        name=name, title=title, value=value, unit=unit, group=DISTANCE, parts=parts, definition=definition
    )  # fmt: skip


def _types_apart(samples: Values, reference: Values) -> float:
    shares = []
    for values in (samples, reference):
        total = sum(map(len, values.values()))
        shares.append({name: len(found) / total for name, found in values.items()})
    return total_variation(*shares)
