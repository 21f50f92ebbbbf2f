"""Molecule files cut into pieces that worker processes read: SDF, XYZ, SMILES (each also as .gz) and array files.

Nothing here knows chemistry; a plain file is mapped into memory rather than read, so that only pieces are copied.
"""

import gzip
import mmap
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from unite_mm.errors import UsageError
from unite_mm_molecule.data.convert import Piece
from unite_mm_molecule.data.flat import FlatMolecules

TextKind = Literal["sdf", "xyz", "smiles"]

SUFFIXES: dict[str, TextKind] = {".sdf": "sdf", ".xyz": "xyz", ".smi": "smiles", ".smiles": "smiles"}
"""Text formats by file suffix; each may be followed by `.gz`."""

PER_PIECE = 256
"""Molecules in a piece: about a tenth of a second of work."""


class Pieces(Sequence[Piece]):
    """The pieces of a source, cut out only when asked for.

    Args:
        kind: format of the text.
        text: the whole text.
        bounds: offsets where molecules start, and the end of the last one.
        skip: indices of molecules to leave out as uncharacterized.
    """

    def __init__(
        self, kind: TextKind, text: bytes | mmap.mmap, bounds: Sequence[int], skip: frozenset[int] = frozenset()
    ) -> None:
        self._kind: TextKind = kind
        self._text = text
        self._bounds = bounds
        self._skip = skip
        self.molecules = len(bounds) - 1

    def __len__(self) -> int:
        return -(-self.molecules // PER_PIECE)

    @overload
    def __getitem__(self, index: int) -> Piece: ...

    @overload
    def __getitem__(self, index: slice) -> list[Piece]: ...

    def __getitem__(self, index: int | slice) -> Piece | list[Piece]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = index * PER_PIECE
        last = min(first + PER_PIECE, self.molecules)
        skip = frozenset(self._skip.intersection(range(first, last)))
        text = bytes(self._text[self._bounds[first] : self._bounds[last]])
        return Piece(self._kind, first, last - first, text, skip=skip)


def text_kind(path: Path) -> TextKind | None:
    """The text format that a file's name says it has; None for any other name."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return SUFFIXES.get(suffixes[0] if len(suffixes) == 2 and suffixes[1] == ".gz" else (suffixes or [""])[-1])


def read_text(path: Path, member: str | None = None) -> bytes | mmap.mmap:
    """The content of a file, of a .gz file, or of a member of a zip file.

    Raises:
        UsageError: it cannot be read, is empty, or is a web page (an error page saved under the name of the data).
    """
    try:
        if member is not None:
            with zipfile.ZipFile(path) as archive:
                content: bytes | mmap.mmap = archive.read(member)
        elif path.suffix.lower() == ".gz":
            content = gzip.decompress(path.read_bytes())
        elif path.stat().st_size == 0:
            content = b""
        else:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        # The zip module raises RuntimeError for encrypted and NotImplementedError for unknown kinds of members.
        raise UsageError(f"{path}: cannot be read: {error}", "Get the file again; it may be incomplete.") from error
    head = bytes(content[:512]).lstrip().lower()
    if not bytes(content[:65536]).strip():
        raise UsageError(f"{path}: the file is empty")
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise UsageError(f"{path}: this is a web page, not molecules", "Get the file again; see what its server said.")
    return content


def cut(path: Path, kind: TextKind, text: bytes | mmap.mmap, skip: frozenset[int] = frozenset()) -> Pieces:
    """Find the molecules of a text.

    Args:
        path: for messages.
        kind: format of the text.
        text: what `read_text` returned.
        skip: indices of molecules to leave out as uncharacterized.

    Raises:
        UsageError: the text is cut off, or not of this kind.
    """
    cutters = {"sdf": _cut_sdf, "xyz": _cut_xyz, "smiles": _cut_smiles}
    return Pieces(kind, text, cutters[kind](path, text), skip)


def _cut_sdf(path: Path, text: bytes | mmap.mmap) -> list[int]:
    bounds = [0]
    at = text.find(b"$$$$")
    while at >= 0:
        if at == 0 or text[at - 1 : at] == b"\n":
            line_end = text.find(b"\n", at)
            bounds.append(len(text) if line_end < 0 else line_end + 1)
        at = text.find(b"$$$$", at + 4)
    rest = bytes(text[bounds[-1] :])
    if rest.strip():
        if b"M  END" not in rest:
            raise UsageError(
                f"{path}: not a complete SDF file: it ends inside molecule {len(bounds)}",
                "Get the file again, or remove the incomplete molecule at its end.",
            )
        bounds.append(len(text))
    return bounds


def _cut_xyz(path: Path, text: bytes | mmap.mmap) -> list[int]:
    bounds = [0]
    at = 0
    line = 1
    while at < len(text):
        end = _line_end(text, at)
        count = bytes(text[at:end]).strip()
        if not count and not bytes(text[end:]).strip():
            break
        if not count.isdigit():
            found = count[:40].decode(errors="replace")
            raise UsageError(f"{path}, line {line}: expected a number of atoms, found {found!r}")
        for _ in range(int(count) + 1):
            if end >= len(text):
                raise UsageError(
                    f"{path}: not a complete XYZ file: it ends inside molecule {len(bounds)}",
                    "Get the file again, or remove the incomplete molecule at its end.",
                )
            end = _line_end(text, end)
        line += int(count) + 2
        at = end
        bounds.append(at)
    return bounds


def _line_end(text: bytes | mmap.mmap, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end + 1


def _cut_smiles(path: Path, text: bytes | mmap.mmap) -> list[int]:
    del path
    # A first line that names the column is not a molecule. Lines without content belong to the line before them.
    starts = [match.start() for match in re.finditer(rb"^[^\S\n]*\S", text, re.MULTILINE)]
    if re.match(rb"\s*smiles\b", text, re.IGNORECASE):
        starts = starts[1:]
    return [*starts, len(text)]


def read_arrays(path: Path) -> FlatMolecules:
    """The molecules of an array file (.npz): of the form of the embedded set, or as the plugin writes samples.

    Raises:
        UsageError: it cannot be read or lacks an array.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            compact = "position_milliangstrom" in arrays
            molecules = _from_compact(arrays, path.stem) if compact else FlatMolecules.from_arrays(arrays)
    except KeyError as error:
        raise UsageError(f"{path}: not a file of molecules: {error.args[0]}") from error
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: cannot be read: {error}", "The file may be damaged or incomplete.") from error
    atoms = {len(molecules.numbers), len(molecules.charges), len(molecules.positions), int(molecules.atoms.sum())}
    bonds = {len(molecules.begin), len(molecules.end), len(molecules.orders), int(molecules.bonds.sum())}
    if len(atoms) != 1 or len(bonds) != 1 or not len(molecules) == len(molecules.bonds) == len(molecules.names):
        raise UsageError(f"{path}: cannot be read: its arrays do not belong together")
    return molecules


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


def cut_records(molecules: FlatMolecules) -> list[Piece]:
    """Pieces of molecules that are arrays already."""
    pieces = []
    for first in range(0, len(molecules), PER_PIECE):
        last = min(first + PER_PIECE, len(molecules))
        pieces.append(Piece("records", first, last - first, records=molecules.part(first, last)))
    return pieces
