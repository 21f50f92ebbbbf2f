"""A package of the layout of qm9pack with a few molecules, written where a test wants it.

`qm9_rows.csv` holds rows of the published package (the data are CC0): methane, ammonia, water, hydrogen cyanide, and
gdb_282, a zwitterion with hydrogens before heavy atoms.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from unite_mm_molecule.data import package

HEADER, *ROWS = (Path(__file__).parent / "qm9_rows.csv").read_text().splitlines()
METHANE, AMMONIA, WATER, CYANIDE, ZWITTERION = ROWS


def changed(row: str, **cells: str) -> str:
    """A row with other cells, by the names of their columns."""
    values = dict(zip(package.COLUMNS, next(csv.reader([row])), strict=True)) | cells
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values.values())
    return line.getvalue()


def made_up(index: int, smiles: str, elements: Sequence[str], positions: Sequence[Sequence[float]]) -> str:
    """A row of a molecule that is not in QM9; its properties are methane's."""
    return changed(
        METHANE,
        Index=str(index),
        SMILES=smiles,
        Elements=str(list(elements)),
        XYZ_Ang=str([list(p) for p in positions]),
    )


def write_package(site: Path, monkeypatch: pytest.MonkeyPatch, rows: Sequence[str] = ROWS) -> Path:
    """Install a package with these rows for the length of a test, in three files; its folder of data.

    Importing it is an error.
    """
    folder = site / package.NAME / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('the package was imported')\n")
    third = -(-len(rows) // 3)
    counts = {}
    for part, name in enumerate(package.FILES):
        chosen = rows[part * third : (part + 1) * third]
        counts[name] = len(chosen)
        (folder / name).write_text("".join(f"{line}\n" for line in [HEADER, *chosen]))
    monkeypatch.setattr(package, "FILES", counts)
    monkeypatch.syspath_prepend(site)
    return folder


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package count as not installed for the length of a test."""
    monkeypatch.setattr(package, "find_spec", lambda name: None)
