"""Text files of molecules: recognised by their names, read, and cut into records. Nothing here knows chemistry.

A record is the text of one molecule: of SDF up to and with its `$$$$` line, of XYZ one frame, of SMILES one line with
the empty lines behind it. A plain file is mapped into memory rather than read, so that only its records are copied.
"""

import gzip
import mmap
import re
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from unite_mm.errors import UsageError

TextKind = Literal["sdf", "xyz", "smiles"]

SUFFIXES: dict[str, TextKind] = {".sdf": "sdf", ".xyz": "xyz", ".smi": "smiles", ".smiles": "smiles"}
"""Text formats by file suffix; when reading, each may be followed by `.gz`."""

_INCOMPLETE = "download it again, or remove the incomplete molecule at its end"


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
        raise UsageError(f"{path}: cannot be read: {error}", "the file may be damaged or incomplete") from error
    head = bytes(content[:512]).lstrip().lower()
    if not bytes(content[:65536]).strip():
        raise UsageError(f"{path}: the file is empty")
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise UsageError(f"{path}: a web page, not molecules", "download the file again")
    return content


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
    rest = bytes(text[bounds[-1] :])
    if rest.strip():  # the last record may lack the dollars, as MOL files do
        if b"M  END" not in rest:
            raise UsageError(f"{path}: incomplete SDF file: it ends inside molecule {len(bounds)}", _INCOMPLETE)
        bounds.append(len(text))
    return bounds


def _xyz_bounds(path: Path, text: bytes | mmap.mmap) -> list[int]:
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
                raise UsageError(f"{path}: incomplete XYZ file: it ends inside molecule {len(bounds)}", _INCOMPLETE)
            end = _line_end(text, end)
        line += int(count) + 2
        at = end
        bounds.append(at)
    return bounds


def _smiles_bounds(text: bytes | mmap.mmap) -> list[int]:
    starts = [match.start() for match in re.finditer(rb"^[^\S\n]*\S", text, re.MULTILINE)]
    if re.match(rb"\s*smiles\b", text, re.IGNORECASE):  # a first line that names the column is not a molecule
        starts = starts[1:]
    return [*starts, len(text)]


def _line_end(text: bytes | mmap.mmap, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end + 1
