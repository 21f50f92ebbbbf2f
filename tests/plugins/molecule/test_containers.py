"""Folders and zip files of molecule files, and MOL2: prepared and scored as one file with the same content."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from helpers.molecule_files import NAMED, block, sdf
from helpers.molecules_by_hand import from_smiles
from rdkit import Chem

from unite_mm.contract import DataRequest
from unite_mm.errors import UsageError
from unite_mm.evaluation.verification import verify_data
from unite_mm.progress import Silent
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.dataset import open_data
from unite_mm_molecule.data.prepare import open_prepared
from unite_mm_molecule.data.prepared import Prepared
from unite_mm_molecule.files.formats import read
from unite_mm_molecule.metrics.validity import check_validity

WATER = "3\nwater\nO 0 0 0\nH 0.757 0.587 0\nH -0.757 0.587 0\n"
NAMES = ("water", "ethanol", "benzene", "acid")


def prepare(path: Path) -> Prepared:
    return open_prepared(DataRequest(str(path), path.parent / "cache", workers=1), MoleculeConfig(), "qm9")


def mol2(smiles: str, name: str) -> str:
    """A MOL2 record: atom types and bonds as Sybyl has them, as far as these molecules need."""
    mol = from_smiles(smiles).to_rdkit()
    aromatic = Chem.Mol(mol)
    Chem.SanitizeMol(aromatic)
    atoms, bonds = [], []
    hybrid = {"SP3": "3", "SP2": "2", "SP": "1"}
    for atom in aromatic.GetAtoms():
        x, y, z = mol.GetConformer().GetAtomPosition(atom.GetIdx())
        symbol = atom.GetSymbol()
        kind = "ar" if atom.GetIsAromatic() else hybrid.get(str(atom.GetHybridization()), "")
        kind = symbol if symbol in ("H", "F") else "N.4" if atom.GetFormalCharge() == 1 else f"{symbol}.{kind}"
        atoms.append(f"{atom.GetIdx() + 1} {symbol}{atom.GetIdx()} {x:.4f} {y:.4f} {z:.4f} {kind} 1 LIG 0.0")
    for number, bond in enumerate(aromatic.GetBonds(), 1):
        order = "ar" if bond.GetIsAromatic() else str(int(bond.GetBondTypeAsDouble()))
        bonds.append(f"{number} {bond.GetBeginAtomIdx() + 1} {bond.GetEndAtomIdx() + 1} {order}")
    charged = [(atom.GetIdx() + 1, atom.GetFormalCharge()) for atom in mol.GetAtoms() if atom.GetFormalCharge()]
    if charged:  # as OpenBabel writes them
        atoms += ["@<TRIPOS>UNITY_ATOM_ATTR", *(f"{at} 1\ncharge {charge}" for at, charge in charged)]
    head = ["@<TRIPOS>MOLECULE", name, f"{mol.GetNumAtoms()} {len(bonds)}", "SMALL", "GASTEIGER", ""]
    return "\n".join([*head, "@<TRIPOS>ATOM", *atoms, "@<TRIPOS>BOND", *bonds, ""])


CONTENTS: dict[str, dict[str, str]] = {
    "mol": {f"{name}.mol": block(name) for name in NAMES},
    "sdf, some of them MOL": {
        "a/one.sdf": sdf(map(block, NAMES[:2])),
        "b.mol": block("acid"),
        "c.sd": block("benzene"),
    },
    "xyz": {"1.xyz": WATER, "2.xyz": WATER.replace("water", "again").rstrip()},
    "smiles": {"1.smi": "smiles\nCCO a\n", "2.smi": "smiles\nO b", "3.csv": "smiles,name\nC,c\n"},
    "mol2": {f"{name}.mol2": mol2(NAMED[name], name) for name in NAMES},
}


def folder_of(files: dict[str, str], folder: Path) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "readme.txt").write_text("nothing")
    (folder / ".hidden.sdf").write_text("nothing")
    return folder


def zip_of(files: dict[str, str], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"deep/{name}", text)
        archive.writestr("__MACOSX/deep/._a.sdf", "nothing")
    return path


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("make", [folder_of, zip_of])
def test_files_of_one_kind_are_read_as_one(name: str, make: Any, tmp_path: Path) -> None:
    files = CONTENTS[name]
    path = make(files, tmp_path / ("set.zip" if make is zip_of else "set"))
    prepared, samples = prepare(path), read(path)
    expected = len(files) + (name.startswith("sdf"))
    assert prepared.card.kept == len(samples) == expected and not prepared.card.excluded
    assert [check_validity(sample).smiles for sample in samples] == list(prepared.smiles)
    assert [sample.name for sample in samples] == list(prepared.molecules.names)
    assert len(prepared.card.files) == 1 and prepared.card.name == path.name


def test_another_file_in_a_folder_is_another_set(tmp_path: Path) -> None:
    path = folder_of(CONTENTS["mol"], tmp_path / "set")
    first = prepare(path)
    request = DataRequest(str(path), tmp_path / "cache", workers=1)
    data = open_data(request, MoleculeConfig(), "qm9")
    assert all(check.passed for check in verify_data(data, path, Silent()))
    (path / "more.mol").write_text(block("methane"))
    assert [check.title for check in verify_data(data, path, Silent()) if not check.passed] == ["file set/"]
    second = prepare(path)
    assert second.card.kept == first.card.kept + 1 and first.card.files != second.card.files


@pytest.mark.parametrize("make", [folder_of, zip_of])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.sdf": block("water"), "b.smi": "C\n", "c.smi": "C\n"}, "several kinds: 1 of sdf, 2 of smiles"),
        ({"a.txt": "x", "b.pdb": "x"}, "holds no molecule files"),
        ({"a.sdf": block("water"), "b.sdf": ""}, "b.sdf: the file is empty"),
        ({"a.mol2": "nothing"}, "holds no @<TRIPOS>MOLECULE"),
    ],
)
def test_containers_that_cannot_be_read_say_why(make: Any, files: dict[str, str], message: str, tmp_path: Path) -> None:
    path = make(files, tmp_path / ("set.zip" if make is zip_of else "set"))
    for use in (prepare, read):
        with pytest.raises(UsageError, match=message):
            use(path)


def test_a_zip_of_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of({f"{k}.xyz": WATER for k in range(20)}, tmp_path / "set.zip")
    monkeypatch.setattr("unite_mm_molecule.files.containers.most_bytes", lambda _: 10 * len(WATER))
    with pytest.raises(UsageError, match="unpacks to more than"):
        read(path)


@pytest.mark.parametrize("name", [*NAMED, "N-methylpyrrole", "pyridine"])
def test_mol2_is_read_as_the_molecule_it_is(name: str, tmp_path: Path) -> None:
    smiles = {"N-methylpyrrole": "Cn1cccc1", "pyridine": "c1ccncc1"}.get(name) or NAMED[name]
    path = tmp_path / "a.mol2"
    path.write_text(mol2(smiles, name))
    (sample,) = read(path)
    wanted = check_validity(from_smiles(smiles))
    assert check_validity(sample).smiles == wanted.smiles and sample.explicit_hydrogens
    assert prepare(path).smiles == (wanted.smiles,) and sample.name == name
    assert prepare(path).card.excluded == ()


def test_a_bad_record_of_mol2_costs_no_other(tmp_path: Path) -> None:
    dummy = mol2("CCO", "dummy").replace("C.3", "Du", 1)
    torn = mol2("CCO", "torn").replace("9 8\n", "9 7000\n")
    path = tmp_path / "a.mol2"
    path.write_text("# a remark\n" + mol2("C", "good") + dummy + torn + mol2("O", "last"))
    samples = read(path)
    assert [bool(sample.flaw) for sample in samples] == [False, True, True, False]
    prepared = prepare(path)
    assert prepared.card.kept == 2
    assert {one.reason[:20] for one in prepared.card.excluded} == {"cannot be read", "holds an element tha"}
