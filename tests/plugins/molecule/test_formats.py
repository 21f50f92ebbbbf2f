"""Sample files: every molecule survives, sound or not, and broken files are explained."""

import gzip
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.molecules_by_hand import (
    AMMONIUM,
    FIVE_BONDS,
    GLYCINE,
    HYDROGEN,
    METHANE,
    METHYL,
    NITRO_FIVE_BONDS,
    TWO_WATERS,
    by_hand,
    equal,
    from_smiles,
    star,
)
from rdkit import Chem

from unite_mm.errors import UniteError, UsageError
from unite_mm_molecule.files.formats import read, write
from unite_mm_molecule.metrics.validity import check_validity
from unite_mm_molecule.molecule import Molecule


def placed(molecule: Molecule, seed: int = 0) -> Molecule:
    """With positions off any grid, some of them large."""
    positions = np.random.default_rng(seed).normal(size=(molecule.size, 3)) * 30
    return replace(molecule, positions=positions)


def named(molecules: list[Molecule]) -> list[Molecule]:
    return [replace(molecule, name=f"m {index}") for index, molecule in enumerate(molecules)]


MANY_CHARGES = by_hand(" ".join(["N"] * 20), [(i, i + 1, 1) for i in range(19)], {i: (-1) ** i for i in range(20)})
SOUND = [METHANE, GLYCINE, HYDROGEN, from_smiles("C[N+](=O)[O-]"), from_smiles("CC(=N)C"), from_smiles("c1ccccc1")]
UNSOUND = [METHYL, FIVE_BONDS, NITRO_FIVE_BONDS, AMMONIUM, TWO_WATERS, MANY_CHARGES, by_hand("H")]
IMPLICIT = [from_smiles("CCO", explicit=False), from_smiles("C[NH2+]CC(=O)[O-]", explicit=False)]
IMPLICIT_UNSOUND = [star("C", "C C C C C", explicit=False)]
ALL = named([placed(m) for m in [*SOUND, *UNSOUND, *IMPLICIT, *IMPLICIT_UNSOUND]])


@pytest.mark.parametrize(("suffix", "tolerance"), [(".sdf", 5.1e-5), (".xyz", 5.1e-7), (".npz", 1e-5)])
def test_every_record_survives(tmp_path, suffix, tolerance):
    path = tmp_path / f"samples{suffix}"
    write(ALL, path)
    back = read(path)
    assert len(back) == len(ALL)
    for before, after in zip(ALL, back, strict=True):
        assert equal(before, after, tolerance), before.name


@pytest.mark.parametrize("suffix", [".sdf", ".npz"])
def test_plain_graphs_stay_plain_graphs(tmp_path, suffix):
    graphs = named([replace(m, positions=None) for m in ALL])
    write(graphs, tmp_path / f"g{suffix}")
    assert all(equal(*pair) for pair in zip(graphs, read(tmp_path / f"g{suffix}"), strict=True))


@pytest.mark.parametrize("suffix", [".sdf", ".smi", ".smiles", ".xyz", ".npz"])
def test_a_file_has_the_validity_of_its_samples(tmp_path, suffix):
    write(ALL, tmp_path / f"s{suffix}")
    before, after = ([check_validity(m) for m in samples] for samples in (ALL, read(tmp_path / f"s{suffix}")))
    assert [(v.problem, v.smiles) for v in before] == [(v.problem, v.smiles) for v in after]


@pytest.mark.parametrize("suffix", [".sdf", ".smi", ".npz"])
def test_molecules_without_atoms_are_kept(tmp_path, suffix):
    write([by_hand(""), METHANE], tmp_path / f"s{suffix}")
    assert [min(m.size, 1) for m in read(tmp_path / f"s{suffix}")] == [0, 1]


def test_sdf_is_what_rdkit_reads(tmp_path):
    sound = named([placed(m) for m in [*SOUND, *IMPLICIT]])
    write(sound, tmp_path / "s.sdf")
    supplier = Chem.SDMolSupplier(str(tmp_path / "s.sdf"), removeHs=False)
    for before, after in zip(sound, supplier, strict=True):
        assert after.GetProp("_Name") == before.name
        assert Chem.MolToSmiles(Chem.RemoveAllHs(after), isomericSmiles=False) in (
            check_validity(before).smiles,
            "[H][H]",
            "",
        )
        assert after.GetConformer().Is3D()
        np.testing.assert_allclose(after.GetConformer().GetPositions()[: before.size], before.positions, atol=5.1e-5)
        # Hydrogens that were implicit are there, with places of their own.
        assert after.GetNumAtoms() == after.GetNumAtoms(onlyExplicit=False)


def test_sdf_layout_to_the_letter(tmp_path):
    cyanide = by_hand("C N", [(0, 1, 3)], {0: -1}, [[0, 0, 0], [0, 0, 1.1577]])
    write([replace(cyanide, name="cyanide")], tmp_path / "c.sdf")
    assert (tmp_path / "c.sdf").read_text() == (
        "cyanide\n  unite-mm          3D\n\n"
        "  2  1  0  0  0  0  0  0  0  0999 V2000\n"
        "    0.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0\n"
        "    0.0000    0.0000    1.1577 N   0  0  0  0  0  0  0  0  0  0  0  0\n"
        "  1  2  3  0\n"
        "M  CHG  1   1  -1\n"
        "M  END\n"
        "> <unite_mm_hydrogens>\nexplicit\n\n$$$$\n"
    )


def test_sdf_survives_numbers_gone_wild(tmp_path):
    wild = by_hand("C O N", [(0, 1, 1)], None, [[1e9, -1e12, 0], [np.nan, np.inf, -123456.7], [0, 0, 1]])
    write([wild], tmp_path / "w.sdf")
    back = read(tmp_path / "w.sdf")[0]
    assert back.bonds.tolist() == [[0, 1, 1]]
    np.testing.assert_allclose(back.positions, wild.positions, rtol=5e-3)


def test_files_of_rdkit_are_read(tmp_path):
    path = tmp_path / "r.sdf"
    with Chem.SDWriter(str(path)) as writer:
        for smiles in ("CCO", "[NH3+]CC(=O)[O-]", "c1ccccc1", "C[N+](=O)[O-]"):
            writer.write(from_smiles(smiles).to_rdkit())
    with path.open("a") as file:  # aromatic bonds and V3000 are left to RDKit
        aromatic = Chem.MolFromSmiles("c1ccccc1")
        file.write(Chem.MolToMolBlock(aromatic, kekulize=False) + "$$$$\n")
        file.write(Chem.MolToV3KMolBlock(from_smiles("CC#N").to_rdkit()) + "$$$$\n")
    found = read(path)
    assert [check_validity(m).smiles for m in found[:4]] == ["CCO", "[NH3+]CC(=O)[O-]", "c1ccccc1", "C[N+](=O)[O-]"]
    assert sorted(found[4].bonds[:, 2].tolist()) == [1, 1, 1, 2, 2, 2] and found[4].positions is None
    assert check_validity(found[5]).smiles == "CC#N" and found[5].positions is not None
    assert [m.explicit_hydrogens for m in found] == [True, True, True, True, False, True]  # the drawing has none


def test_sdf_without_hydrogens_has_implicit_ones(tmp_path):
    path = tmp_path / "h.sdf"
    path.write_text(Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")))  # a MOL file: no dollars, 2D
    (found,) = read(path)
    assert not found.explicit_hydrogens and found.positions is None and check_validity(found).smiles == "CCO"


def test_old_charges_and_windows_line_ends(tmp_path):
    text = (
        "x\r\n  a\r\n\r\n  2  1  0  0  0  0            999 V2000\r\n"
        "    0.0000    0.0000    0.0000 C   0  5  0  0  0  0\r\n"
        "    0.0000    0.0000    1.1*^0 N   0  0  0  0  0  0\r\n"
        "  2  1  3  0  0  0\r\nM  END\r\n$$$$\r\n"
    )
    (tmp_path / "o.sdf").write_text(text, newline="")
    (found,) = read(tmp_path / "o.sdf")
    assert found.charges.tolist() == [-1, 0] and found.bonds.tolist() == [[0, 1, 3]]
    assert found.positions[1, 2] == 1.1


def test_gzipped_files_are_read(tmp_path):
    write(SOUND, tmp_path / "s.sdf")
    (tmp_path / "z.sdf.gz").write_bytes(gzip.compress((tmp_path / "s.sdf").read_bytes()))
    assert len(read(tmp_path / "z.sdf.gz")) == len(SOUND)


def test_xyz_of_other_programs_gets_bonds_from_its_geometry(tmp_path):
    nitro = from_smiles("C[N+](=O)[O-]")
    ammonium = placed(AMMONIUM)
    ammonium = replace(ammonium, positions=from_smiles("[NH4+]").positions)
    symbols = {1: "H", 6: "C", 7: "N", 8: "O"}
    lines = []
    for molecule in (nitro, ammonium):
        lines += [str(molecule.size), "made elsewhere"]
        rows = zip(molecule.numbers, molecule.positions, strict=True)
        lines += [f"{symbols[int(number)]} {x} {y} {z} 0.1" for number, (x, y, z) in rows]
    (tmp_path / "x.xyz").write_text("\n".join([*lines, "", ""]))
    found = read(tmp_path / "x.xyz")
    assert check_validity(found[0]).smiles == "C[N+](=O)[O-]" and found[0].name == "made elsewhere"
    # No neutral molecule has these atoms: the bonds are those of a distance table, and the charge is not known.
    assert len(found[1].bonds) == 4 and check_validity(found[1]).problem == "does not sanitize"


def test_smiles_of_other_programs(tmp_path):
    (tmp_path / "s.smi").write_text("smiles name\nCCO ethanol\n\n# a remark\n[CH3]\nc1cc[nH]c1\tpyrrole\n[H]O[H]\n")
    ethanol, methyl, pyrrole, water = read(tmp_path / "s.smi")
    assert (ethanol.name, ethanol.size, ethanol.explicit_hydrogens) == ("ethanol", 3, False)
    assert check_validity(methyl).problem == "radical"
    assert check_validity(pyrrole).smiles == "c1cc[nH]c1" and pyrrole.name == "pyrrole"
    assert water.size == 3 and check_validity(water).smiles == "O"


def test_smiles_lines_are_canonical_where_that_is_possible(tmp_path):
    write(named([METHANE, GLYCINE, METHYL, FIVE_BONDS]), tmp_path / "s.smi")
    assert (tmp_path / "s.smi").read_text().splitlines() == [
        "C\tm 0", "[NH3+]CC(=O)[O-]\tm 1", "[C]([H])([H])[H]\tm 2", "[C]([H])([H])([H])([H])[H]\tm 3"
    ]  # fmt: skip


def test_nameless_samples_get_numbers(tmp_path):
    write([METHANE, HYDROGEN], tmp_path / "s.smi")
    assert [m.name for m in read(tmp_path / "s.smi")] == ["sample_1", "sample_2"]


@pytest.fixture
def no_rdkit(monkeypatch):
    """As on a GPU node: RDKit cannot be found or imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == "rdkit"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "rdkit", None)


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".npz"])
def test_samples_can_be_stored_without_rdkit(tmp_path, no_rdkit, suffix):
    write(ALL, tmp_path / f"s{suffix}")
    back = read(tmp_path / f"s{suffix}")
    assert [m.explicit_hydrogens for m in back] == [m.explicit_hydrogens for m in ALL]
    assert all(equal(*pair, tolerance=1e-4) for pair in zip(ALL, back, strict=True))


def test_smiles_without_rdkit_are_refused(tmp_path, no_rdkit):
    with pytest.raises(UsageError, match="SMILES need RDKit"):
        write(ALL, tmp_path / "s.smi")
    assert not list(tmp_path.iterdir())


GOOD = "x\n\n\n  1  0  0  0  0  0            999 V2000\n    0.0000    0.0000    0.5000 C   0  0\nM  END\n$$$$\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.sdf", "", "the file is empty"),
        ("a.sdf", "   \n\n", "the file is empty"),
        ("a.smi", "# nothing\n", "holds no molecule"),
        ("a.sdf", "<!DOCTYPE html><html>", "a web page, not molecules"),
        ("a.sdf", GOOD + GOOD[:60], "incomplete SDF file: it ends inside molecule 2"),
        ("a.sdf", GOOD[:30] + "\n$$$$\n", "record 1 of 1: incomplete"),
        ("a.sdf", GOOD.replace("  1  0  0", "  2  0  0"), "record 1 of 1: incomplete: 2 atoms"),
        ("a.sdf", GOOD.replace(" C  ", " Xx "), "record 1 of 1: atom 1: unknown element 'Xx'"),
        ("a.sdf", GOOD.replace("0.5000", "0.5x00"), "record 1 of 1: atom 1"),
        ("a.sdf", GOOD.replace("  1  0", "  1  1").replace("M  END", "  1  2  1\nM  END"), "joins atoms 1 and 2 of 1"),
        ("a.sdf", GOOD.replace("M  END", "M  CHG  1   7   1\nM  END"), "property line"),
        ("a.sdf", GOOD.replace("M  END", "M  CHG  x   1   1\nM  END"), "property line"),
        ("a.sdf", "no molecule at all", "incomplete SDF file: it ends inside molecule 1"),
        ("a.xyz", "2\nx\nC 0 0 0\n", "incomplete XYZ file: it ends inside molecule 1"),
        ("a.xyz", "1\nx\nC 0 0 0\nhello\n", "line 4: expected a number of atoms, found 'hello'"),
        ("a.xyz", "1\nx\nQ 0 0 0\n", "frame 1 of 1: unknown element 'Q'"),
        ("a.xyz", "1\nx\nC 0 zero 0\n", "frame 1 of 1: atom line 'C 0 zero 0'"),
        ("a.xyz", '1\nunite-mm {"bonds":[[0,3,1]],"name":"","hydrogens":"explicit"}\nC 0 0 0\n', "do not fit"),
        ("a.npz", "no zip", "cannot be read"),
        ("a.pdb", "x", "cannot read molecules as .pdb files"),
        ("a", "x", "cannot read molecules as a file without suffix"),
    ],
)  # fmt: skip
def test_broken_files_are_explained(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        read(path)
    assert str(path) in caught.value.message and "\n" not in caught.value.message


def test_missing_files_are_explained(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read(tmp_path / "none.sdf")


def test_arrays_of_something_else_are_explained(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    with pytest.raises(UsageError, match="holds no array atoms") as caught:
        read(tmp_path / "a.npz")
    assert caught.value.hint == "not a file of molecules"
    write(SOUND, tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as arrays:
        damaged = dict(arrays)
    damaged["numbers"] = damaged["numbers"][:-1]
    np.savez(tmp_path / "b.npz", **damaged)
    with pytest.raises(UsageError, match=r"charges is int8 .*, not integer \(A,\) with A"):
        read(tmp_path / "b.npz")
    damaged |= {name: damaged[name][: len(damaged["numbers"])] for name in ("charges", "positions")}
    np.savez(tmp_path / "b.npz", **damaged)
    with pytest.raises(UsageError, match="do not belong together"):
        read(tmp_path / "b.npz")


def test_what_does_not_fit_a_format_is_explained_and_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write molecules as \.mol2 files"):
        write([METHANE], tmp_path / "a.mol2")
    with pytest.raises(UsageError, match="sample 2: no positions"):
        write([placed(METHANE), METHANE], tmp_path / "a.xyz")
    with pytest.raises(UsageError, match="sample 1: 1000 atoms"):
        write([by_hand(" ".join(["C"] * 1000))], tmp_path / "a.sdf")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UniteError, match="cannot be written") as caught:
        write([METHANE], tmp_path / "file" / "a.sdf")
    assert caught.value.exit_code == 1


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.sdf"
    write([METHANE], path)
    before = path.read_bytes()

    def full(aside, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UniteError, match="No space left on device"):
        write([HYDROGEN], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
