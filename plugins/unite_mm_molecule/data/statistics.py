"""What a model must know of its data: elements, charges, sizes, scale of positions, histogram of compositions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import SPLITS
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.prepared import Prepared
from unite_mm_molecule.flat import FlatMolecules, Positions
from unite_mm_molecule.molecule import SYMBOLS


@dataclass(frozen=True)
class ConditionCounts:
    """What the denoiser is conditioned on, for N molecules.

    Attributes:
        names: of the M counts.
        counts: (N, M) int64.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]


def condition_counts(molecules: FlatMolecules, config: MoleculeConfig) -> ConditionCounts:
    """Counts as the configuration wants them: of heavy atoms and hydrogens, of the atoms of every element, or none.

    Args:
        molecules: N molecules with all their hydrogens.
        config: its `condition` decides.
    """

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(molecules.atom_owner[chosen], minlength=len(molecules)).astype(np.int64)

    hydrogen = molecules.numbers == 1
    wanted: dict[str, NDArray[np.int64]] = {}
    if config.condition == "counts":
        wanted = {"heavy atoms": count(~hydrogen), "hydrogens": count(hydrogen)}
    elif config.condition == "formula":
        for number in np.flatnonzero(np.bincount(molecules.numbers)).tolist():
            wanted[SYMBOLS.get(number, str(number))] = count(molecules.numbers == number)
    counts = np.stack(list(wanted.values()), axis=1) if wanted else np.empty((len(molecules), 0), dtype=np.int64)
    return ConditionCounts(tuple(wanted), counts)


def training_statistics(
    prepared: Prepared,
    seen: FlatMolecules,
    positions: Positions | None,
    condition: ConditionCounts,
    config: MoleculeConfig,
) -> dict[str, Any]:
    """What the model must know of the data; goes into every checkpoint.

    Args:
        prepared: the molecules with all hydrogens.
        seen: the same molecules as the model sees them.
        positions: their positions as `centred_positions` gives them; None for plain graphs.
        condition: what the denoiser is conditioned on, for each molecule.
        config: the configuration.

    Returns:
        `elements` (atomic numbers), `charges` (formal charges) and `max_atoms` cover all splits, so that the held-out
        molecules fit the layout. The rest is of the training split: `molecules`; `position_scale`, the standard
        deviation in angstrom of the centred coordinates (1 without geometry); `composition_names`, what is counted;
        `composition`, rows of [atoms the model sees, a count for each name, molecules].
    """
    train = prepared.splits == SPLITS.index("train")
    atoms = seen.atoms[train]
    scale = 1.0
    if positions is not None:
        scale = float(np.sqrt(np.square(positions[np.repeat(train, seen.atoms)]).mean(dtype=np.float64)))
    return {
        "elements": np.flatnonzero(np.bincount(seen.numbers)).tolist(),
        "charges": (np.flatnonzero(np.bincount(seen.charges.astype(np.int64) + 128)) - 128).tolist(),
        "max_atoms": config.max_atoms or int(seen.atoms.max()),
        "molecules": int(train.sum()),
        "position_scale": scale or 1.0,  # a set of single atoms has no extent
        "composition_names": list(condition.names),
        "composition": _histogram(np.column_stack([atoms, condition.counts[train]])),
    }


def _histogram(rows: NDArray[Any]) -> list[list[int]]:
    """Distinct rows, each followed by how often it occurs."""
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    return [[*row, count] for row, count in zip(distinct.tolist(), counts.tolist(), strict=True)]
