"""Molecules as array files (.npz), read and written without RDKit."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.errors import UsageError
from unite_mm_molecule.data.flat import FlatMolecules
from unite_mm_molecule.molecule import Molecule

_EXPLICIT = "explicit_hydrogens"


def sample_arrays(samples: Sequence[Molecule]) -> dict[str, NDArray[Any]]:
    """Arrays by name for a file of samples; positions as float32."""
    explicit = np.array([sample.explicit_hydrogens for sample in samples], dtype=bool)
    return FlatMolecules.from_molecules(samples).to_arrays() | {_EXPLICIT: explicit}


def read_arrays(path: Path) -> tuple[FlatMolecules, NDArray[np.bool_]]:
    """The molecules of an array file: as `sample_arrays` makes them, or in the form of the embedded set.

    Returns:
        N molecules with the atoms they have in the file, and (N,) whether all hydrogens are among these.

    Raises:
        UsageError: it cannot be read or lacks an array.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            compact = "position_milliangstrom" in arrays
            molecules = _from_compact(arrays, path.stem) if compact else FlatMolecules.from_arrays(arrays)
            explicit = arrays[_EXPLICIT] if _EXPLICIT in arrays else np.ones(len(molecules), dtype=bool)
    except KeyError as error:
        raise UsageError(f"{path}: not a file of molecules: {error.args[0]}") from error
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "the file may be damaged or incomplete") from error
    atoms = {len(molecules.numbers), len(molecules.charges), len(molecules.positions), int(molecules.atoms.sum())}
    bonds = {len(molecules.begin), len(molecules.end), len(molecules.orders), int(molecules.bonds.sum())}
    counts = {len(molecules), len(molecules.bonds), len(molecules.names), len(explicit)}
    if not len(atoms) == len(bonds) == len(counts) == 1:
        raise UsageError(f"{path}: its arrays do not belong together", "the file may be damaged or incomplete")
    return molecules, explicit


def read_samples(path: Path) -> list[Molecule]:
    """The molecules of an array file, one by one.

    Raises:
        UsageError: it cannot be read or lacks an array.
    """
    flat, explicit = read_arrays(path)
    return [flat.molecule(index, explicit_hydrogens=bool(explicit[index])) for index in range(len(flat))]


def _from_compact(arrays: Any, stem: str) -> FlatMolecules:
    """The form of the embedded set: small integers, positions in thousandths of an angstrom."""
    one, other = arrays["bond_begin"].astype(np.int32), arrays["bond_end"].astype(np.int32)
    return FlatMolecules(
        atoms=arrays["atoms"].astype(np.int32),
        bonds=arrays["bonds"].astype(np.int32),
        numbers=arrays["atomic_number"].astype(np.uint8),
        charges=arrays["formal_charge"].astype(np.int8),
        positions=(arrays["position_milliangstrom"] / 1000.0).astype(np.float32),
        begin=np.minimum(one, other),
        end=np.maximum(one, other),
        orders=arrays["bond_order"].astype(np.uint8),
        names=tuple(f"{stem}_{index + 1}" for index in range(len(arrays["atoms"]))),
    )
