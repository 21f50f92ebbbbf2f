"""What a model must know of its data: elements, charges, sizes, scale, histogram of compositions, properties."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import SPLITS
from unite_mm.kit.choice import spread_evenly
from unite_mm_molecule.composition import HEAVY_ATOMS, HYDROGENS
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.prepared import Prepared
from unite_mm_molecule.data.properties import Values
from unite_mm_molecule.flat import FlatMolecules, Positions
from unite_mm_molecule.molecule import SYMBOLS
from unite_mm_molecule.properties import NAMES, UNITS

PRIOR_ROWS = 5000
"""Training molecules, spread over all, from which compositions are drawn where properties are asked for."""

RARE = 0.001
"""Share of the training molecules, on either side, beyond whose values a property counts as out of range: outliers
would hide a mistaken unit."""


@dataclass(frozen=True)
class Conditions:
    """What the denoiser is conditioned on, for N molecules: counts, then properties.

    Attributes:
        count_names: of the counts.
        counts: (N, number of counts) int64.
        property_names: of the properties, as in `properties.NAMES`.
        properties: (N, number of properties), nan where a molecule has none.
    """

    count_names: tuple[str, ...]
    counts: NDArray[np.int64]
    property_names: tuple[str, ...]
    properties: Values

    @property
    def values(self) -> NDArray[np.float32]:
        """(N, M) counts and properties."""
        return np.column_stack([self.counts, self.properties]).astype(np.float32)

    @property
    def missing(self) -> tuple[str, ...]:
        """Properties that no molecule has."""
        none = np.flatnonzero(np.isnan(self.properties).all(axis=0)).tolist()
        return tuple(self.property_names[place] for place in none)

    def select(self, chosen: NDArray[np.bool_]) -> "Conditions":
        """Those of some molecules; chosen (N,)."""
        return replace(self, counts=self.counts[chosen], properties=self.properties[chosen])


def find_conditions(prepared: Prepared, config: MoleculeConfig) -> Conditions:
    """Counts and properties as the configuration wants them.

    Counts are those of heavy atoms and hydrogens, of the atoms of every element, or none.

    Args:
        prepared: N molecules with all their hydrogens.
        config: its `condition` decides.
    """
    molecules = prepared.molecules

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(molecules.atom_owner[chosen], minlength=len(molecules)).astype(np.int64)

    hydrogen = molecules.numbers == 1
    wanted: dict[str, NDArray[np.int64]] = {}
    if config.counted == "counts":
        wanted = {HEAVY_ATOMS: count(~hydrogen), HYDROGENS: count(hydrogen)}
    elif config.counted == "formula":
        for number in np.flatnonzero(np.bincount(molecules.numbers)).tolist():
            wanted[SYMBOLS.get(number, str(number))] = count(molecules.numbers == number)
    counts = np.stack(list(wanted.values()), axis=1) if wanted else np.empty((len(molecules), 0), dtype=np.int64)
    names = config.conditioned_properties
    properties = np.full((len(molecules), len(names)), np.nan)
    if prepared.properties is not None:
        properties = prepared.properties[:, [NAMES.index(name) for name in names]]
    return Conditions(tuple(wanted), counts, names, properties)


def training_statistics(
    prepared: Prepared,
    seen: FlatMolecules,
    positions: Positions | None,
    conditions: Conditions,
    config: MoleculeConfig,
) -> dict[str, Any]:
    """What the model must know of the data; goes into every checkpoint.

    Args:
        prepared: the molecules with all hydrogens.
        seen: the same molecules as the model sees them.
        positions: their positions as `centred_positions` gives them; None for plain graphs.
        conditions: what the denoiser is conditioned on, for each molecule.
        config: the configuration.

    Returns:
        `elements` (atomic numbers), `charges` (formal charges) and `max_atoms` cover all splits, so that the held-out
        molecules fit the layout. The rest is of the training split: `molecules`; `position_scale`, the standard
        deviation in angstrom of the centred coordinates (1 without geometry); `composition_names`, what is counted;
        `composition`, rows of [atoms the model sees, a count for each name, molecules]. Where the denoiser is told
        properties that the molecules have, `properties` holds what `_property_statistics` finds of them.
    """
    train = prepared.splits == SPLITS.index("train")
    atoms = seen.atoms[train]
    scale = 1.0
    if positions is not None:
        scale = float(np.sqrt(np.square(positions[np.repeat(train, seen.atoms)]).mean(dtype=np.float64)))
    told = conditions.select(train)
    rows, kind, counts = np.unique(
        np.column_stack([atoms, told.counts]), axis=0, return_inverse=True, return_counts=True
    )
    facts = {
        "elements": np.flatnonzero(np.bincount(seen.numbers)).tolist(),
        "charges": (np.flatnonzero(np.bincount(seen.charges.astype(np.int64) + 128)) - 128).tolist(),
        "max_atoms": config.max_atoms or int(seen.atoms.max()),
        "molecules": int(train.sum()),
        "position_scale": scale or 1.0,  # a set of single atoms has no extent
        "composition_names": list(conditions.count_names),
        "composition": [[*row, count] for row, count in zip(rows.tolist(), counts.tolist(), strict=True)],
    }
    if told.property_names and not told.missing:
        facts["properties"] = _property_statistics(told, kind.reshape(-1))
    return facts


def _property_statistics(conditions: Conditions, kind: NDArray[np.int64]) -> dict[str, Any]:
    """What generation must know of the properties of the training molecules.

    Args:
        conditions: of the N training molecules, each property known of at least one.
        kind: (N,) each one's row of `composition`.

    Returns:
        `names`; `units`; `mean` and `std`; `low` and `high`, beyond which values are rare; `rows` of some molecules,
        spread over all: [row of `composition`, the value of each property], null where one is not known.
    """
    values = conditions.properties
    mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    alike = np.maximum(np.abs(mean), 1.0)  # of a set whose molecules have one value
    chosen = np.flatnonzero(~np.isnan(values).all(axis=1))
    chosen = chosen[spread_evenly(len(chosen), PRIOR_ROWS)]
    rows = [
        [row, *(None if math.isnan(value) else float(f"{value:.7g}") for value in own)]
        for row, own in zip(kind[chosen].tolist(), values[chosen].tolist(), strict=True)
    ]
    return {
        "names": list(conditions.property_names),
        "units": [UNITS[name] for name in conditions.property_names],
        "mean": mean.tolist(),
        "std": np.where(std > 1e-9 * alike, std, alike).tolist(),
        "low": np.nanquantile(values, RARE, axis=0, method="lower").tolist(),
        "high": np.nanquantile(values, 1 - RARE, axis=0, method="higher").tolist(),
        "rows": rows,
    }
