"""Molecules as array files (.npz), read and written without RDKit."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.errors import UsageError
from unite_mm.kit.arrays import ArraySpec, npz_names, read_npz
from unite_mm_molecule.flat import ARRAYS, MOST, FlatMolecules
from unite_mm_molecule.molecule import Molecule

_EXPLICIT = "explicit_hydrogens"
_SAMPLES = ARRAYS | {_EXPLICIT: ArraySpec(np.bool_, (("N",),), required=False)}
_COMPACT = {
    "atoms": ArraySpec(np.integer, (("N",),), least=0, most=MOST),
    "bonds": ArraySpec(np.integer, (("N",),), least=0, most=MOST),
    "atomic_number": ArraySpec(np.integer, (("A",),)),
    "formal_charge": ArraySpec(np.integer, (("A",),)),
    "position_milliangstrom": ArraySpec(np.integer, (("A", 3),)),
    "bond_begin": ArraySpec(np.integer, (("M",),)),
    "bond_end": ArraySpec(np.integer, (("M",),)),
    "bond_order": ArraySpec(np.integer, (("M",),)),
}
"""The form of the embedded set: small integers, positions in thousandths of an angstrom."""
_SMALL: dict[str, type[np.integer[Any]]] = {
    "atomic_number": np.uint8, "formal_charge": np.int8, "bond_begin": np.int32, "bond_end": np.int32,
    "bond_order": np.uint8, "numbers": np.uint8, "charges": np.int8, "begin": np.int32, "end": np.int32,
    "orders": np.uint8,
}  # fmt: skip
"""What of an array file is kept in how many bits."""


def array_file(samples: Sequence[Molecule]) -> bytes:
    """The content of an array file of samples; positions as float32."""
    arrays: dict[str, Any] = FlatMolecules.from_molecules(samples).to_arrays()
    arrays[_EXPLICIT] = np.array([sample.explicit_hydrogens for sample in samples], dtype=bool)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def read_arrays(path: Path) -> tuple[FlatMolecules, NDArray[np.bool_]]:
    """The molecules of an array file: as `array_file` makes them, or in the form of the embedded set.

    Returns:
        N molecules with the atoms they have in the file, and (N,) whether all hydrogens are among these.

    Raises:
        UsageError: it cannot be read, or its arrays are not those of molecules.
    """
    compact = "position_milliangstrom" in npz_names(path)
    arrays = read_npz(path, _COMPACT if compact else _SAMPLES, "not a file of molecules")
    try:
        arrays |= {name: _within(arrays[name], kind) for name, kind in _SMALL.items() if name in arrays}
        if not compact:
            one, other = arrays["begin"], arrays["end"]
            arrays |= {"begin": np.minimum(one, other), "end": np.maximum(one, other)}
        molecules = _from_compact(arrays, path.stem) if compact else FlatMolecules.from_arrays(arrays)
    except ValueError as error:
        raise UsageError(f"{path}: {error}", "the file may be damaged or incomplete") from error
    return molecules, arrays.get(_EXPLICIT, np.ones(len(molecules), dtype=bool))


def read_samples(path: Path) -> list[Molecule]:
    """The molecules of an array file, one by one.

    Raises:
        UsageError: it cannot be read, or its arrays are not those of molecules.
    """
    flat, explicit = read_arrays(path)
    samples = [flat.molecule(index, explicit_hydrogens=bool(explicit[index])) for index in range(len(flat))]
    problems = (sample.nonsense() for sample in samples)
    return [
        Molecule.flawed(f"molecule {index + 1} of {len(samples)}: {problem}", sample.name) if problem else sample
        for index, (sample, problem) in enumerate(zip(samples, problems, strict=True))
    ]


def _within(array: NDArray[Any], kind: type[np.integer[Any]]) -> NDArray[Any]:
    """The array with values of `kind`; those beyond it become the largest, which is none that a molecule has."""
    limits = np.iinfo(kind)
    return np.where((array < limits.min) | (array > limits.max), limits.max, array).astype(kind)


def _from_compact(arrays: Mapping[str, NDArray[Any]], stem: str) -> FlatMolecules:
    one, other = arrays["bond_begin"].astype(np.int32), arrays["bond_end"].astype(np.int32)
    molecules = FlatMolecules(
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
    molecules.check()
    return molecules
