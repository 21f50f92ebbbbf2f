"""What a model is conditioned on, of molecules that are at hand: the counts; properties are not known.

Dimensions: N molecules, M numbers of a condition.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import Statistics
from unite_mm_molecule.chemistry import add_hydrogens
from unite_mm_molecule.composition import count_atoms
from unite_mm_molecule.molecule import Molecule


def known_conditions(molecules: Sequence[Molecule], statistics: Statistics) -> NDArray[np.float32]:
    """(N, M) counts of the atoms, hydrogens included, then properties; nan for what is not known.

    Counts are not known of a molecule whose missing hydrogens cannot be added.

    Args:
        molecules: N of them.
        statistics: what the model was trained on.
    """
    names = statistics.get("composition_names", ())
    more = len(statistics["properties"]["names"]) if "properties" in statistics else 0
    values = np.full((len(molecules), len(names) + more), np.nan, dtype=np.float32)
    for row, molecule in zip(values, molecules, strict=True):
        if names:
            try:
                row[: len(names)] = count_atoms(add_hydrogens(molecule), names)
            except (ValueError, ImportError):  # chemistry errors of RDKit, or no RDKit
                continue
    return values
