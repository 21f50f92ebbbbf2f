"""Sample files: SDF, SMILES, XYZ and arrays (.npz), written and read one to one, invalid molecules included.

Every sample is one record, so that shares taken of a file have the right denominator. SDF, XYZ and arrays need no
RDKit; where it is installed, molecules with implicit hydrogens get them in SDF and XYZ files, and reading takes them
off again.
"""

import gzip
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from unite_mm.errors import UsageError
from unite_mm_molecule.chemistry import rdkit_installed
from unite_mm_molecule.files.arrays import array_file, read_samples
from unite_mm_molecule.files.blocks import read_sdf_record
from unite_mm_molecule.files.containers import open_container
from unite_mm_molecule.files.mol2 import read_mol2_record
from unite_mm_molecule.files.output import write_whole
from unite_mm_molecule.files.records import BadRecord, NeedsRdkit, Record, with_hydrogens, without_added_hydrogens
from unite_mm_molecule.files.sdf import write_record
from unite_mm_molecule.files.smiles import read_smiles, split_line, write_smiles
from unite_mm_molecule.files.text import SUFFIXES as TEXT_SUFFIXES
from unite_mm_molecule.files.text import TextKind, decode, read_text, record_bounds, text_suffix
from unite_mm_molecule.files.xyz import read_frame, write_frame
from unite_mm_molecule.molecule import Molecule

SUFFIXES = (*TEXT_SUFFIXES, ".npz")
"""Formats that are read; text formats also with `.gz` or `.bz2` behind."""

WRITTEN = (".sdf", ".xyz", ".smi", ".smiles", ".npz")
"""Formats that are written; text formats also with `.gz` behind."""

_INSTALL = "pip install rdkit"


def write(samples: Sequence[Molecule], path: Path) -> None:
    """Write samples in the format that the suffix names; the file appears whole or not at all.

    - `.sdf`: V2000 with charges, bonds and positions (4 decimals), also for invalid molecules.
    - `.xyz`: types and positions; bonds and charges in the comment line, which other programs ignore.
    - `.smi`, `.smiles`: one line per sample. Strictly sound ones as canonical SMILES without hydrogens; others as they
      are, all atoms written out, which no program will take for sound. Needs RDKit.
    - `.npz`: the arrays, positions as float32.

    Text may be compressed: `.sdf.gz` and so on.

    Raises:
        UsageError: the suffix names no known format, a molecule does not fit it, or RDKit is needed and not installed.
        UniteError: the file cannot be written.
    """
    suffix = _suffix(path, "write")
    if suffix == ".npz":
        content = array_file(samples)
    else:
        content = "".join(_texts(samples, path, TEXT_SUFFIXES[suffix])).encode()
        if path.suffix.lower() == ".gz":
            content = gzip.compress(content, mtime=0)  # the same samples give the same file

    def fill(aside: Path) -> None:
        aside.write_bytes(content)

    write_whole(path, fill)


def read(path: Path) -> list[Molecule]:
    """Read samples back, in order; the suffix names the format.

    A folder or a zip file of molecule files of one kind is read as one file, in the order of their names. Files of
    other programs too: whether hydrogens are explicit is decided for each molecule of an SDF, MOL2 or XYZ file; XYZ
    frames without bonds get them from the geometry; SMILES have implicit hydrogens and no positions. A record that
    cannot be understood becomes a flawed molecule, so that it counts.

    Raises:
        UsageError: the file does not exist, is empty, incomplete or damaged, or none of its records can be understood;
            the message names record or line.
    """
    if path.is_dir() or path.suffix.lower() == ".zip":
        container = open_container(path)
        return _sound_enough(path, _read_records(path, container.kind, container.text), container.kind)
    suffix = _suffix(path, "read")
    if not path.is_file():
        problem = "not a regular file" if path.exists() else "no such file"
        raise UsageError(f"{path}: {problem}", f"known formats: {', '.join(SUFFIXES)}")
    if suffix == ".npz":
        return _sound_enough(path, read_samples(path), "arrays")
    samples = _read_records(path, TEXT_SUFFIXES[suffix], read_text(path))
    return _sound_enough(path, samples, TEXT_SUFFIXES[suffix])


def _sound_enough(path: Path, samples: list[Molecule], kind: str) -> list[Molecule]:
    """The samples, of which at least one can be understood."""
    if not samples:
        raise UsageError(f"{path}: the file holds no molecule")
    if all(sample.flaw for sample in samples) and kind != "smiles":
        raise UsageError(f"{path}: {samples[0].flaw}", "the file may be damaged or incomplete")
    return samples


def _suffix(path: Path, verb: str) -> str:
    """The suffix that names the format, without that of a compression."""
    suffix = text_suffix(path) if verb == "read" or path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix not in SUFFIXES or (verb == "write" and suffix not in WRITTEN):
        kind = f"{suffix} files" if suffix else "a file without suffix"
        known = SUFFIXES if verb == "read" else WRITTEN
        raise UsageError(f"{path}: cannot {verb} molecules as {kind}", f"known formats: {', '.join(known)}")
    return suffix


def _need_rdkit_for_smiles(path: Path) -> None:
    if not rdkit_installed():
        raise UsageError(f"{path}: SMILES need RDKit", f"{_INSTALL}, or use .sdf, .xyz or .npz")


def _texts(samples: Sequence[Molecule], path: Path, kind: TextKind) -> Iterator[str]:
    """The text of each sample."""
    if kind == "smiles":
        _need_rdkit_for_smiles(path)
    for index, sample in enumerate(samples):
        name = " ".join(sample.name.split()) or f"sample_{index + 1}"
        if kind == "smiles":
            yield f"{write_smiles(sample)}\t{name}\n"
            continue
        record = with_hydrogens(replace(sample, name=name))
        try:
            yield write_record(record) if kind == "sdf" else write_frame(record)
        except BadRecord as error:
            raise UsageError(f"{path}: sample {index + 1}: {error}", "write .npz or .smi instead") from error


def _read_records(path: Path, kind: TextKind, text: bytes | mmap.mmap) -> list[Molecule]:
    if kind == "smiles":
        _need_rdkit_for_smiles(path)
    bounds = record_bounds(path, kind, text)
    records = [decode(bytes(text[start:end])) for start, end in pairwise(bounds)]
    if kind == "smiles":
        return _read_smiles(records, line=bytes(text[: bounds[0]]).count(b"\n") + 1)
    word = "frame" if kind == "xyz" else "record"
    read_one = {"sdf": read_sdf_record, "mol2": read_mol2_record, "xyz": read_frame}[kind]
    found: list[Record] = []
    try:
        for index, record in enumerate(records):
            found.append(_or_flawed(read_one, record, f"{word} {index + 1} of {len(records)}"))
    except NeedsRdkit as error:
        raise UsageError(f"{path}: {error}", _INSTALL) from error
    return without_added_hydrogens(found)


def _or_flawed(read_one: Callable[[str], Record], text: str, where: str) -> Record:
    """A record, or a flawed molecule in its place: one bad record costs no other."""
    try:
        return read_one(text)
    except BadRecord as error:
        return Record(Molecule.flawed(f"{where}: {error}"))
    except NeedsRdkit as error:
        raise NeedsRdkit(f"{where}: {error}") from error


def _read_smiles(texts: Sequence[str], line: int) -> list[Molecule]:
    molecules = []
    for text in texts:
        if not text.lstrip().startswith("#"):
            smiles, name = split_line(text)
            try:
                molecules.append(read_smiles(smiles, name))
            except BadRecord as error:
                molecules.append(Molecule.flawed(f"line {line}: {error}", name))
        line += text.count("\n")
    return molecules
