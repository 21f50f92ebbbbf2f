"""Text files of molecules: recognised by their names, read, and cut into records. Nothing here knows chemistry.

A record is the text of one molecule: of SDF up to and with its `$$$$` line, of XYZ one frame, of SMILES one line with
the empty lines behind it. A plain file is mapped into memory rather than read, so that only its records are copied.
"""

import bz2
import gzip
import mmap
import re
import zipfile
from pathlib import Path
from typing import IO, Literal

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.arrays import most_bytes, too_large
from unite_mm.kit.messages import first_line

TextKind = Literal["sdf", "xyz", "smiles"]

SUFFIXES: dict[str, TextKind] = {
    ".sdf": "sdf", ".sd": "sdf", ".mol": "sdf", ".xyz": "xyz", ".smi": "smiles", ".smiles": "smiles", ".csv": "smiles",
}  # fmt: skip
"""Text formats by file suffix; when reading, each may be followed by one of `COMPRESSED`."""

COMPRESSED = (".gz", ".bz2")

_INCOMPLETE = "download it again, or remove the incomplete molecule at its end"
_MOST_ATOMS = 1_000_000


def text_suffix(path: Path) -> str:
    """The suffix of a file's name that tells its format, without that of its compression; empty where there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return suffixes[0] if len(suffixes) == 2 and suffixes[1] in COMPRESSED else (suffixes or [""])[-1]


def text_kind(path: Path) -> TextKind | None:
    """The text format that a file's name says it has; None for any other name."""
    return SUFFIXES.get(text_suffix(path))


def read_text(path: Path, member: str | None = None) -> bytes | mmap.mmap:
    """What `read_content` gives; of .csv, its column of SMILES.

    Raises:
        UsageError: as `read_content` does, or the table has no such column.
    """
    content = read_content(path, member)
    return smiles_column(path, bytes(content)) if text_suffix(Path(member or path.name)) == ".csv" else content


def read_content(path: Path, member: str | None = None) -> bytes | mmap.mmap:
    """The content of a file, of a .gz or .bz2 file, or of a member of a zip file.

    Raises:
        UsageError: it cannot be read, unpacks to more than `most_bytes`, is empty, or is a web page (an error page
            saved under the name of the data).
    """
    try:
        content = _read(path, member)
    except UniteError:
        raise
    except Exception as error:  # what zipfile, gzip and bz2 raise on damaged, encrypted or made-up files is open-ended
        raise UsageError(
            f"{path}: cannot be read: {first_line(error)[:200]}", "the file may be damaged or incomplete"
        ) from error
    start = bytes(content[:65536])
    if not start.strip():
        raise UsageError(f"{path}: the file is empty")
    if start.lstrip()[:512].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise UsageError(f"{path}: a web page, not molecules", "download the file again")
    if b"\r" in start and b"\n" not in start:  # line ends of old Macs
        content = bytes(content).replace(b"\r", b"\n")
    return content


def _read(path: Path, member: str | None) -> bytes | mmap.mmap:
    most = most_bytes(path.stat().st_size)
    if not path.is_file():
        raise ValueError("not a regular file")
    if member is not None:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(member).file_size > most:
                raise too_large(path, archive.getinfo(member).file_size)
            with archive.open(member) as stream:
                return _at_most(path, stream, most)
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        with gzip.open(path) if suffix == ".gz" else bz2.open(path) as stream:
            return _at_most(path, stream, most)
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _at_most(path: Path, stream: "IO[bytes] | gzip.GzipFile | bz2.BZ2File", most: int) -> bytes:
    """All that a stream holds.

    Raises:
        UsageError: that is more than `most` bytes.
    """
    parts, size = [], 0
    while part := stream.read(1 << 20):
        size += len(part)
        if size > most:
            raise too_large(path)
        parts.append(part)
    return b"".join(parts)


def smiles_column(path: Path, content: bytes) -> bytes:
    """The lines `SMILES<tab>name` of a table with a header, one for each of its rows, with a header again.

    Raises:
        UsageError: no column is called SMILES.
    """
    import csv

    text = content.decode("utf-8-sig", errors="replace")
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    try:
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    except csv.Error as error:
        raise UsageError(f"{path}: cannot be read as a table: {error}") from error
    names = [name.strip().lower() for name in rows[0]]
    column = next((i for i, name in enumerate(names) if name == "smiles"), None)
    if column is None:
        column = next((i for i, name in enumerate(names) if "smiles" in name), None)
    if column is None:
        found = ", ".join(names)[:80]
        raise UsageError(f"{path}: no column is called SMILES; its first line is {found!r}", "name the column `smiles`")
    label = next((i for i, name in enumerate(names) if name in ("name", "id", "mol_id", "title")), None)
    lines = ["smiles"]
    for row in rows[1:]:
        smiles = row[column].strip() if column < len(row) else ""
        name = " ".join(row[label].split()) if label is not None and label < len(row) else ""
        lines.append(f"{smiles.split()[0] if smiles else '?'}\t{name}")  # `?` is no SMILES: the row counts
    return "\n".join([*lines, ""]).encode()


def decode(record: bytes) -> str:
    """A record as text, with Unix line ends."""
    return record.decode("utf-8", errors="replace").replace("\r\n", "\n")


def record_bounds(path: Path, kind: TextKind, text: bytes | mmap.mmap) -> list[int]:
    """Find the records of a text.

    Args:
        path: for messages.
        kind: format of the text.
        text: what `read_text` returned.

    Returns:
        Offsets where records start, and the end of the last one.

    Raises:
        UsageError: the text ends within a record, or is not of this kind.
    """
    if kind == "smiles":
        return _smiles_bounds(text)
    return (_sdf_bounds if kind == "sdf" else _xyz_bounds)(path, text)


def _sdf_bounds(path: Path, text: bytes | mmap.mmap) -> list[int]:
    bounds = [0]
    at = text.find(b"$$$$")
    while at >= 0:
        if at == 0 or text[at - 1 : at] == b"\n":
            bounds.append(_line_end(text, at))  # the rest of the dollars' line is dropped
        at = text.find(b"$$$$", at + 4)
    if _not_blank(text, bounds[-1]) < len(text):  # the last record may lack the dollars, as MOL files do
        if text.find(b"M  END", bounds[-1]) < 0:
            raise UsageError(f"{path}: incomplete SDF file: it ends inside molecule {len(bounds)}", _INCOMPLETE)
        bounds.append(len(text))
    return bounds


def _xyz_bounds(path: Path, text: bytes | mmap.mmap) -> list[int]:
    at = _not_blank(text, 0)
    bounds = [at]
    while at < len(text):
        end = _line_end(text, at)
        count = bytes(text[at : min(end, at + 100)]).strip()
        if not count.isdigit() or len(count) > 9 or int(count) > _MOST_ATOMS:
            line = bytes(text[:at]).count(b"\n") + 1
            found = count[:40].decode(errors="replace")
            limit = f" (at most {_MOST_ATOMS:,})" if count.isdigit() else ""
            raise UsageError(f"{path}, line {line}: expected a number of atoms{limit}, found {found!r}")
        comment = bytes(text[end : end + 4])
        for _ in range(int(count) + 1):
            if end >= len(text):
                raise UsageError(f"{path}: incomplete XYZ file: it ends inside molecule {len(bounds)}", _INCOMPLETE)
            end = _line_end(text, end)
        if comment == b"gdb ":
            end = _qm9_end(text, end)
        at = _not_blank(text, end)
        bounds.append(at)
    return bounds


def _qm9_end(text: bytes | mmap.mmap, at: int) -> int:
    """Where a frame of QM9's own files ends: frequencies, SMILES and InChI follow its atoms."""
    inchi = _line_end(text, _line_end(text, at))
    return _line_end(text, inchi) if bytes(text[inchi : inchi + 6]) == b"InChI=" else at


def _not_blank(text: bytes | mmap.mmap, at: int) -> int:
    """Where the next line begins that is not blank."""
    while at < len(text):
        end = _line_end(text, at)
        if bytes(text[at:end]).strip():
            return at
        at = end
    return at


def _smiles_bounds(text: bytes | mmap.mmap) -> list[int]:
    starts = [match.start() for match in re.finditer(rb"^[^\S\n]*\S", text, re.MULTILINE)]
    if re.match(rb"\s*smiles\b", text, re.IGNORECASE):  # a first line that names the column is not a molecule
        starts = starts[1:]
    return [*starts, len(text)]


def _line_end(text: bytes | mmap.mmap, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end + 1
