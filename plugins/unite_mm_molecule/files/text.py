"""Text files of molecules: recognised by their names, read, and cut into records. Nothing here knows chemistry.

A record is the text of one molecule: of SDF up to and with its `$$$$` line, of MOL2 from one MOLECULE line to the next,
of XYZ one frame, of SMILES one line with the empty lines behind it. A plain file is mapped into memory rather than
read, so that only its records are copied.
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

TextKind = Literal["sdf", "mol2", "xyz", "smiles"]

SUFFIXES: dict[str, TextKind] = {
    ".sdf": "sdf", ".sd": "sdf", ".mol": "sdf", ".mol2": "mol2", ".xyz": "xyz",
    ".smi": "smiles", ".smiles": "smiles", ".csv": "smiles",
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
    return as_records(path, member or path.name, read_content(path, member))


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
    return checked(path, content)


def checked(path: Path, content: bytes | mmap.mmap) -> bytes | mmap.mmap:
    """The content of a file with Unix line ends.

    Raises:
        UsageError: it is empty, or a web page.
    """
    start = bytes(content[:65536])
    if not start.strip():
        raise UsageError(f"{path}: the file is empty")
    if start.lstrip()[:512].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise UsageError(f"{path}: a web page, not molecules", "download the file again")
    if b"\r" in start and b"\n" not in start:  # line ends of old Macs
        content = bytes(content).replace(b"\r", b"\n")
    return content


def as_records(path: Path, name: str, content: bytes | mmap.mmap) -> bytes | mmap.mmap:
    """Checked content as records are cut from it: of a table its SMILES.

    Args:
        path: for messages.
        name: its suffix names the format.
        content: all of it.

    Raises:
        UsageError: the table has no column of SMILES.
    """
    return smiles_column(path, bytes(content)) if text_suffix(Path(name)) == ".csv" else content


def _read(path: Path, member: str | None) -> bytes | mmap.mmap:
    most = most_bytes(path.stat().st_size)
    if not path.is_file():
        raise ValueError("not a regular file")
    if member is not None:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(member).file_size > most:
                raise too_large(path, archive.getinfo(member).file_size)
            with archive.open(member) as stream:
                return at_most(path, stream, most)
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        with gzip.open(path) if suffix == ".gz" else bz2.open(path) as stream:
            return at_most(path, stream, most)
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def at_most(path: Path, stream: "IO[bytes] | gzip.GzipFile | bz2.BZ2File", most: int) -> bytes:
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
    return {"sdf": _sdf_bounds, "mol2": _mol2_bounds, "xyz": _xyz_bounds}[kind](path, text)


def _mol2_bounds(path: Path, text: bytes | mmap.mmap) -> list[int]:
    starts = [match.start() for match in re.finditer(rb"^@<TRIPOS>MOLECULE", text, re.MULTILINE)]
    if not starts:
        raise UsageError(f"{path}: holds no @<TRIPOS>MOLECULE, with which a molecule of MOL2 begins")
    return [*starts, len(text)]


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
    """A frame of a wrong count, and lines between frames that are no atoms, are records too: flawed ones."""
    at = _not_blank(text, 0)
    bounds = [at]
    while at < len(text):
        end = _line_end(text, at)
        count = _count_of(text, at)
        if count is None:
            if len(bounds) == 1 or (following := _next_count(text, end)) is None:
                raise _no_count(path, text, at)
            at = following
        else:
            at = _frame_end(path, text, at, count, len(bounds))
        bounds.append(at)
    return bounds


def _frame_end(path: Path, text: bytes | mmap.mmap, at: int, count: int, number: int) -> int:
    """Where the record of a frame ends: behind as many atoms as it announces, unless it has more or fewer.

    Args:
        path: for messages.
        text: the whole text.
        at: where the frame begins.
        count: the atoms that it announces.
        number: of the frame, from 1.

    Raises:
        UsageError: the text ends before.
    """
    comment = _line_end(text, at)
    atoms = end = _line_end(text, comment)
    missing = comment >= len(text)
    for _ in range(count):
        missing = missing or end >= len(text)
        if missing:
            break
        end = _line_end(text, end)
    # A line that holds a count alone is no atom: the next frame begins before this one should end.
    if early := _COUNT_LINE.search(text, atoms, end):
        return early.start()
    if missing:
        raise UsageError(f"{path}: incomplete XYZ file: it ends inside molecule {number}", _INCOMPLETE)
    if bytes(text[comment : comment + 4]) == b"gdb ":
        end = _qm9_end(text, end)
    after = _not_blank(text, end)
    if after < len(text) and _is_atom(bytes(text[after : _line_end(text, after)])):
        following = _next_count(text, after)  # it has more atoms than it announces
        return len(text) if following is None else following
    return after


_COUNT_LINE = re.compile(rb"^[^\S\n]*\d+[^\S\n]*$", re.MULTILINE)


def _next_count(text: bytes | mmap.mmap, at: int) -> int | None:
    """Where the next line begins that holds a count alone; None where there is none."""
    found = _COUNT_LINE.search(text, at)
    return None if found is None else found.start()


def _count_of(text: bytes | mmap.mmap, at: int) -> int | None:
    """The number of atoms that a line announces; None where it is no such line."""
    count = bytes(text[at : min(_line_end(text, at), at + 100)]).strip()
    return int(count) if count.isdigit() and len(count) < 10 and int(count) <= _MOST_ATOMS else None


def _no_count(path: Path, text: bytes | mmap.mmap, at: int) -> UsageError:
    count = bytes(text[at : min(_line_end(text, at), at + 100)]).strip()
    line = bytes(text[:at]).count(b"\n") + 1
    found = count[:40].decode(errors="replace")
    limit = f" (at most {_MOST_ATOMS:,})" if count.isdigit() else ""
    return UsageError(f"{path}, line {line}: expected a number of atoms{limit}, found {found!r}")


_ATOM_LINE = re.compile(rb"\s*[A-Za-z0-9]{1,3}(\s+[-+.\d][-+.\deE*^]*){3}(\s|$)")


def _is_atom(line: bytes) -> bool:
    """Whether a line looks like an atom: a symbol or number and three coordinates."""
    return _ATOM_LINE.match(line) is not None


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
