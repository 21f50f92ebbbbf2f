"""What `--data` may name, and how each source is recognised and opened."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unite_mm.errors import UsageError
from unite_mm.kit.cache import describe_file
from unite_mm.kit.download import fetch
from unite_mm.progress import Progress
from unite_mm_molecule.data import download, package
from unite_mm_molecule.data.pieces import Piece, TextPieces, array_pieces
from unite_mm_molecule.data.properties import read_property_table
from unite_mm_molecule.files.arrays import read_arrays
from unite_mm_molecule.files.containers import Container, open_container
from unite_mm_molecule.files.text import read_content, read_text, text_kind
from unite_mm_schemas.card import SourceFile

EMBEDDED = Path(__file__).parents[1] / "embedded" / "embedded.npz"
"""The set that ships with the package."""

_RAW = "gdb9.sdf"
_LIST = "uncharacterized.txt"
_TABLE = "gdb9.sdf.csv"

QM9 = "qm9"
"""The source that is QM9 itself, wherever it is at hand."""

DFT = "QM9, DFT geometries"
"""How tables of results call QM9 with its own geometries, B3LYP/6-31G(2df,p)."""
_KINDS = (
    "a folder or zip with QM9's gdb9.sdf or with molecule files of one kind, or a .sdf, .sd, .mol, .mol2, .xyz, .smi, "
    ".smiles, .csv (each also .gz or .bz2) or .npz file"
)


@dataclass(frozen=True)
class Source:
    """A recognised source, not yet read.

    Attributes:
        name: short name for the card.
        kind: `qm9` for QM9's raw files, `package` for the package qm9pack, a text format, or `arrays`.
        path: the file that holds the molecules; the folder of the package.
        member: the member of a zip file that holds them.
        uncharacterized: where the list of uncharacterized molecules is: a file, or True for the zip file itself.
        container: the folder or zip file whose files hold the molecules; None where one file does.
    """

    name: str
    kind: Literal["qm9", "package", "sdf", "mol2", "xyz", "smiles", "arrays"]
    path: Path
    member: str | None = None
    uncharacterized: Path | bool = False
    container: Container | None = None

    @property
    def hydrogens_may_be_missing(self) -> bool:
        """Whether missing hydrogens are added: SMILES leave them out, SDF files may.

        QM9, XYZ files and arrays hold all of them, so that a missing one is a radical or an error.
        """
        return self.kind in ("sdf", "mol2", "smiles")

    @property
    def geometry_may_be_missing(self) -> bool:
        """Whether molecules without 3D coordinates are given a geometry."""
        return self.kind in ("sdf", "mol2", "smiles", "arrays")

    def files(self) -> tuple[SourceFile, ...]:
        """The files with sizes and hashes.

        Raises:
            UsageError: one cannot be read.
        """
        if self.kind == "package":
            paths = [self.path / name for name in package.FILES]
        else:
            paths = [self.path] + ([self.uncharacterized] if isinstance(self.uncharacterized, Path) else [])
        return tuple(describe_file(path) for path in paths)

    def pieces(self) -> Sequence[Piece]:
        """The molecules, cut into pieces.

        Raises:
            UsageError: a file cannot be read, is incomplete, or holds no molecule.
        """
        pieces: Sequence[Piece]
        if self.kind == "package":
            pieces = package.PackagePieces(self.path)
        elif self.kind == "arrays":
            pieces = array_pieces(read_arrays(self.path)[0])
        else:
            text = read_text(self.path, self.member) if self.container is None else self.container.text
            skip = download.parse_uncharacterized(self._list()) if self.uncharacterized else frozenset()
            pieces = TextPieces(self.path, "sdf" if self.kind == "qm9" else self.kind, text, skip)
        if not pieces:
            raise UsageError(f"{self.path}: holds no molecule")
        return pieces

    def property_table(self) -> Mapping[str, Sequence[float]] | None:
        """The properties that lie beside QM9's raw SDF file, as `read_property_table` gives them; None: there are none.

        Raises:
            UsageError: the file that should hold them cannot be read.
        """
        if self.kind != "qm9":
            return None
        if self.member is None:
            beside = self.path.with_name(_TABLE)
            table = bytes(read_content(beside)[:]) if beside.is_file() else b""
        else:
            with zipfile.ZipFile(self.path) as archive:
                member = next((name for name in archive.namelist() if name.split("/")[-1] == _TABLE), None)
            table = b"" if member is None else bytes(read_content(self.path, member)[:])
        return read_property_table(table.decode(errors="replace").splitlines())

    def notes(self) -> tuple[str, ...]:
        """What the card must say of the source beside its files."""
        if self.kind == "package":
            return (package.package_note(),)
        if self.kind != "qm9":
            return ()
        if self.uncharacterized:
            return ("Downloaded.",) if self.name == QM9 else ()
        return ("No uncharacterized.txt was given: uncharacterized molecules of QM9 are not left out.",)

    def _list(self) -> str:
        if isinstance(self.uncharacterized, Path):
            return bytes(read_text(self.uncharacterized)[:]).decode(errors="replace")
        with zipfile.ZipFile(self.path) as archive:
            member = next(name for name in archive.namelist() if name.split("/")[-1] == _LIST)
            return archive.read(member).decode(errors="replace")

    def description(self, head: str, embed: bool) -> str:
        """The line that every table of results repeats.

        Args:
            head: the start of the text: title and second line of its first molecule tell where geometries come from.
            embed: whether molecules without a geometry are given one.
        """
        if self.name == "embedded":
            return "embedded molecules (C, N, O, F; up to 7 heavy atoms), MMFF94 geometries"
        if self.kind == "smiles" and embed:
            return f"molecules of {self.name}, MMFF94 geometries"
        if self.kind == "package":
            return DFT
        if self.kind != "qm9":
            return f"molecules of {self.name}"
        title, program, *_ = f"{head}\n\n".split("\n")
        if title.startswith("gdb_"):
            return DFT
        return "QM9 molecules, MMFF94 geometries" if "MMFF94" in program else f"QM9 molecules of {self.name}"


def find_source(source: str, downloads: Path, progress: Progress) -> Source:
    """Recognise a source; QM9 is that of the installed package, else downloaded.

    Args:
        source: `qm9`, `embedded`, or a path.
        downloads: where downloads are kept.
        progress: where to show downloads.

    Raises:
        UsageError: the path does not exist, or is of no known kind; or the installed package with QM9 is damaged.
        UniteError: QM9 cannot be downloaded.
    """
    if source == QM9:
        folder = package.find_package()
        if folder is not None:
            return Source(QM9, "package", folder)
        archive = fetch(download.ARCHIVE, downloads, progress)
        listed = fetch(download.UNCHARACTERIZED, downloads, progress)
        return Source(QM9, "qm9", archive, _need_member(archive), listed)
    if source == "embedded":
        return Source("embedded", "arrays", EMBEDDED)
    path = Path(source).expanduser()
    if not path.exists():
        raise UsageError(f"--data {source}: no such file or folder", f"known names: embedded, qm9; files: {_KINDS}")
    if path.is_dir():
        return _find_in_folder(path)
    if not path.is_file():
        raise UsageError(f"--data {source}: not a regular file", f"expected {_KINDS}")
    if path.suffix.lower() == ".zip":
        member = _member(path)
        return _of_container(path.name, path) if member is None else _with_list(path.name, path, member)
    if path.suffix.lower() == ".npz":
        return Source(f"{path.resolve().parent.name}/{path.name}", "arrays", path)
    if path.name == _RAW:
        return _with_list(path.name, path, None)
    kind = text_kind(path)
    if kind is None:
        raise UsageError(f"--data {source}: unknown kind of file", f"expected {_KINDS}")
    return Source(path.name, kind, path)


def _find_in_folder(folder: Path) -> Source:
    name = folder.resolve().name
    for place in (folder, folder / "raw"):  # the second as PyTorch Geometric lays it out
        if (place / _RAW).is_file():
            return _with_list(name, place / _RAW, None)
        if (place / "qm9.zip").is_file():
            return _with_list(name, place / "qm9.zip", _need_member(place / "qm9.zip"))
    return _of_container(name, folder)


def _of_container(name: str, path: Path) -> Source:
    """A folder or zip file of molecule files that are not QM9's raw ones."""
    container = open_container(path)
    return Source(name, container.kind, path, container=container)


def _with_list(name: str, path: Path, member: str | None) -> Source:
    """QM9's raw files with the list of uncharacterized molecules that lies beside or in them, if any."""
    beside = path.parent / _LIST
    listed: Path | bool = beside if beside.is_file() else False
    if not listed and member is not None:
        with zipfile.ZipFile(path) as archive:
            listed = any(other.split("/")[-1] == _LIST for other in archive.namelist())
    return Source(name, "qm9", path, member, listed)


def _need_member(path: Path) -> str:
    """As `_member`, of a zip file that has to be QM9's."""
    found = _member(path)
    if found is None:
        raise UsageError(f"{path}: holds no {_RAW}", f"expected {_KINDS}")
    return found


def _member(path: Path) -> str | None:
    """The member of a zip file that is gdb9.sdf, if any."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path}: not a readable zip file: {error}", "the file may be damaged or incomplete"
        ) from error
    return next((name for name in names if name.split("/")[-1] == _RAW), None)
