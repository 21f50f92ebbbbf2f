"""Folders and zip files of molecule files of one kind, read as if they were one file."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unite_mm.errors import UsageError
from unite_mm.kit.arrays import most_bytes
from unite_mm.kit.messages import first_line
from unite_mm_molecule.files.text import SUFFIXES, TextKind, as_records, at_most, checked, read_text, text_kind

_MOST_FILES = 2_000_000
_HINT = f"expected files of one kind among {', '.join(SUFFIXES)}"


@dataclass(frozen=True)
class Container:
    """A folder or zip file of molecule files.

    Attributes:
        path: the folder or zip file.
        kind: format of all its files.
        members: their paths inside, sorted.
    """

    path: Path
    kind: TextKind
    members: tuple[str, ...]

    @cached_property
    def text(self) -> bytes:
        """The content of all files, one behind the other.

        Raises:
            UsageError: one cannot be read, or they unpack to too much.
        """
        parts = []
        for index, one in enumerate(self._folder() if self.path.is_dir() else self._archive()):
            if self.kind == "smiles" and index and one[:6].lower() == b"smiles":  # each table has a header
                one = one.partition(b"\n")[2]
            if self.kind == "sdf" and not one.rstrip().endswith(b"$$$$"):  # as MOL files lack them
                one = one.rstrip(b"\n") + b"\n$$$$"
            parts.append(one if one.endswith(b"\n") else one + b"\n")
        return b"".join(parts)

    def _folder(self) -> Iterator[bytes]:
        for name in self.members:
            yield bytes(read_text(self.path / name)[:])

    def _archive(self) -> Iterator[bytes]:
        left = most_bytes(self.path.stat().st_size)
        with zipfile.ZipFile(self.path) as archive:
            for name in self.members:
                try:
                    with archive.open(name) as stream:
                        content = at_most(self.path, stream, left)
                except UsageError:
                    raise
                except Exception as error:  # what zipfile raises on damaged or encrypted files is open-ended
                    raise UsageError(
                        f"{self.path / name}: cannot be read: {first_line(error)[:200]}", "the file may be damaged"
                    ) from error
                left -= len(content)
                place = self.path / name
                yield bytes(as_records(place, name, checked(place, content))[:])


def open_container(path: Path) -> Container:
    """The molecule files of a folder, its subfolders included, or of a zip file.

    Raises:
        UsageError: there are none, or of several kinds, or it cannot be read.
    """
    try:
        names = _files_of_folder(path) if path.is_dir() else _files_of_zip(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: cannot be read: {first_line(error)}", "it may be damaged or incomplete") from error
    kinds: dict[TextKind, list[str]] = {}
    for name in names:
        kind = text_kind(Path(name))
        if kind is not None and (path.is_dir() or Path(name).suffix.lower() in SUFFIXES):
            kinds.setdefault(kind, []).append(name)
    if not kinds:
        raise UsageError(f"{path}: holds no molecule files", _HINT)
    if len(kinds) > 1:
        found = ", ".join(f"{len(members):,} of {kind}" for kind, members in sorted(kinds.items()))
        raise UsageError(f"{path}: holds molecule files of several kinds: {found}", "keep one kind, or name one file")
    ((kind, members),) = kinds.items()
    return Container(path, kind, tuple(sorted(members)))


def _files_of_folder(path: Path) -> list[str]:
    found = []
    for count, one in enumerate(path.rglob("*")):
        if count == _MOST_FILES:
            raise UsageError(f"{path}: holds more than {_MOST_FILES:,} files", "name a folder of molecule files alone")
        inside = one.relative_to(path)
        if not any(part.startswith(".") for part in inside.parts) and one.is_file():
            found.append(inside.as_posix())
    return found


def _files_of_zip(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    hidden = ("__MACOSX", ".")
    return [name for name in names if not any(part.startswith(hidden) for part in name.split("/"))]
