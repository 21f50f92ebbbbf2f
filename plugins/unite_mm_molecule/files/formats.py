"""Sample files: SDF, SMILES, XYZ and arrays (.npz), written and read one to one, invalid molecules included.

Every sample is one record, so that shares taken of a file have the right denominator. SDF, XYZ and arrays need no
RDKit; where it is installed, molecules with implicit hydrogens get them in SDF and XYZ files, and reading takes them
off again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from unite_mm.errors import UsageError
from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import rdkit_installed
from unite_mm_molecule.files.arrays import array_file, read_samples
from unite_mm_molecule.files.output import write_whole
from unite_mm_molecule.files.records import BadRecord, NeedsRdkit, Record, with_hydrogens, without_added_hydrogens
from unite_mm_molecule.files.sdf import read_record, without_dollars, write_record
from unite_mm_molecule.files.smiles import read_smiles, split_line, write_smiles
from unite_mm_molecule.files.text import SUFFIXES as TEXT_SUFFIXES
from unite_mm_molecule.files.text import TextKind, decode, read_text, record_bounds
from unite_mm_molecule.files.xyz import read_frame, write_frame
from unite_mm_molecule.molecule import Molecule

SUFFIXES = (*TEXT_SUFFIXES, ".npz")
"""Known formats; text formats are also read with `.gz` behind."""

_INSTALL = "pip install rdkit"


def write(samples: Sequence[Molecule], path: Path) -> None:
    """Write samples in the format that the suffix names; the file appears whole or not at all.

    - `.sdf`: V2000 with charges, bonds and positions (4 decimals), also for invalid molecules.
    - `.xyz`: types and positions; bonds and charges in the comment line, which other programs ignore.
    - `.smi`, `.smiles`: one line per sample. Strictly sound ones as canonical SMILES without hydrogens; others as they
      are, all atoms written out, which no program will take for sound. Needs RDKit.
    - `.npz`: the arrays, positions as float32.

    Raises:
        UsageError: the suffix names no known format, a molecule does not fit it, or RDKit is needed and not installed.
        UniteError: the file cannot be written.
    """
    suffix = _suffix(path, "write")
    if suffix == ".npz":
        content = array_file(samples)
    else:
        content = "".join(_texts(samples, path, TEXT_SUFFIXES[suffix])).encode()

    def fill(aside: Path) -> None:
        aside.write_bytes(content)

    write_whole(path, fill)


def read(path: Path) -> list[Molecule]:
    """Read samples back, in order; the suffix names the format.

    Files of other programs are read too: hydrogens count as explicit if any molecule of an SDF or XYZ file has one;
    XYZ frames without bonds get them from the geometry; SMILES have implicit hydrogens and no positions.

    Raises:
        UsageError: the file does not exist, is empty, incomplete or damaged; the message names record or line.
    """
    suffix = _suffix(path, "read")
    if not path.is_file():
        raise UsageError(f"{path}: no such file", f"known formats: {', '.join(SUFFIXES)}")
    samples = read_samples(path) if suffix == ".npz" else _read_text(path, TEXT_SUFFIXES[suffix])
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
        raise UsageError(f"{path}: cannot {verb} molecules as {kind}", f"known formats: {', '.join(SUFFIXES)}")
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


def _read_text(path: Path, kind: TextKind) -> list[Molecule]:
    text = read_text(path)
    if kind == "smiles":
        _need_rdkit_for_smiles(path)
    bounds = record_bounds(path, kind, text)
    records = [decode(bytes(text[start:end])) for start, end in pairwise(bounds)]
    try:
        if kind == "sdf":
            return without_added_hydrogens(_read_sdf(records))
        if kind == "xyz":
            return without_added_hydrogens(_read_xyz(records))
        return _read_smiles(records, line=bytes(text[: bounds[0]]).count(b"\n") + 1)
    except BadRecord as error:
        raise UsageError(f"{path}: {error}", "the file may be damaged or incomplete") from error
    except NeedsRdkit as error:
        raise UsageError(f"{path}: {error}", _INSTALL) from error


def _read_sdf(texts: Sequence[str]) -> list[Record]:
    if len(texts) > 1 and "\n$$$$" not in f"\n{texts[-1]}":  # a file of one molecule may lack the dollars, as MOL files
        raise BadRecord(f"record {len(texts)}: incomplete: no `$$$$` line at the end of the file")
    records = []
    for index, text in enumerate(texts):
        where = f"record {index + 1} of {len(texts)}"
        try:
            records.append(_read_block(without_dollars(text)))
        except BadRecord as error:
            raise BadRecord(f"{where}: {error}") from error
        except NeedsRdkit as error:
            raise NeedsRdkit(f"{where}: {error}") from error
    return records


def _read_block(block: str) -> Record:
    try:
        return read_record(block)
    except NeedsRdkit as kind:
        return _read_with_rdkit(block, str(kind))


def _read_with_rdkit(block: str, kind: str) -> Record:
    """A record of a kind that only RDKit reads.

    Raises:
        BadRecord: RDKit cannot read it either.
        NeedsRdkit: RDKit is not installed.
    """
    if not rdkit_installed():
        raise NeedsRdkit(f"{kind} needs RDKit")
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        if mol is None:
            raise BadRecord(f"{kind}: RDKit cannot read it")
        try:
            molecule = Molecule.from_rdkit(mol, block.partition("\n")[0].strip())
        except ValueError as error:
            raise BadRecord(f"{kind}: {first_line(error)}") from error
    if not np.isin(molecule.bonds[:, 2], (1, 2, 3)).all():
        raise BadRecord("a bond that is not single, double, triple or aromatic")
    return Record(replace(molecule, explicit_hydrogens=True))


def _read_xyz(texts: Sequence[str]) -> list[Record]:
    records = []
    for index, text in enumerate(texts):
        try:
            records.append(read_frame(text))
        except BadRecord as error:
            raise BadRecord(f"frame {index + 1} of {len(texts)}: {error}") from error
    return records


def _read_smiles(texts: Sequence[str], line: int) -> list[Molecule]:
    molecules = []
    for text in texts:
        if not text.lstrip().startswith("#"):
            try:
                molecules.append(read_smiles(*split_line(text)))
            except BadRecord as error:
                raise BadRecord(f"line {line}: {error}") from error
        line += text.count("\n")
    return molecules
