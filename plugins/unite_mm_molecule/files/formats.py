"""Sample files: SDF, SMILES, XYZ and arrays (.npz), written and read one to one, invalid molecules included.

Every sample is one record, so that shares taken of a file have the right denominator. SDF, XYZ and arrays need no
RDKit; with RDKit at hand, molecules with implicit hydrogens get them in SDF and XYZ files, and reading takes them off
again.
"""

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from unite_mm.errors import UniteError, UsageError
from unite_mm_molecule.data.flat import FlatMolecules
from unite_mm_molecule.files.sdf import BadRecord, NeedsRdkit, read_record, write_record
from unite_mm_molecule.files.smiles import read_smiles, write_smiles
from unite_mm_molecule.files.xyz import read_frames, write_frame
from unite_mm_molecule.molecule import Molecule

SUFFIXES = (".sdf", ".smi", ".smiles", ".xyz", ".npz")
"""Known formats; text formats are also read with `.gz` behind."""


def write(samples: Sequence[Molecule], path: Path) -> None:
    """Write samples in the format that the suffix names; the file appears whole or not at all.

    - `.sdf`: V2000 with charges, bonds and positions (4 decimals), also for invalid molecules.
    - `.xyz`: types and positions; bonds and charges in the comment line, which other programs ignore.
    - `.smi`, `.smiles`: one line per sample. Strictly sound ones as canonical SMILES without hydrogens; others as they
      are, all atoms written out, which no program will take for sound. Needs RDKit.
    - `.npz`: the arrays, positions as float32.

    Raises:
        UsageError: the suffix names no known format, a molecule does not fit it, or RDKit is needed and absent.
        UniteError: the file cannot be written.
    """
    suffix = _suffix(path, "write")
    if suffix in (".smi", ".smiles"):
        _need_rdkit(path)
        text = "".join(f"{write_smiles(sample)}\t{_label(sample, index)}\n" for index, sample in enumerate(samples))
    elif suffix == ".xyz":
        text = "".join(_with_index(path, index, sample, _xyz_text) for index, sample in enumerate(samples))
    elif suffix == ".sdf":
        text = "".join(_with_index(path, index, sample, _sdf_text) for index, sample in enumerate(samples))
    else:
        arrays: dict[str, Any] = FlatMolecules.from_molecules(samples).to_arrays()
        arrays["explicit_hydrogens"] = np.array([sample.explicit_hydrogens for sample in samples], dtype=bool)
        _replace(path, lambda file: np.savez_compressed(file, **arrays))
        return
    _replace(path, lambda file: file.write(text.encode()))


def read(path: Path) -> list[Molecule]:
    """Read samples back, in order; the suffix names the format.

    Files of other programs are read too: hydrogens count as explicit if any molecule of an SDF or XYZ file has one;
    XYZ frames without bonds get them from the geometry; SMILES have implicit hydrogens and no positions.

    Raises:
        UsageError: the file does not exist, is empty, cut off or damaged; the message names record or line.
    """
    suffix = _suffix(path, "read")
    if not path.is_file():
        raise UsageError(f"{path}: no such file", f"Known formats are {', '.join(SUFFIXES)}.")
    if suffix == ".npz":
        samples = _read_arrays(path)
    else:
        from unite_mm_molecule.data.readers import read_text

        text = bytes(read_text(path)).decode("utf-8", errors="replace").replace("\r\n", "\n")
        try:
            if suffix == ".sdf":
                samples = _read_sdf(path, text)
            elif suffix == ".xyz":
                samples = _implicit_unless_any(read_frames(text))
            else:
                _need_rdkit(path)
                samples = read_smiles(text)
        except BadRecord as error:
            raise UsageError(f"{path}: {error}", "The file is damaged or incomplete; write or get it again.") from error
    if not samples:
        raise UsageError(f"{path}: the file holds no molecule")
    return samples


def _suffix(path: Path, verb: str) -> str:
    """The suffix that names the format (`.gz` taken off when reading)."""
    suffix = path.suffix.lower()
    if suffix == ".gz" and verb == "read":
        suffix = Path(path.stem).suffix.lower()
    if suffix not in SUFFIXES:
        kind = f"{suffix} files" if suffix else "a file without suffix"
        raise UsageError(f"{path}: cannot {verb} molecules as {kind}", f"Known formats are {', '.join(SUFFIXES)}.")
    return suffix


def _need_rdkit(path: Path) -> None:
    if find_spec("rdkit") is None:
        raise UsageError(f"{path}: SMILES need RDKit", "Install it (pip install rdkit) or use .sdf, .xyz or .npz.")


def _replace(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write beside `path`, then rename into place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                fill(file)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise UniteError(
            f"{path}: cannot be written: {error.strerror or error}", "Check the folder and its space."
        ) from error


def _label(sample: Molecule, index: int) -> str:
    return " ".join(sample.name.split()) or f"sample_{index + 1}"


def _with_index(path: Path, index: int, sample: Molecule, text: Callable[[Molecule, int], str]) -> str:
    try:
        return text(sample, index)
    except BadRecord as error:
        raise UsageError(f"{path}: sample {index + 1}: {error}", "Use .npz or .smi for such molecules.") from error


def _sdf_text(sample: Molecule, index: int) -> str:
    full, hydrogens = _complete(replace(sample, name=_label(sample, index)))
    return write_record(full, hydrogens)


def _xyz_text(sample: Molecule, index: int) -> str:
    full, hydrogens = _complete(replace(sample, name=_label(sample, index)))
    return write_frame(full, hydrogens)


def _complete(sample: Molecule) -> tuple[Molecule, str]:
    """The molecule with its implicit hydrogens where they can be had, and the note for the file."""
    if sample.explicit_hydrogens:
        return sample, "explicit"
    if find_spec("rdkit") is not None:
        from rdkit import rdBase

        from unite_mm_molecule.hydrogens import add_hydrogens

        with rdBase.BlockLogs():
            try:
                return add_hydrogens(sample), f"added {sample.size}"
            except ValueError:  # not chemically sound: nobody knows its hydrogens
                pass
    return sample, "implicit"


def _own_atoms(molecule: Molecule, hydrogens: str) -> Molecule:
    """The inverse of `_complete`.

    Raises:
        BadRecord: the note is not one that `_complete` writes.
    """
    kind, _, count = hydrogens.partition(" ")
    if kind == "explicit":
        return molecule
    if kind == "implicit":
        return replace(molecule, explicit_hydrogens=False)
    if kind != "added" or not count.isdecimal() or int(count) > molecule.size:
        raise BadRecord(f"note on hydrogens {hydrogens!r}")
    own = int(count)
    return replace(
        molecule,
        numbers=molecule.numbers[:own],
        charges=molecule.charges[:own],
        bonds=molecule.bonds[(molecule.bonds[:, :2] < own).all(axis=1)],
        positions=None if molecule.positions is None else molecule.positions[:own],
        explicit_hydrogens=False,
    )


def _implicit_unless_any(records: list[tuple[Molecule, str]]) -> list[Molecule]:
    """Apply the notes on hydrogens; without one, hydrogens are explicit if any such record of the file has one."""
    foreign = "explicit" if any((m.numbers == 1).any() for m, note in records if not note) else "implicit"
    return [_own_atoms(molecule, note or foreign) for molecule, note in records]


def _read_sdf(path: Path, text: str) -> list[Molecule]:
    blocks = f"\n{text}".split("\n$$$$")
    # What follows the dollars on their line belongs to nothing.
    blocks = [blocks[0][1:], *(block.partition("\n")[2] for block in blocks[1:])]
    last = blocks.pop()
    if last.strip():
        if blocks:  # a file of one molecule may lack the dollars, as MOL files do
            raise BadRecord(f"record {len(blocks) + 1}: cut off: no `$$$$` line at the end of the file")
        blocks = [last]
    records = []
    for index, block in enumerate(blocks):
        try:
            records.append(read_record(block))
        except NeedsRdkit as kind:
            records.append(_read_with_rdkit(path, index, block, str(kind)))
        except BadRecord as error:
            raise BadRecord(f"record {index + 1} of {len(blocks)}: {error}") from error
    return _implicit_unless_any(records)


def _read_with_rdkit(path: Path, index: int, block: str, kind: str) -> tuple[Molecule, str]:
    """A record that only RDKit understands."""
    if find_spec("rdkit") is None:
        raise UsageError(f"{path}: record {index + 1}: {kind} needs RDKit", "Install it: pip install rdkit")
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        if molecule is None:
            raise BadRecord(f"record {index + 1}: {kind}: RDKit cannot read it")
        try:
            record = Molecule.from_rdkit(molecule, block.partition("\n")[0].strip())
        except ValueError as error:
            raise BadRecord(f"record {index + 1}: {kind}: {str(error).splitlines()[0]}") from error
    if len(record.bonds) and not set(record.bonds[:, 2].tolist()) <= {1, 2, 3}:
        raise BadRecord(f"record {index + 1}: a bond that is not single, double, triple or aromatic")
    return replace(record, explicit_hydrogens=True), ""


def _read_arrays(path: Path) -> list[Molecule]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            flat = FlatMolecules.from_arrays(arrays)
            explicit = (
                arrays["explicit_hydrogens"] if "explicit_hydrogens" in arrays else np.ones(len(flat), dtype=bool)
            )
    except KeyError as error:
        raise UsageError(f"{path}: not a file of molecules: {error.args[0]}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "The file is damaged or incomplete.") from error
    sizes = (len(flat.numbers), len(flat.charges), len(flat.positions), flat.atoms.sum())
    bonds = (len(flat.begin), len(flat.end), len(flat.orders), flat.bonds.sum())
    if (
        len(set(sizes)) != 1
        or len(set(bonds)) != 1
        or not len(flat.names) == len(flat.bonds) == len(flat) == len(explicit)
    ):
        raise UsageError(f"{path}: the arrays do not belong together", "The file is damaged or incomplete.")
    return [flat.molecule(index, explicit_hydrogens=bool(explicit[index])) for index in range(len(flat))]
