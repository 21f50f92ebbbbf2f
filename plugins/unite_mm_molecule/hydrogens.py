"""Hydrogens that chemistry supplies: adding them to molecules of heavy atoms alone. Needs RDKit, imported inside."""

from dataclasses import replace

import numpy as np

from unite_mm_molecule.metrics.validity import sanitized
from unite_mm_molecule.molecule import Molecule


def add_hydrogens(molecule: Molecule) -> Molecule:
    """The molecule with its implicit hydrogens as atoms, after its own atoms, at standard bond lengths and angles.

    Atoms, charges, bonds (also which of the kekulized forms) and positions of the molecule stay as they are. A molecule
    with explicit hydrogens is returned unchanged.

    Raises:
        rdkit.Chem.MolSanitizeException: the molecule is not chemically sound, so the hydrogens are unknown.
    """
    from rdkit import Chem

    if molecule.explicit_hydrogens:
        return molecule
    full = Chem.AddHs(sanitized(molecule), addCoords=molecule.positions is not None)
    added = full.GetNumAtoms() - molecule.size
    parents = [full.GetAtomWithIdx(molecule.size + k).GetNeighbors()[0].GetIdx() for k in range(added)]
    bonds = [[parent, molecule.size + k, 1] for k, parent in enumerate(parents)]
    return replace(
        molecule,
        numbers=np.concatenate([molecule.numbers, np.ones(added, dtype=np.int64)]),
        charges=np.concatenate([molecule.charges, np.zeros(added, dtype=np.int64)]),
        bonds=np.concatenate([molecule.bonds, np.array(bonds, dtype=np.int64).reshape(-1, 3)]),
        positions=None if molecule.positions is None else np.array(full.GetConformer().GetPositions()),
        explicit_hydrogens=True,
    )
