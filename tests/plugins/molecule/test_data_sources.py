"""From files to prepared molecules: every kind of source, every filter, every broken file, the cache."""

import errno
import gzip
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import FORKED
from helpers.molecule_files import NAMED, block, named_sdf, raw_folder, raw_zip, sdf, uncharacterized
from helpers.molecule_processes import prepare_at_once
from helpers.processes import Recorder
from rdkit import Chem

from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm_molecule.chemistry import canonical_smiles
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.dataset import open_data
from unite_mm_molecule.data.download import parse_uncharacterized
from unite_mm_molecule.data.prepare import open_prepared
from unite_mm_molecule.data.prepared import Prepared
from unite_mm_molecule.data.splits import assign, split_hash

EXPECTED = {name: Chem.CanonSmiles(smiles) for name, smiles in NAMED.items()}
EXPECTED["hydrogen"] = "[H][H]"


def prepare(source: Path | str, cache: Path, **settings: Any) -> Prepared:
    progress = settings.pop("progress", None) or Recorder()
    refresh = settings.pop("refresh", False)
    request = DataRequest(str(source), cache, progress=progress, workers=1, refresh=refresh)
    return open_prepared(request, MoleculeConfig(**settings), "qm9")


def reasons(prepared: Prepared) -> dict[str, tuple[int, str]]:
    """First words of each reason -> count and first example."""
    assert sum(e.count for e in prepared.card.excluded) + prepared.card.kept == prepared.card.read
    return {" ".join(e.reason.split()[:3]): (e.count, e.examples[0]) for e in prepared.card.excluded}


def write_source(kind: str, folder: Path) -> Path:
    """All named molecules as a source of the given kind."""
    blocks = [block(name) for name in NAMED]
    if kind == "folder":
        return raw_folder(folder / "raw-files", blocks)
    if kind == "pyg-root":
        return raw_folder(folder / "root" / "raw", blocks).parent
    if kind == "zip":
        return raw_zip(folder / "qm9.zip", blocks)
    if kind == "gz":
        path = folder / "own.sdf.gz"
        path.write_bytes(gzip.compress(named_sdf().encode()))
        return path
    if kind == "npz":
        from unite_mm_molecule.files.formats import write

        prepared = prepare(write_source("sdf", folder), folder / "cache-for-npz")
        path = folder / "own.npz"
        write([prepared.molecules.molecule(i) for i in range(len(NAMED))], path)
        return path
    text = {
        "sdf": named_sdf(),
        "windows": named_sdf().replace("\n", "\r\n"),
        "smi": "".join(f"{smiles} {name}\n" for name, smiles in NAMED.items()),
    }[kind]
    path = folder / ("own.smi" if kind == "smi" else "own.sdf")
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("kind", ["folder", "pyg-root", "zip", "sdf", "windows", "gz", "smi", "npz"])
def test_every_kind_of_source_gives_the_same_molecules(kind: str, tmp_path: Path) -> None:
    prepared = prepare(write_source(kind, tmp_path), tmp_path / "cache")
    assert dict(zip(prepared.molecules.names, prepared.smiles, strict=True)) == EXPECTED
    assert prepared.card.read == prepared.card.kept == len(NAMED)
    assert np.isfinite(prepared.molecules.positions).all()
    for index, smiles in enumerate(prepared.smiles):
        molecule = prepared.molecules.molecule(index)
        assert canonical_smiles(molecule.to_rdkit()) == smiles
        assert molecule.explicit_hydrogens and (molecule.bonds[:, 0] < molecule.bonds[:, 1]).all()


def test_positions_and_charges_are_those_of_the_file(tmp_path: Path) -> None:
    prepared = prepare(write_source("sdf", tmp_path), tmp_path / "cache")
    index = prepared.molecules.names.index("zwitterion")
    molecule = prepared.molecules.molecule(index)
    reference = Chem.MolFromMolBlock(block("zwitterion"), removeHs=False)
    assert molecule.charges.tolist() == [atom.GetFormalCharge() for atom in reference.GetAtoms()]
    assert sorted(molecule.charges[molecule.charges != 0].tolist()) == [-1, 1]
    assert molecule.positions is not None
    np.testing.assert_allclose(molecule.positions, reference.GetConformer().GetPositions(), atol=1e-4)


def test_xyz_files_get_bonds_from_their_geometry_and_failures_are_counted(tmp_path: Path) -> None:
    names = ("water", "ethanol", "benzene", "nitromethane")
    frames = [Chem.MolToXYZBlock(Chem.MolFromMolBlock(block(n), removeHs=False)).split("\n", 2) for n in names]
    text = "".join(f"{count}\n{name}\n{rest}" for name, (count, _, rest) in zip(names, frames, strict=True))
    text += "2\nlonely\nC 0 0 0\nH 0 0 1.09\n" + "1\nheavy\nXe 0 0 0\n" + "1\nbroken\nC 0 0\n" + "0\nnothing\n"
    path = tmp_path / "own.xyz"
    path.write_text(text.replace("0.0000", "0.0*^-6"))
    prepared = prepare(path, tmp_path / "cache")
    assert dict(zip(prepared.molecules.names, prepared.smiles, strict=True)) == {n: EXPECTED[n] for n in names}
    assert reasons(prepared)["holds an element"] == (1, "heavy: Xe")
    assert reasons(prepared)["holds no atom"] == (1, "nothing: no atom")
    assert reasons(prepared)["cannot be read"] == (1, "broken: atom line 'C 0 0'")
    assert any(example.startswith("lonely: ") for e in prepared.card.excluded for example in e.examples)


def test_every_filter_counts_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    good = block("ethanol")
    carbon = next(line for line in good.split("\n") if " C " in line)
    overfull = good.replace("  1  2  1  0", "  1  2  3  0").replace("ethanol", "overfull", 1)
    blocks = [
        good,
        block("methane"),
        overfull,
        block("pair", "C.O"),
        good.replace(" C ", " Xx", 1).replace("ethanol", "dummy", 1),
        block("selenium", "C[Se]C"),
        block("radical", "[CH3]"),
        block("ethanol").replace(carbon, "garbage").replace("ethanol", "garbled", 1),
        good.replace(carbon[:10], "       nan", 1).replace("ethanol", "nowhere", 1),
        block("water"),
    ]
    prepared = prepare(raw_folder(tmp_path / "raw-files", blocks, listed=[2]), tmp_path / "cache")
    assert prepared.molecules.names == ("ethanol", "water")
    found = reasons(prepared)
    assert found["listed as uncharacterized"] == (1, "methane: left out")
    assert found["refused by RDKit"][1].startswith("overfull: Explicit valence for atom # 0 C")
    assert found["more than one"] == (1, "pair: 2 fragments")
    assert found["an atom is"][0] == 1 and found["an atom is"][1].startswith("radical: ")
    unusable = [name for e in prepared.card.excluded for name in (example.split(":")[0] for example in e.examples)]
    assert sorted(unusable) == sorted(
        ["methane", "overfull", "pair", "dummy", "selenium", "radical", "garbled", "nowhere"]
    )
    assert any("selenium: Se" in e.examples for e in prepared.card.excluded if "element" in e.reason)


def test_hydrogens_are_supplied_to_own_files_but_never_to_qm9(tmp_path: Path) -> None:
    flat = "flat" + Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    own = tmp_path / "own.sdf"
    own.write_text(sdf([flat, block("water")]))
    prepared = prepare(own, tmp_path / "cache")
    assert prepared.smiles == ("CCO", "O")
    assert prepared.molecules.atoms.tolist() == [9, 3]
    assert prepared.card.notes[0] == "1 molecules were given the hydrogens they lacked."
    assert prepared.card.notes[1].startswith("1 molecules were given a geometry by RDKit")
    graphs = prepare(own, tmp_path / "cache", geometry=False)
    assert graphs.molecules.molecule(0).positions is None and graphs.molecules.molecule(1).positions is not None
    strict = prepare(raw_folder(tmp_path / "raw-files", [flat, block("water")]), tmp_path / "cache")
    assert strict.smiles == ("O",) and reasons(strict)["an atom is"] == (1, "flat: 6 bonds short")


def test_old_charge_columns_and_strange_exponents_are_understood(tmp_path: Path) -> None:
    lines = block("zwitterion").split("\n")
    charges = {1: "  3", -1: "  5"}
    declared = next(line for line in lines if line.startswith("M  CHG")).split()[3:]
    for atom, charge in zip(declared[0::2], declared[1::2], strict=True):
        row = lines[3 + int(atom)]
        lines[3 + int(atom)] = row[:36] + charges[int(charge)] + row[39:]
    lines = [line for line in lines if not line.startswith("M  CHG")]
    x = lines[4][:10]
    tiny = block("water")
    first = tiny.split("\n")[4]
    tiny = tiny.replace(first, "   1.5*^-6" + first[10:])
    prepared = prepare(raw_folder(tmp_path / "raw-files", ["\n".join(lines), tiny]), tmp_path / "cache")
    assert prepared.smiles == (EXPECTED["zwitterion"], "O")
    assert prepared.molecules.positions[0, 0] == pytest.approx(float(x))
    assert prepared.molecules.molecule(1).positions[0, 0] == 0.0  # type: ignore[index]


def test_hypervalent_nitro_groups_become_charge_separated(tmp_path: Path) -> None:
    lines = [line for line in block("nitromethane").split("\n") if not line.startswith("M  CHG")]
    text = "\n".join(line.replace("  1  0", "  2  0") if line.startswith("  2  4") else line for line in lines)
    prepared = prepare(raw_folder(tmp_path / "raw-files", [text]), tmp_path / "cache")
    assert prepared.smiles == (EXPECTED["nitromethane"],)
    assert sorted(prepared.molecules.charges.tolist()) == [-1, 0, 0, 0, 0, 0, 1]


def test_the_list_of_uncharacterized_molecules_is_read_as_pyg_reads_it() -> None:
    text = uncharacterized([21, 133885])
    assert parse_uncharacterized(text) == {20, 133884}
    as_pyg = [int(line.split()[0]) - 1 for line in text.split("\n")[9:-2]]
    assert parse_uncharacterized(text) == set(as_pyg)
    assert parse_uncharacterized(text.replace("\n", "\r\n")) == {20, 133884}
    assert parse_uncharacterized(text.replace(" 133885", " see below")) == {20}
    assert parse_uncharacterized("") == frozenset()


def test_a_missing_list_is_noted_in_the_card(tmp_path: Path) -> None:
    folder = raw_folder(tmp_path / "raw-files", [block("water")], listed=None)
    assert "uncharacterized" in prepare(folder, tmp_path / "cache").card.notes[0]
    inside = tmp_path / "inside.zip"
    with zipfile.ZipFile(inside, "w") as archive:
        archive.writestr("deep/gdb9.sdf", sdf([block("water"), block("ethanol")]))
        archive.writestr("deep/uncharacterized.txt", uncharacterized([1]))
    prepared = prepare(inside, tmp_path / "cache")
    assert prepared.smiles == ("CCO",) and prepared.card.notes == ()


BROKEN = {
    "no such file": lambda folder: folder / "absent.sdf",
    "unknown kind of file": lambda folder: put(folder / "data.pdb", "a,b\n"),
    "no column is called SMILES; its first line is 'a, b'": lambda folder: put(folder / "data.csv", "a,b\n"),
    "the file is empty": lambda folder: put(folder / "empty.sdf", ""),
    "incomplete SDF file: it ends inside molecule 13": lambda folder: put(
        folder / "cut.sdf", named_sdf() + block("water")[:300]
    ),
    "incomplete XYZ file: it ends inside molecule 1": lambda folder: put(folder / "cut.xyz", "3\nwater\nO 0 0 0\n"),
    "expected a number of atoms, found 'hello'": lambda folder: put(folder / "text.xyz", "hello\n"),
    "a web page, not molecules": lambda folder: put(folder / "page.sdf", "<!DOCTYPE html><html>403</html>"),
    "not a readable zip file": lambda folder: put(folder / "page.zip", "<html>Forbidden</html>"),
    "other.zip: holds no molecule files": lambda folder: other_zip(folder / "other.zip"),
    "cannot be read": lambda folder: damaged_zip(folder / "damaged.zip"),
    "end-of-stream": lambda folder: damaged_gz(folder / "damaged.sdf.gz"),
    "holds no molecule files": lambda folder: folder,
    "holds no molecule": lambda folder: put(folder / "blank.smi", "smiles\n"),
    "none of its 2 molecules is usable: more than one": lambda folder: put(folder / "bad.smi", "C.C\nO.O\n"),
    "holds no array atoms": lambda folder: other_arrays(folder / "other.npz"),
    "orders is uint8": lambda folder: torn_arrays(folder / "torn.npz", "orders"),
    "do not belong together": lambda folder: torn_arrays(folder / "mixed.npz", "begin", "end", "orders"),
}


def cut_off_sdf() -> str:
    return named_sdf() + block("water")[:300]


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def other_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    return path


def damaged_zip(path: Path) -> Path:
    content = bytearray(raw_zip(path, [block(name) for name in NAMED]).read_bytes())
    content[100:200] = bytes(100)
    path.write_bytes(bytes(content))
    return path


def damaged_gz(path: Path) -> Path:
    path.write_bytes(gzip.compress(named_sdf().encode())[:-200])
    return path


def other_arrays(path: Path) -> Path:
    np.savez(path, images=np.zeros(3))
    return path


def torn_arrays(path: Path, *names: str) -> Path:
    """Arrays of molecules, some of them without their last entry."""
    whole = write_source("npz", path.parent)
    with np.load(whole) as arrays:
        np.savez(path, **{**arrays, **{name: arrays[name][:-1] for name in names}})
    return path


@pytest.mark.parametrize("message", BROKEN)
def test_broken_sources_are_refused_in_one_line_and_nothing_is_cached(message: str, tmp_path: Path) -> None:
    source = BROKEN[message](tmp_path)
    cache = tmp_path / "cache"
    with pytest.raises(UsageError) as caught:
        prepare(source, cache)
    assert message in caught.value.message and "\n" not in caught.value.message
    assert not list(cache.rglob("card.json"))


def test_the_cache_is_reused_renewed_on_request_and_repaired_when_damaged(tmp_path: Path) -> None:
    source, cache, progress = write_source("sdf", tmp_path), tmp_path / "cache", Recorder()
    first = prepare(source, cache, progress=progress)
    again = prepare(source, cache, progress=progress)
    assert len(progress.titles) == 1 and again.card == first.card and again.smiles == first.smiles
    for name in ("atoms", "numbers", "charges", "positions", "begin", "end", "orders"):
        np.testing.assert_array_equal(getattr(again.molecules, name), getattr(first.molecules, name))
    prepare(source, cache, progress=progress, refresh=True)
    assert len(progress.titles) == 2
    arrays = next(cache.rglob("molecules.npz"))
    arrays.write_bytes(arrays.read_bytes()[:-500])
    killed = arrays.parent.with_name(f"{arrays.parent.name}.part-0123")
    killed.mkdir()
    assert prepare(source, cache, progress=progress).smiles == first.smiles
    assert len(progress.titles) == 3 and "damaged" in progress.messages[0]
    assert not killed.exists()
    source.write_text(sdf([block("water")]))
    assert prepare(source, cache, progress=progress).smiles == ("O",)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(path: Path, **arrays: Any) -> None:
        del arrays
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", no_space)
    with pytest.raises(UniteError, match="No space left on device") as caught:
        prepare(write_source("sdf", tmp_path), tmp_path / "cache")
    assert caught.value.exit_code == 1
    assert [path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()] in ([], [".lock"])


def test_two_processes_at_once_prepare_once(tmp_path: Path) -> None:
    source = tmp_path / "own.sdf"
    source.write_text(named_sdf() * 20)
    barrier, answers = FORKED.Barrier(2), FORKED.Queue()
    arguments = (str(source), str(tmp_path / "cache"), barrier, answers)
    processes = [FORKED.Process(target=prepare_at_once, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    results = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(titles for titles, _ in results) == [0, 1]
    assert results[0][1] == results[1][1]


def test_worker_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    source = tmp_path / "own.sdf"
    source.write_text((named_sdf() + sdf([block("pair", "C.O")])) * 100)  # six pieces: enough for processes
    alone = prepare(source, tmp_path / "one")
    request = DataRequest(str(source), tmp_path / "two", workers=2)
    together = open_prepared(request, MoleculeConfig(), "qm9")
    assert together.card == alone.card and together.smiles == alone.smiles
    np.testing.assert_array_equal(together.molecules.positions, alone.molecules.positions)
    assert alone.card.excluded[0].count == 100 and len(alone.card.excluded[0].examples) == 5


def test_prepared_data_open_and_are_encoded_without_rdkit(tmp_path: Path) -> None:
    source = write_source("sdf", tmp_path)
    prepare(source, tmp_path / "cache")
    other = tmp_path / "other.sdf"
    other.write_text(sdf([block("water")]))
    program = f"""
import sys
sys.modules["rdkit"] = None
from pathlib import Path
import torch
from unite_mm.contract import DataRequest
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.dataset import open_data
from unite_mm_molecule.data.encode import encode
data = open_data(DataRequest({str(source)!r}, Path({str(tmp_path / "cache")!r})), MoleculeConfig(), "qm9")
batch = data.batch("train", torch.arange(3), torch.Generator())
inputs = data.samples("train", torch.arange(2))
encoded = encode(inputs, data.statistics, MoleculeConfig(), "qm9")  # all hydrogens are there
print(len(batch.types), len(encoded.types), flush=True)
open_data(DataRequest({str(other)!r}, Path({str(tmp_path / "cache")!r})), MoleculeConfig(), "qm9")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["3", "2"], done.stderr
    assert "UniteError: preparing molecules needs RDKit" in done.stderr


def test_worker_processes_load_no_torch() -> None:
    program = "import sys, unite_mm_molecule.data.convert; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"


def test_splits_do_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    names = list(NAMED)
    forward = prepare(raw_folder(tmp_path / "a", [block(n) for n in names]), tmp_path / "cache")
    backward = prepare(raw_folder(tmp_path / "b", [block(n) for n in reversed(names)]), tmp_path / "cache")
    first = dict(zip(forward.smiles, forward.splits.tolist(), strict=True))
    assert first == dict(zip(backward.smiles, backward.splits.tolist(), strict=True))
    assert forward.card.split_hash == backward.card.split_hash
    assert forward.card.splits == {"train": 10, "validation": 1, "test": 1}
    data = open_data(DataRequest(str(tmp_path / "a"), tmp_path / "cache", workers=1), MoleculeConfig(), "qm9")
    assert set(data.smiles("test")) == {key for key, split in first.items() if split == 2}


def test_split_sizes_and_duplicates() -> None:
    large = [f"C{i}" for i in range(50_000)]
    assert np.bincount(assign(large)).tolist() == [35_000, 5_000, 10_000]
    assert np.bincount(assign(large[:-1])).tolist() == [40_001, 4_999, 4_999]
    assert assign(["C"]).tolist() == [0] and assign(["C", "N"]).tolist() == [0, 0]
    assert sorted(assign(["C", "N", "O"]).tolist()) == [0, 1, 2]
    doubled = [key for key in large[:500] for _ in range(2)]
    splits = assign(doubled)
    assert (splits[0::2] == splits[1::2]).all() and np.bincount(splits).tolist() == [800, 100, 100]
    assert (assign(["C"] * 98 + ["N", "O"])[:98] == 0).all()  # no other split has room for them


@pytest.mark.parametrize(
    ("counts", "held_out"),
    [
        ([20, 20, 20, 20, 20], [20, 20]),
        ([50, 5, 25], [5, 25]),
        ([90, 5, 5], [10, 0]),  # both fit the test split; one has to stay for training
        ([3, 1, 1, 1], [1, 1]),
        ([20_000] * 4, [20_000, 20_000]),  # a large set of few molecules
        ([500, 500], [0, 0]),
        ([1000], [0, 0]),
    ],
)
def test_a_few_molecules_of_many_conformers_hold_out_whole_ones(counts: list[int], held_out: list[int]) -> None:
    keys = [key for key, count in zip("CNOFS", counts, strict=False) for _ in range(count)]
    splits = assign(keys)
    assert [int((splits == split).sum()) for split in (2, 1)] == held_out
    assert len(set(zip(keys, splits.tolist(), strict=True))) == len(counts)  # whole molecules
    order = list(reversed(range(len(keys))))
    assert (assign([keys[i] for i in order]) == splits[order]).all()


def test_the_split_hash_follows_the_split_alone() -> None:
    keys, splits = ["C", "N", "O", "C"], np.array([0, 1, 2, 0], dtype=np.uint8)
    order = [2, 0, 3, 1]
    assert split_hash([keys[i] for i in order], splits[order]) == split_hash(keys, splits)
    assert split_hash(keys, np.array([0, 2, 1, 0], dtype=np.uint8)) != split_hash(keys, splits)
    assert split_hash(keys[:3], splits[:3]) != split_hash(keys, splits)


def test_canonical_smiles_ignores_hydrogens_stereo_isotopes_and_order() -> None:
    for smiles in NAMED.values():
        implicit = Chem.MolFromSmiles(smiles)
        assert canonical_smiles(Chem.AddHs(implicit)) == canonical_smiles(implicit)
    # RemoveHs would keep the hydrogen of an imine that carries stereo.
    imine = Chem.AddHs(Chem.MolFromSmiles("C/C=N/[H]"))
    assert canonical_smiles(imine) == canonical_smiles(Chem.MolFromSmiles("CC=N")) == "CC=N"
    left, right = (Chem.MolFromSmiles(f"N[C{at}H](C)C(=O)O") for at in ("@", "@@"))
    assert canonical_smiles(left) == canonical_smiles(right) == canonical_smiles(Chem.MolFromSmiles("CC(N)C(O)=O"))
    assert canonical_smiles(Chem.MolFromSmiles("[2H]C([13CH3])O")) == "CCO"
    assert canonical_smiles(Chem.MolFromSmiles("[NH3+]C")) != canonical_smiles(Chem.MolFromSmiles("NC"))
