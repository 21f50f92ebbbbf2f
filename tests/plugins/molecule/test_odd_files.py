"""Files of other programs and damaged ones: preparing and scoring say the same of every record; one costs no other."""

import bz2
import gzip
import random
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.molecule_files import NAMED, block, named_sdf, sdf
from helpers.molecules_by_hand import METHANE, by_hand, from_smiles, star
from helpers.processes import Recorder
from rdkit import Chem

from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm_molecule import chemistry
from unite_mm_molecule.config import MoleculeConfig, MoleculeMetrics
from unite_mm_molecule.data import prepare as preparation
from unite_mm_molecule.data.encode import encode
from unite_mm_molecule.data.pieces import Piece
from unite_mm_molecule.data.prepare import open_prepared
from unite_mm_molecule.data.prepared import Prepared
from unite_mm_molecule.files.formats import read, write
from unite_mm_molecule.metrics.generation import score_generation
from unite_mm_molecule.metrics.geometry import odd_distances
from unite_mm_molecule.metrics.validity import check_validity
from unite_mm_molecule.molecule import MOST_ATOMS, Molecule


def prepare(path: Path, **settings: Any) -> Prepared:
    request = DataRequest(str(path), path.parent / "cache", progress=Recorder(), workers=1, refresh=True)
    return open_prepared(request, MoleculeConfig(**settings), "qm9")


def reasons(prepared: Prepared) -> list[str]:
    return [exclusion.reason for exclusion in prepared.card.excluded for _ in range(exclusion.count)]


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def value(score: Any, name: str) -> Any:
    return next(metric for metric in score.metrics if metric.name == name)


def edited(change: Callable[[list[str]], object], name: str = "ethanol") -> str:
    """A MOL block whose lines were changed."""
    lines = block(name).split("\n")
    change(lines)
    return "\n".join(lines)


def coordinate(text: str) -> str:
    return edited(lambda lines: lines.__setitem__(4, text + lines[4][10:]))


def with_line(line: str, atom_code: str = "  0") -> str:
    """Ethanol with a property line, and an old code at its first atom."""

    def change(lines: list[str]) -> None:
        lines[4] = lines[4][:36] + atom_code + lines[4][39:]
        lines.insert(lines.index("M  END"), line)

    return edited(change)


def v3000(smiles: str) -> str:
    return "v3" + Chem.MolToV3KMolBlock(from_smiles(smiles).to_rdkit())


RECORDS: dict[str, tuple[str, str, str]] = {
    # the record, its problem in scoring, the reason of preparation
    "nan": (coordinate("       nan"), "not finite", "coordinates that are not"),
    "infinite": (coordinate("      -inf"), "not finite", "coordinates that are not"),
    "beyond floats": (coordinate("1.5*^400 "), "not finite", "coordinates that are not"),
    "nan in a drawing": (
        "flat\n\n\n  1  0  0  0  0  0            999 V2000\n       nan    0.0000    0.0000 C   0  0\nM  END\n",
        "not finite",
        "coordinates that are not",
    ),
    "nan in V3000": (re.sub(r"( 1 C )\S+", r"\1nan", v3000("CO"), count=1), "not finite", "coordinates that are not"),
    "counts -1 -1": (edited(lambda ls: ls.__setitem__(3, " -1 -1" + ls[3][6:])), "unreadable", "cannot be read"),
    "counts of letters": (edited(lambda ls: ls.__setitem__(3, "  x  1" + ls[3][6:])), "unreadable", "cannot be read"),
    "a short charge line": (with_line("M  CHG"), "unreadable", "cannot be read"),
    "a charge beyond all": (with_line("M  CHG  1   1 999"), "unreadable", "cannot be read"),
    "a radical line of letters": (with_line("M  RAD  1   a   2"), "unreadable", "cannot be read"),
    "no such radical": (with_line("M  RAD  1   1   9"), "unreadable", "cannot be read"),
    "doublet": (with_line("M  RAD  1   1   2"), "radical", "an atom is short"),
    "singlet": (with_line("M  RAD  1   1   1"), "radical", "an atom is short"),
    "triplet": (with_line("M  RAD  1   1   3"), "radical", "an atom is short"),
    "old doublet": (with_line("M  STY  0", "  4"), "radical", "an atom is short"),
    "old doublet taken back": (with_line("M  CHG  0", "  4"), "", ""),
    "no radical": (with_line("M  RAD  1   1   0"), "", ""),
    "radical in V3000": (v3000("CO").replace(" 0\nM  V30 2", " 0 RAD=2\nM  V30 2", 1), "radical", "an atom is short"),
    "a dummy": (edited(lambda ls: ls.__setitem__(4, ls[4].replace(" C ", " R#", 1))), "unreadable", "holds an element"),
    "a star": (edited(lambda ls: ls.__setitem__(4, ls[4].replace(" C ", " * ", 1))), "unreadable", "holds an element"),
    "no element": (edited(lambda ls: ls.__setitem__(4, ls[4].replace(" C ", " Xx", 1))), "unreadable", "holds an elem"),
    "a dummy in V3000": (v3000("CO").replace(" 1 C ", " 1 * ", 1), "unreadable", "holds an element"),
    "counts of V3000 beyond its lines": (
        re.sub(r"COUNTS \d+", "COUNTS 99999999", v3000("CO")),
        "unreadable",
        "cannot be read",
    ),
    "continued counts of V3000": (
        re.sub(r"COUNTS (\d+) \d+", r"COUN-\nM  V30 TS \1 99999999", v3000("CO")),
        "unreadable",
        "cannot be read",
    ),
    "selenium": (block("selenium", "C[Se]C"), "", "holds an element"),
    "mercury": (block("mercury", "C[Hg]C"), "", "holds an element"),
    "deuterium": (edited(lambda ls: ls.__setitem__(12, ls[12].replace(" H ", " D "))), "", ""),
    "upper case": (block("chloride", "CCl").replace(" Cl ", " CL "), "", ""),
}


@pytest.mark.parametrize("name", RECORDS)
def test_preparing_and_scoring_say_the_same_of_a_record_and_it_costs_no_other(name: str, tmp_path: Path) -> None:
    record, problem, reason = RECORDS[name]
    path = put(tmp_path / "a.sdf", sdf([block("water"), record, block("methane")]))
    samples = read(path)
    assert [check_validity(sample).problem for sample in samples] == ["", problem, ""]
    prepared = prepare(path)
    assert [found[: len(reason)] for found in reasons(prepared)] == ([reason] if reason else [])
    score = score_generation(samples, workers=1, chosen=MoleculeMetrics(adit=False))
    assert value(score, "validity").total == 3 and value(score, "validity").count == 2 + (not problem)
    assert ("1 of 3 records cannot be read" in " ".join(score.notes)) == (problem == "unreadable")
    assert value(score, "stability_molecules").total == 3 - sum(not sample.explicit_hydrogens for sample in samples)


@cache
def heavy(smiles: str) -> str:
    return "heavy" + Chem.MolToMolBlock(from_smiles(smiles, explicit=False).to_rdkit())


def with_imine_hydrogen() -> str:
    """What RDKit's `RemoveHs` makes of an imine whose hydrogen carries stereo."""
    full = from_smiles("[H]/N=C(\\C)CC").to_rdkit()
    gone = [atom.GetIdx() for atom in full.GetAtoms() if atom.GetAtomicNum() == 1]
    kept = [i for i in gone if full.GetAtomWithIdx(i).GetNeighbors()[0].GetAtomicNum() == 7]
    editable = Chem.RWMol(full)
    for index in sorted(set(gone) - set(kept), reverse=True):
        editable.RemoveAtom(index)
    return "imine" + Chem.MolToMolBlock(editable.GetMol())


@pytest.mark.parametrize(
    ("extra", "explicit"),
    [
        (with_imine_hydrogen, False),
        (lambda: block("hydrogen"), True),
        (lambda: block("ethanol"), True),
        (lambda: v3000("CC#N"), True),
        (lambda: heavy("C(F)(F)(F)F"), False),  # full without any hydrogen: as the others
    ],
)
def test_hydrogens_are_those_of_each_molecule(extra: Callable[[], str], explicit: bool, tmp_path: Path) -> None:
    path = put(tmp_path / "a.sdf", sdf([heavy("CCO"), heavy("CCN"), extra(), heavy("CC=O")]))
    samples = read(path)
    assert [sample.explicit_hydrogens for sample in samples] == [False, False, explicit, False]
    assert all(check_validity(sample).valid for sample in samples)
    assert prepare(path).card.kept == 4
    notes = " ".join(score_generation(samples, workers=1, chosen=MoleculeMetrics(adit=False)).notes)
    assert ("hydrogens are implicit in 3 of 4 samples and explicit in 1" in notes) == explicit


def test_a_radical_among_explicit_hydrogens_stays_one(tmp_path: Path) -> None:
    methyl = edited(lambda ls: [ls.__setitem__(3, "  4  3" + ls[3][6:]), ls.pop(8), ls.pop(11)], "methane")
    path = put(tmp_path / "a.sdf", sdf([block("methane"), methyl, heavy("CCO")]))
    assert [check_validity(sample).problem for sample in read(path)] == ["", "radical", ""]


WATER = "O 0 0 0\nH 0.757 0.587 0\nH -0.757 0.587 0\n"


def ours(facts: str) -> str:
    """A frame whose comment line says something of bonds, charges and hydrogens."""
    return f"3\nunite-mm {{{facts}}}\n{WATER}"


FRAMES: dict[str, tuple[str, str]] = {
    # the frame, why it is no molecule
    "plain": (f"3\nx\n{WATER}", ""),
    "blank lines before and after": (f"\n \n3\nx\n{WATER}\n\n", ""),
    "columns before": (
        "3\nProperties=species:S:1:tags:I:1:pos:R:3\nO 9 0 0 0\nH 8 0.757 0.587 0\nH 7 -0.757 0.587 0\n",
        "",
    ),
    "positions first": ("3\nProperties=pos:R:3:species:S:1\n0 0 0 O\n0.757 0.587 0 H\n-0.757 0.587 0 H\n", ""),
    "numbers, quoted": (
        '3\nLattice="1 0 0 0 1 0 0 0 1" properties = "id:I:2:Z:I:1:pos:R:3"\n'
        "1 1 8 0 0 0\n2 1 1 0.757 0.587 0\n3 1 1 -0.757 0.587 0\n",
        "",
    ),
    "deuterium": ("3\nheavy water\nO 0 0 0\nD 0.757 0.587 0\nD -0.757 0.587 0\n", ""),
    "no positions": (f"3\nProperties=species:S:1:x:R:1\n{WATER}", "names no elements"),
    "no elements": (f"3\nProperties=pos:R:3\n{WATER}", "names no elements"),
    "a torn list": (f"3\nProperties=species:S:1:pos:R\n{WATER}", "is not a list of name:type:width"),
    "an endless width": (f"3\nProperties=species:S:{'9' * 5000}:pos:R:3\n{WATER}", "is not a list of name:type:width"),
    "five words too few": (f"3\nProperties=species:S:1:f:R:3:pos:R:3\n{WATER}", "atom line"),
    "charges beyond all": (
        ours('"name":"x","hydrogens":"explicit","bonds":[],"charges":[100000000000000000000,0,0]'), "whole numbers"
    ),
    "broken charges": (ours('"name":"","hydrogens":"","bonds":[],"charges":[0.5,0,0]'), "whole numbers"),
    "too few charges": (ours('"name":"","hydrogens":"","bonds":[],"charges":[0]'), "do not fit"),
    "a bond of text": (ours('"name":"","hydrogens":"","bonds":[["0","1","1"]]'), "whole numbers"),
    "a bond twice": (ours('"name":"","hydrogens":"","bonds":[[0,1,1],[1,0,1]]'), "do not fit"),
    "no bonds": (ours('"name":"","hydrogens":"explicit"'), "whole numbers"),
    "no facts": (f"3\nunite-mm 5\n{WATER}", "comment line"),
    "no JSON": (f"3\nunite-mm {{\n{WATER}", "comment line"),
    "deep JSON": (f"3\nunite-mm {'[' * 100000}\n{WATER}", "comment line"),
    "a long number": (f"3\nunite-mm {'9' * 5000}\n{WATER}", "comment line"),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_frames_are_read_alike_or_refused_alike(name: str, tmp_path: Path) -> None:
    frame, problem = FRAMES[name]
    path = put(tmp_path / "a.xyz", f"3\nfirst\n{WATER}{frame}3\nlast\n{WATER}")
    samples = read(path)
    assert [bool(sample.flaw) for sample in samples] == [False, bool(problem), False]
    assert problem in samples[1].flaw and len(samples[1].flaw) < 300
    prepared = prepare(path)
    assert prepared.card.kept == 3 - bool(problem) and set(prepared.smiles) == {"O"}
    assert {check_validity(sample).smiles for sample in samples if not sample.flaw} == {"O"}
    if problem:
        assert reasons(prepared) == ["cannot be read"]


METHANE_ROWS = "C 0 0 0\nH .63 .63 .63\nH -.63 -.63 .63\nH -.63 .63 -.63\nH .63 -.63 -.63\n"


@pytest.mark.parametrize(
    ("frame", "flaw"),
    [
        (f"4\nx\n{WATER}", "4 atoms are announced, but 3 lines follow"),
        (f"2\nx\n{WATER}", "2 atoms are announced, but 3 lines follow"),
        (f"0\nx\n{WATER}", "0 atoms are announced, but 3 lines follow"),
        (f"8\nx\n{WATER}", "8 atoms are announced, but 3 lines follow"),  # as long as this frame and the next
        (f"15\nx\n{WATER}", "15 atoms are announced, but 3 lines follow"),  # beyond the end of the file
        (f"3\n{WATER}", "3 atoms are announced, but 2 lines follow"),  # no comment line
        (f"three\nx\n{WATER}", "expected a number of atoms, found 'three'"),
        (f"99999999999\nx\n{WATER}", "expected a number of atoms, found '99999999999'"),
        ("a remark\n\n", "expected a number of atoms, found 'a remark'"),
        (f"4\n17\n{WATER}\n\n", "4 atoms are announced, but 3 lines follow"),  # a comment that is a number
    ],
)
def test_a_frame_of_a_wrong_count_costs_no_other(frame: str, flaw: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.xyz", f"3\nfirst\n{WATER}{frame}3\nlast\n{WATER}5\nthe very last\n{METHANE_ROWS}")
    samples = read(path)
    assert [sample.flaw for sample in samples] == ["", f"frame 2 of 4: {flaw}", "", ""]
    prepared = prepare(path)
    assert prepared.card.kept == 3 and reasons(prepared) == ["cannot be read"]
    assert prepared.molecules.names == ("first", "last", "the very last")


def test_the_last_frame_may_have_more_atoms_than_it_says(tmp_path: Path) -> None:
    path = put(tmp_path / "a.xyz", f"3\nfirst\n{WATER}2\nlast\n{WATER}")
    assert [bool(sample.flaw) for sample in read(path)] == [False, True]


def test_qm9s_own_xyz_files_are_read(tmp_path: Path) -> None:
    rows = WATER.replace("\n", "\t-0.5\n").replace("0.587", "5.87*^-1")
    frame = f"3\ngdb 3\t799.5\t437.9\n{rows}1671.4\t3803.0\t3907.6\nO\tO\nInChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2\n"
    path = put(tmp_path / "a.xyz", frame * 3)
    assert len(read(path)) == prepare(path).card.kept == 3


def test_bonds_of_our_own_xyz_files_are_those_of_the_file(tmp_path: Path) -> None:
    zwitterion = from_smiles("[NH3+]CC(=O)[O-]")
    write([zwitterion, METHANE_IN_SPACE], tmp_path / "a.xyz")
    prepared = prepare(tmp_path / "a.xyz")
    assert prepared.smiles[0] == check_validity(read(tmp_path / "a.xyz")[0]).smiles == "[NH3+]CC(=O)[O-]"
    assert prepared.molecules.names[0] == "[NH3+]CC(=O)[O-]"


METHANE_IN_SPACE = from_smiles("C")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.sdf", named_sdf()),
        ("a.smi", "".join(f"{smiles} {name}\n" for name, smiles in NAMED.items())),
        ("a.xyz", f"3\nx\n{WATER}" * 3),
    ],
)
def test_line_ends_of_old_macs_are_read(name: str, content: str, tmp_path: Path) -> None:
    unix, mac = put(tmp_path / name, content), put(tmp_path / f"mac-{name}", content.replace("\n", "\r"))
    assert prepare(mac).smiles == prepare(unix).smiles
    assert [m.name for m in read(mac)] == [m.name for m in read(unix)]


@pytest.mark.parametrize("length", [81, 100_000])
def test_long_names_are_cut_in_the_card(length: int, tmp_path: Path) -> None:
    path = put(tmp_path / "a.smi", f"CCO x\nC1CC {'n' * length}\n")
    assert len(prepare(path).card.excluded[0].examples[0]) < 220


@pytest.mark.parametrize("factor", [1.8897, 100.0, 0.1, 0.0])
@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".npz"])
def test_geometries_in_another_unit_are_noticed(factor: float, suffix: str, tmp_path: Path) -> None:
    good = [from_smiles(smiles) for smiles in ("CCO", "C#N", "C[N+](=O)[O-]", "c1ccccc1", "[H][H]", "FF", "O=C=O")]
    assert not any(odd_distances(m.numbers, m.positions, m.bonds) for m in good)  # type: ignore[arg-type]
    assert not any(odd_distances(m.numbers, m.positions) for m in good)  # type: ignore[arg-type]
    odd = [Molecule(m.numbers, m.charges, m.bonds, m.positions * factor) for m in good]  # type: ignore[operator]
    path = tmp_path / f"a{suffix}"
    write([*odd, *good], path)
    prepared = prepare(path)
    assert prepared.card.kept == len(good) and {r[:34] for r in reasons(prepared)} == {
        "its atoms are no plausible distanc"
    }
    score = score_generation(read(path), workers=1, chosen=MoleculeMetrics(adit=False))
    assert any(f"in {len(odd)} of {2 * len(good)} samples bonded atoms" in note for note in score.notes)
    if suffix == ".xyz":  # frames of other programs, whose bonds have to be found
        lines = [line if not line.startswith("unite-mm") else "other" for line in path.read_text().split("\n")]
        prepared = prepare(put(tmp_path / "b.xyz", "\n".join(lines)))
        assert reasons(prepared).count(preparation_reason()) == len(odd)


def preparation_reason() -> str:
    from unite_mm_molecule.data.refusals import IMPLAUSIBLE

    return IMPLAUSIBLE


def test_lines_that_are_no_smiles_count(tmp_path: Path) -> None:
    path = put(tmp_path / "a.smi", "CCO\nCCN\nCC(\nC1CC\n[D]C([2H])O\n*C\n[Fe]\n" + "C" * 30_000 + "\n")
    validity = value(score_generation(read(path), workers=1, chosen=MoleculeMetrics(adit=False)), "validity")
    assert (validity.count, validity.total) == (4, 8)
    assert prepare(path).card.kept == 3
    alone = put(tmp_path / "b.smi", "CC(\n")
    assert value(score_generation(read(alone), workers=1, chosen=MoleculeMetrics(adit=False)), "validity").total == 1


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_generated_coordinates_that_are_no_numbers_are_invalid_in_every_format(broken: float, tmp_path: Path) -> None:
    lost = Molecule(METHANE.numbers, METHANE.charges, METHANE.bonds, np.full((5, 3), broken))
    assert check_validity(lost).problem == "not finite"
    for suffix in (".sdf", ".xyz", ".npz"):
        path = tmp_path / f"a{suffix}"
        write([lost, METHANE_IN_SPACE], path)
        assert [check_validity(sample).problem for sample in read(path)] == ["not finite", ""]
        assert reasons(prepare(path)) == ["coordinates that are not finite numbers"]


def arrays_of(path: Path) -> dict[str, Any]:
    write([from_smiles(smiles) for smiles in ("CCO", "C#N", "C")], path)
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    ("name", "at", "wrong", "message"),
    [
        ("numbers", 0, -1, "atomic number"),
        ("numbers", 0, 119, "atomic number"),
        ("charges", 0, 10**12, "charge"),
        ("begin", 0, 10**12, "joins atoms"),
        ("end", 0, -7, "joins atoms"),
        ("orders", 0, 4, "order"),
        ("orders", 0, 10**18, "order"),
    ],
)
def test_a_molecule_of_arrays_that_makes_no_sense_costs_no_other(
    name: str, at: int, wrong: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    arrays = arrays_of(path)
    arrays[name] = arrays[name].astype(np.int64)
    arrays[name][at] = wrong
    np.savez(path, **arrays)
    assert [message in sample.flaw for sample in read(path)] == [True, False, False]
    assert prepare(path).card.kept == 2 and reasons(prepare(path)) == ["cannot be read"]


@pytest.mark.parametrize("count", [-100, 10**9])
def test_counts_of_arrays_are_checked(count: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = arrays_of(path)
    arrays["atoms"] = arrays["atoms"].astype(np.int64) + np.array([count, -count, 0])
    np.savez(path, **arrays)
    for use in (read, prepare):
        with pytest.raises(UsageError, match=r"atoms holds values (below|above)"):
            use(path)


def bomb(path: Path, size: int = 30 << 20) -> Path:
    """A small file that unpacks to many zeros, or spaces."""
    block_of = (b"C 0 0 0\n" if path.suffix != ".npz" else bytes(8)) * (1 << 17)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("gdb9.sdf", "w") as member:
            for _ in range(size >> 20):
                member.write(block_of)
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("atoms", "bonds", "numbers", "charges", "positions", "begin", "end", "orders", "names"):
                with archive.open(f"{name}.npy", "w") as member:
                    header = str({"descr": "|u1", "fortran_order": False, "shape": (size,)}).ljust(117) + "\n"
                    member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
                    for _ in range(size >> 20 if name == "numbers" else 0):
                        member.write(block_of)
    else:
        with (gzip.open if path.suffix == ".gz" else bz2.open)(path, "wb", 1) as stream:
            for _ in range(size >> 20):
                stream.write(block_of)
    return path


@pytest.mark.parametrize("name", ["a.sdf.gz", "a.xyz.gz", "a.zip", "a.npz"])
def test_small_files_that_become_huge_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unite_mm.kit.arrays._ALWAYS", 8 << 20)
    path = bomb(tmp_path / name)
    assert path.stat().st_size < 200_000
    for use in (prepare,) if name.endswith(".zip") else (prepare, read):
        with pytest.raises(UsageError, match=r"unpacks to (\d+ MB, )?more than the (8|\d\d) MB") as caught:
            use(path)
        assert caught.value.hint is not None and "\n" not in caught.value.message


@pytest.mark.parametrize("digits", [5, 10, 5000])
def test_counts_beyond_all_are_refused(digits: int, tmp_path: Path) -> None:
    path = put(tmp_path / "a.xyz", f"{'9' * digits}\nx\n{WATER}")
    for use in (read, prepare):
        with pytest.raises(UsageError, match=r"incomplete XYZ|expected a number of atoms") as caught:
            use(path)
        assert len(caught.value.message) < 300


CARBON = """@<TRIPOS>MOLECULE
{name}
 {counts} 0 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
1 C1 0.0 0.0 0.0 C.3
"""


@pytest.mark.parametrize("counts", ["99999999 0", "1 99999999", "999999999999 0"])
def test_counts_that_a_record_has_no_lines_for_are_refused(counts: str, tmp_path: Path) -> None:
    """Before RDKit makes room for them: 24 bytes for each atom, 3 GB for eight digits."""
    path = put(tmp_path / "a.mol2", CARBON.format(name="odd", counts=counts) + CARBON.format(name="5", counts="1 0"))
    assert [bool(molecule.flaw) for molecule in read(path)] == [True, False]
    assert "to hold 99" in read(path)[0].flaw
    assert dict(reasons_of(path))["cannot be read"] == 1


def reasons_of(path: Path) -> list[tuple[str, int]]:
    return [(entry.reason, entry.count) for entry in prepare(path, geometry=False).card.excluded]


@pytest.mark.parametrize("suffix", [".smi", ".csv", ".sdf", ".mol2", ".npz"])
def test_molecules_of_thousands_of_atoms_cost_no_other(suffix: str, tmp_path: Path) -> None:
    """RDKit recurses along a chain of 19,000 atoms until the process dies, and takes minutes for 5,000."""
    path, atoms = tmp_path / f"a{suffix}", MOST_ATOMS + 1
    if suffix == ".smi":
        put(path, "C" * 19_000 + "\nCCO\n" + "C" + "=C" * 9_000 + "\n")
    elif suffix == ".csv":
        put(path, "smiles\n" + "C" * atoms + "\nCCO\n")
    elif suffix == ".npz":
        write([chain(atoms), from_smiles("CCO")], path)
    elif suffix == ".sdf":
        lines = [f"M  V30 {k} C {k}.0 0 0 0" for k in range(1, atoms + 1)]
        begin = ["chain", "", "", "  0  0  0     0  0            999 V3000", "M  V30 BEGIN CTAB"]
        counts = [f"M  V30 COUNTS {atoms} 0 0 0 0", "M  V30 BEGIN ATOM"]
        end = ["M  V30 END ATOM", "M  V30 END CTAB", "M  END", "$$$$\n"]
        put(path, "\n".join([*begin, *counts, *lines, *end]) + block("ethanol", "CCO") + "$$$$\n")
    else:
        rows = "".join(f"{k} C{k} {k}.0 0.0 0.0 C.3\n" for k in range(2, atoms + 1))
        put(path, CARBON.format(name="chain", counts=f"{atoms} 0") + rows + CARBON.format(name="one", counts="1 0"))
    found = read(path)
    assert [bool(molecule.flaw or molecule.nonsense()) for molecule in found][:2] == [True, False]
    assert check_validity(found[0]).problem == "unreadable"
    assert dict(reasons_of(path))["cannot be read"] == len(found) - 1


def chain(atoms: int) -> Molecule:
    bonds = np.array([[k, k + 1, 1] for k in range(atoms - 1)])
    return Molecule(np.full(atoms, 6), np.zeros(atoms, dtype=np.int64), bonds)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.sdf")
    os.mkfifo(tmp_path / "a.npz")
    for name in ("a.sdf", "a.npz"):
        for use in (read, prepare):
            with pytest.raises(UsageError, match="not a regular file"):
                use(tmp_path / name)


MACROCYCLE = ("N(C)[C@@H](CC(C)C)C(=O)" * 14).replace("N", "N1", 1).removesuffix("C(=O)") + "C1=O"


def test_a_geometry_that_takes_too_long_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chemistry, "_EMBEDDING_LIMIT", 1)
    start = time.monotonic()
    prepared = prepare(put(tmp_path / "a.smi", f"CCO\n{MACROCYCLE} slow\nCCN\n"))
    assert prepared.smiles == ("CCO", "CCN") and reasons(prepared) == ["no 3D geometry could be made"]
    assert time.monotonic() - start < 20


def test_a_molecule_that_ends_its_process_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{'C' * (1 + i)}O m{i}" for i in range(20)]
    lines[12] = "CCF bad"
    path = put(tmp_path / "a.smi", "\n".join(lines))

    def lose(work: Callable[[Piece], Any], pieces: Sequence[Piece], **options: Any) -> list[Any]:
        """As `map_items` where fluoroethane ends its process."""
        del options
        return [None if any(b"CCF" in record for record in piece.records) else work(piece) for piece in pieces]

    monkeypatch.setattr(preparation, "map_items", lose)
    monkeypatch.setattr("unite_mm_molecule.data.pieces.PER_PIECE", 4)
    request = DataRequest(str(path), tmp_path / "cache", workers=2)
    prepared = open_prepared(request, MoleculeConfig(geometry=False), "qm9")
    assert prepared.card.kept == len(lines) - 1
    assert [(e.count, e.examples[0][:12]) for e in prepared.card.excluded] == [(1, "molecule 13:")]


def test_bonds_are_not_looked_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chemistry, "_MOST_BOND_ORDERS", 1)
    molecule = from_smiles("c1ccc2ccccc2c1")
    with pytest.raises(chemistry.NoBonds):
        chemistry.perceive_bonds(molecule.numbers, molecule.positions)  # type: ignore[arg-type]


def test_large_geometries_get_as_much_work_as_ordinary_ones() -> None:
    tried = [chemistry.bond_orders_tried(atoms) for atoms in (1, 29, 100, 200, 1000)]
    assert tried == [100_000, 100_000, 100_000, 50_000, 10_000]


@pytest.mark.parametrize("suffix", [".sdf.gz", ".xyz.gz", ".smi.gz"])
def test_samples_are_written_compressed(suffix: str, tmp_path: Path) -> None:
    samples = [from_smiles("CCO"), from_smiles("C#N")]
    write(samples, tmp_path / f"a{suffix}")
    assert gzip.decompress((tmp_path / f"a{suffix}").read_bytes())
    assert [check_validity(m).smiles for m in read(tmp_path / f"a{suffix}")] == ["CCO", "C#N"]


@pytest.mark.parametrize("name", ["a.mol", "a.sd", "a.sdf.bz2", "a.smi.bz2", "a.csv", "a.csv.gz"])
def test_more_kinds_of_files_are_read(name: str, tmp_path: Path) -> None:
    text = {"m": block("ethanol"), "s": sdf([block("ethanol")]), "c": "id;Canonical_SMILES;y\nethanol;CCO;1\n"}[name[2]]
    if name.startswith("a.smi"):
        text = "CCO ethanol\n"
    content = text.encode()
    path = put(tmp_path / name, {".gz": gzip.compress, ".bz2": bz2.compress}.get(Path(name).suffix, bytes)(content))
    assert prepare(path).smiles == ("CCO",) and prepare(path).molecules.names == ("ethanol",)
    assert [check_validity(m).smiles for m in read(path)] == ["CCO"]


def test_rows_of_a_table_without_smiles_count(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "name,smiles\nx,CCO\ny,\nz\n")
    assert [bool(m.flaw) for m in read(path)] == [False, True, True] and prepare(path).card.read == 3


def test_every_element_can_be_scored() -> None:
    samples = [by_hand(symbol) for symbol in ("Se", "Og", "Fe", "He")] + [star("Se", "H H"), star("As", "H H H")]
    score = score_generation(samples, workers=1, chosen=MoleculeMetrics(adit=False))
    assert value(score, "validity").total == 6 and value(score, "validity").count >= 2


TOKENS = [b"-1", b"999", b"9" * 5000, b"nan", b"inf", b"1e400", b"*^", b"$$$$\n", b"M  END\n", b"V3000", b"\0", b"\xff",
          b"M  RAD  1   1   2\n", b"M  CHG  1", b"{", b"\r", b"\n\n", b"R#", b"D", b"[[[" * 2000, b"null",
          b"-2147483649"]  # fmt: skip


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".smi", ".npz", ".csv"])
def test_damaged_files_meet_no_unexpected_error(suffix: str, tmp_path: Path) -> None:
    draw = random.Random(suffix)
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        put(path, "id,smiles\na,CCO\nb,CC(\n")
    else:
        write([from_smiles(smiles) for smiles in ("CCO", "C[N+](=O)[O-]")], path)
    whole = path.read_bytes()
    if suffix == ".sdf":
        whole += v3000("CO").encode() + b"$$$$\n"
    for _ in range(150 if suffix == ".npz" else 60):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2])):
            at, kind = draw.randrange(len(data)), draw.random()
            token = draw.choice(TOKENS)
            if kind < 0.5:
                data[at] ^= 1 << draw.randrange(8)
            elif kind < 0.8:
                data[at : at + draw.choice([0, len(token)])] = token
            else:
                del data[at : at + draw.randrange(min(30, len(data) - 1))]
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for use in (lambda: [check_validity(m) for m in read(path)], lambda: prepare(path, geometry=False)):
                try:
                    use()
                except UniteError as error:
                    assert "\n" not in error.message and len(error.message) < 600


def test_smiles_and_rdkit_molecules_are_encoded() -> None:
    statistics = {"elements": [1, 6, 8], "charges": [0], "max_atoms": 9, "position_scale": 1.0}
    ours = from_smiles("CCO")
    drawing = Chem.MolFromSmiles("CCO")
    config = MoleculeConfig(condition="none")
    batch = encode(["CCO", " OCC ", drawing, ours.to_rdkit(), ours], statistics, config, "qm9")
    assert batch.registers.mask.sum(dim=1).tolist() == [9] * 5 and batch.types.sum(dim=1).unique().numel() == 1
    assert (
        batch.positions[3].allclose(batch.positions[4], atol=1e-5) and (batch.positions.abs().sum(dim=(1, 2)) > 5).all()
    )
    assert encode("CCO", statistics, config, "qm9").types.shape == (1, 9)
    for wrong, message in (("CC(", "molecule 2: 'CC(' is not a SMILES"), (5, "molecule 2: a int, not a molecule")):
        with pytest.raises(UsageError) as caught:
            encode([ours, wrong], statistics, config, "qm9")
        assert caught.value.message.startswith(message)
    with pytest.raises(UsageError, match="line 3: no"):
        encode([Molecule.flawed("line 3: no")], statistics, config, "qm9")
