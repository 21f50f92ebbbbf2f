"""The embedded molecules as they lie in their file, read without the plugin's own reader."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unite_mm_molecule.molecule import Molecule


def unpack(path: Path) -> Iterator[Molecule]:
    """The molecules of the file that ships with the package, named by their SMILES."""
    with np.load(path) as archive:
        data = {key: archive[key] for key in archive}
    bonds = np.stack([data["bond_begin"], data["bond_end"], data["bond_order"]], axis=1).astype(np.int64)
    atom_ends, bond_ends = np.cumsum(data["atoms"], dtype=np.int64), np.cumsum(data["bonds"], dtype=np.int64)
    names = data["smiles"].tobytes().decode().split("\n")
    for i, name in enumerate(names):
        atoms = slice(atom_ends[i] - data["atoms"][i], atom_ends[i])
        yield Molecule(
            numbers=data["atomic_number"][atoms].astype(np.int64),
            charges=data["formal_charge"][atoms].astype(np.int64),
            bonds=bonds[bond_ends[i] - data["bonds"][i] : bond_ends[i]],
            positions=data["position_milliangstrom"][atoms] / 1000,
            name=name,
        )
