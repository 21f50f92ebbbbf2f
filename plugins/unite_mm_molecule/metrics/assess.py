"""What RDKit makes of one generated or held-out molecule: the part of scoring that worker processes do."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unite_mm_molecule.metrics.perception import Perceived, perceive_edm
from unite_mm_molecule.metrics.validity import ValidityResult, examine, stable_atoms
from unite_mm_molecule.molecule import Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol


@dataclass(frozen=True)
class Traits:
    """What a strictly valid molecule is made of, beyond what its arrays say.

    Attributes:
        aromatic: (m,) whether a bond is aromatic.
        ring_sizes: atoms of each ring (SSSR).
        rotatable: rotatable bonds, by RDKit's strict definition.
    """

    aromatic: NDArray[np.bool_]
    ring_sizes: tuple[int, ...]
    rotatable: int


@dataclass(frozen=True)
class Assessment:
    """One molecule.

    Attributes:
        validity: strict validity.
        stable: atoms with an exact valence; None where hydrogens are implicit.
        edm: EDM's convention; None where hydrogens are implicit or there are no positions.
        traits: None unless it is strictly valid.
    """

    validity: ValidityResult
    stable: int | None = None
    edm: Perceived | None = None
    traits: Traits | None = None


CRASHED = Assessment(ValidityResult("does not sanitize", "crashed the chemistry toolkit", None))
"""Stands for a molecule that ended its worker process."""


def assess(molecule: Molecule) -> Assessment:
    """Everything about one molecule that needs RDKit alone and takes well under a millisecond."""
    spatial = molecule.explicit_hydrogens and molecule.positions is not None and molecule.finite
    validity, sound = examine(molecule)
    return Assessment(
        validity=validity,
        stable=stable_atoms(molecule) if molecule.explicit_hydrogens else None,
        edm=perceive_edm(molecule) if spatial else None,
        traits=None if sound is None else _traits(sound),
    )


def describe(molecule: Molecule) -> Assessment:
    """Validity and traits alone: what distributions are taken of."""
    validity, sound = examine(molecule)
    return Assessment(validity, traits=None if sound is None else _traits(sound))


def _traits(sound: "Mol") -> Traits:
    """Of a sanitized molecule whose bonds are in the order of its arrays."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdMolDescriptors

    with rdBase.BlockLogs():
        heavy = Chem.RemoveAllHs(sound)  # RDKit's patterns for rotatable bonds count neighbours
    return Traits(
        aromatic=np.array([bond.GetIsAromatic() for bond in sound.GetBonds()], dtype=np.bool_),
        ring_sizes=tuple(len(ring) for ring in sound.GetRingInfo().AtomRings()),
        rotatable=int(rdMolDescriptors.CalcNumRotatableBonds(heavy)),
    )
