"""The figures of held-out molecules beside those of samples, other papers' protocols by hand, files without bonds."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from helpers.molecules_by_hand import METHYL, by_hand, from_smiles

from unite_mm.cli.main import run
from unite_mm.contract import DataRequest
from unite_mm.kit.cache import PluginCache
from unite_mm.progress import Silent
from unite_mm_molecule.config import MoleculeConfig, MoleculeMetrics
from unite_mm_molecule.files.formats import read, write
from unite_mm_molecule.metrics import extras, held_out
from unite_mm_molecule.metrics.generation import score_generation
from unite_mm_molecule.metrics.perception import perceive_adit
from unite_mm_molecule.modality import MoleculeModality
from unite_mm_molecule.molecule import SYMBOLS, Molecule
from unite_mm_schemas.metrics import Score

QUICK = MoleculeMetrics(adit=False, fcd=False)


@dataclass
class Reference:
    """Stands for a prepared data set."""

    molecules: dict[str, list[Molecule]]
    cache: PluginCache | None = None
    asked: list[str] = field(default_factory=list)

    def size(self, split):
        return len(self.molecules.get(split, []))

    def smiles(self, split):
        return [one.name for one in self.molecules.get(split, [])]

    def samples(self, split, indices):
        self.asked.append(split)
        return [self.molecules[split][index] for index in indices.tolist()]


@pytest.fixture(autouse=True)
def without_the_package(monkeypatch):
    """As where QM9's package is not installed, so that no test prepares all of QM9."""
    monkeypatch.setattr("unite_mm_molecule.modality.find_package", lambda: None)


def a_reference(cache=None, **changed) -> Reference:
    texts = {"train": ["CCO", "CC"], "validation": ["CCN", "C1CC1", "CCF"], "test": ["CCC", "CC=O", "CN"]}
    return Reference(
        {split: [from_smiles(text) for text in found] for split, found in (texts | changed).items()}, cache
    )


def values(score: Score) -> dict[str, float | None]:
    return {metric.name: metric.value for metric in score.metrics}


def beside(score: Score) -> dict[str, float | None]:
    return {metric.name: metric.reference for metric in score.metrics}


SAMPLES = [from_smiles("CCO"), from_smiles("CCCl"), METHYL]


@pytest.mark.parametrize("split", ["test", "validation"])
def test_beside_every_figure_stands_that_of_held_out_molecules_scored_as_samples(split):
    reference = a_reference()
    chosen = QUICK.model_copy(update={"reference_split": split})
    alone = chosen.model_copy(update={"ceiling": 0})
    score = score_generation(SAMPLES, reference, chosen=chosen)
    held, training = (
        {metric.name: metric for metric in score_generation(reference.molecules[name], reference, chosen=alone).metrics}
        for name in (split, "train")
    )
    for metric in score.metrics:
        source = training if metric.group == "distance to held-out ones" else held
        assert metric.reference == (source[metric.name].value if metric.name in source else None), metric.name
    assert beside(score)["validity"] == 1.0 and beside(score)["novelty"] == 1.0
    assert beside(score)["novelty_all_data"] == 0.0 and beside(score)["wasserstein_lengths"] > 0
    assert score.reference == (
        f"the same figures of 3 held-out molecules (the {split} split); distances to held-out ones: those of 2 "
        "molecules of the training split"
    )


def test_no_more_held_out_molecules_than_asked_for():
    score = score_generation(SAMPLES, a_reference(), chosen=QUICK.model_copy(update={"ceiling": 2}))
    assert "of 2 held-out" in score.reference
    without = score_generation(SAMPLES, a_reference(), chosen=QUICK.model_copy(update={"ceiling": 0}))
    assert without.reference == "" and not any(beside(without).values())


def test_an_empty_split_leaves_the_column_out_and_says_so():
    score = score_generation(SAMPLES, a_reference(test=[]), chosen=QUICK)
    assert score.reference == "" and not any(beside(score).values())
    assert "no held-out figures stand beside these: the test split is empty" in score.notes


@pytest.fixture
def cache(tmp_path):
    return PluginCache(DataRequest("any", tmp_path), "molecule")


def test_held_out_molecules_are_scored_once_for_the_same_data_and_metrics(cache, monkeypatch):
    scored = []
    original = held_out._write_score
    monkeypatch.setattr(held_out, "_write_score", lambda *given: (scored.append(1), original(*given)))
    first = score_generation(SAMPLES, a_reference(cache), chosen=QUICK)
    again = score_generation(SAMPLES, a_reference(cache), chosen=QUICK)
    assert again == first and len(scored) == 1
    relaxed = QUICK.model_copy(update={"mmff94": 1})
    for count, (changed, chosen) in enumerate(
        [({"train": ["CCO"]}, QUICK), ({"validation": ["CCN"]}, QUICK), ({"test": ["CCN"]}, QUICK), ({}, relaxed)],
        start=2,
    ):
        score_generation(SAMPLES, a_reference(cache, **changed), chosen=chosen)
        assert len(scored) == count
    for name, value in (("METRICS", -1), ("_versions", lambda *_: [])):
        monkeypatch.setattr(held_out, name, value)
        score_generation(SAMPLES, a_reference(cache), chosen=QUICK)
    assert len(scored) == 7


def test_a_damaged_ceiling_is_found_anew(cache):
    first = score_generation(SAMPLES, a_reference(cache), chosen=QUICK)
    (kept,) = cache.root.glob("ceiling-*/found")
    kept.write_text("{")
    assert score_generation(SAMPLES, a_reference(cache), chosen=QUICK) == first


def test_features_of_the_reference_are_kept(cache, monkeypatch):
    pytest.importorskip("fcd")
    chosen = MoleculeMetrics(adit=False, mmff94=0, ceiling=0)
    titles = []
    original = held_out.chemnet_moments
    monkeypatch.setattr(held_out, "chemnet_moments", lambda *given: (titles.append(given[1]), original(*given))[1])
    first = score_generation(a_reference().molecules["test"], a_reference(cache), chosen=chosen)
    assert values(first)["fcd"] == pytest.approx(0, abs=1e-4)
    assert score_generation(a_reference().molecules["test"], a_reference(cache), chosen=chosen) == first
    assert titles == ["ChemNet, held-out molecules", "ChemNet", "ChemNet"]


def test_without_the_package_the_chemnet_distance_is_a_note(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    score = score_generation(SAMPLES, a_reference(), chosen=MoleculeMetrics(ceiling=0))
    assert "Frechet ChemNet distance left out: fcd not installed (pip install 'unite-mm[eval]')" in score.notes
    assert "fcd" not in values(score)
    score = score_generation(SAMPLES, None, chosen=MoleculeMetrics(xtb=5))
    assert any(note.startswith("energies by GFN2-xTB left out: tblite and scipy not") for note in score.notes)


def test_fewer_than_two_valid_samples_have_no_chemnet_distance():
    pytest.importorskip("fcd")
    score = score_generation([from_smiles("CCO")], a_reference(), chosen=MoleculeMetrics(adit=False, ceiling=0))
    assert values(score)["fcd"] is None


@pytest.mark.slow
def test_each_check_of_posebusters_stands_beside_that_of_held_out_molecules():
    pytest.importorskip("posebusters")
    chosen = QUICK.model_copy(update={"posebusters": True, "ceiling": 1})
    score = score_generation([from_smiles("CCO")], a_reference(), chosen=chosen)
    checks = [metric for metric in score.metrics if metric.group == "PoseBusters"]
    assert {"posebusters", "posebusters_bond_lengths", "posebusters_internal_energy"} <= {one.name for one in checks}
    assert all(metric.reference == 1.0 for metric in checks)


def test_explicit_and_implicit_hydrogens_give_the_same_molecule_the_same_figures():
    texts = ["CCO", "CC(=O)N", "c1ccccc1C", "C1CC1O", "CCO"]
    chosen, reference = QUICK.model_copy(update={"ceiling": 0}), a_reference(test=["C1CCC1", "CC=O", "CCCC"])
    explicit, implicit = (
        score_generation([from_smiles(text, kind) for text in texts], reference, chosen=chosen)
        for kind in (True, False)
    )
    names = [
        *("validity", "uniqueness", "novelty", "novelty_all_data_of_unique", "rings_mean", "variation_ring_sizes"),
        *("variation_rotatable", "variation_bond_orders", "wasserstein_rings", "variation_elements"),
    ]  # fmt: skip
    assert {name: values(explicit)[name] for name in names} == {name: values(implicit)[name] for name in names}


CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
FORMALDEHYDE = by_hand("C O H H", positions=[[0, 0, 0], [1.21, 0, 0], [-0.59, 0.94, 0], [-0.59, -0.94, 0]])
LOST_HYDROGEN = by_hand("C H H H H", positions=[[0, 0, 0], *(CORNERS[:3] * 1.09), CORNERS[3] * 50])
WATER_AND_METHANE = by_hand(
    "O H H C H H H H",
    positions=[[30, 0, 0], [30.96, 0, 0], [29.76, 0.93, 0], [0, 0, 0], *(CORNERS * 1.09)],
)


# By hand: atoms nearer than the sum of covalent radii (C 0.76, O 0.66, H 0.31 A) and 0.45 A are bonded; 1.21 A between
# two-valent O and three-neighbour C is a double bond, written twice in CONECT; RDKit reads bonds from CONECT, takes the
# hydrogens of heavy atoms off, and the first of the largest fragments (one heavy atom each, as a lone H) is kept.
@pytest.mark.parametrize(
    ("molecule", "bonds", "smiles"),
    [
        (FORMALDEHYDE, {(1, 2): 2, (1, 3): 1, (1, 4): 1}, "C=O"),
        (LOST_HYDROGEN, {(1, 2): 1, (1, 3): 1, (1, 4): 1}, "C"),
        (WATER_AND_METHANE, {(1, 2): 1, (1, 3): 1, (4, 5): 1, (4, 6): 1, (4, 7): 1, (4, 8): 1}, "O"),
    ],
    ids=["formaldehyde", "lost hydrogen", "water and methane"],
)
def test_the_adit_protocol_step_by_step(molecule, bonds, smiles):
    openbabel = pytest.importorskip("openbabel.openbabel")
    from unite_mm_molecule.metrics.perception import _pdb_block

    found: dict[tuple[int, int], int] = {}
    for line in _pdb_block(openbabel, molecule).splitlines():
        if line.startswith("CONECT"):
            begin, *ends = map(int, line.split()[1:])
            for end in ends:
                found[(begin, end)] = found.get((begin, end), 0) + 1
    assert found == bonds | {(end, begin): order for (begin, end), order in bonds.items()}
    assert perceive_adit(molecule).smiles == smiles


@pytest.mark.parametrize("molecule", [FORMALDEHYDE, LOST_HYDROGEN, WATER_AND_METHANE, from_smiles("NC1=NC(O)=NC=C1")])
def test_openbabel_is_asked_as_pymatgen_asks_it(molecule, tmp_path):
    pytest.importorskip("openbabel")
    core = pytest.importorskip("pymatgen.core.structure")
    openbabel = pytest.importorskip("openbabel.openbabel")
    from unite_mm_molecule.metrics.perception import _pdb_block

    path = tmp_path / "theirs.pdb"
    core.Molecule(molecule.numbers.tolist(), molecule.positions).to(str(path), fmt="pdb")

    def records(text):
        return [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM", "CONECT", "MASTER"))]

    assert records(_pdb_block(openbabel, molecule)) == records(path.read_text())


def test_a_file_without_bonds_gets_them_from_the_geometry_and_the_table_says_so(tmp_path, capsys):
    frames = []
    for one in (from_smiles("CCO"), from_smiles("CC(=O)N")):
        atoms = [
            f"{SYMBOLS[n]} {x:.5f} {y:.5f} {z:.5f}"
            for n, (x, y, z) in zip(one.numbers.tolist(), one.positions, strict=True)
        ]
        frames.append("\n".join([str(one.size), "", *atoms]))
    path, report = tmp_path / "edm.xyz", tmp_path / "report.json"
    path.write_text("\n".join(frames) + "\n")
    assert all(one.perceived for one in read(path))
    arguments = ["evaluate", "--modality", "qm9", "--samples", str(path), "--report", str(report)]
    assert run([*arguments, "--set", "qm9.metrics.adit=false"]) == 0
    assert "2 of 2 records name no bonds: these follow from the geometry" in capsys.readouterr().out
    found = {metric["name"]: metric["value"] for metric in json.loads(report.read_text())["scores"][0]["metrics"]}
    assert found["validity"] == 1.0 and found["stability_molecules_edm"] == 1.0 and found["energy_mmff94_50"] > 0
    own = tmp_path / "own.xyz"
    write([from_smiles("CCO")], own)
    assert not read(own)[0].perceived


def test_qm9_is_at_hand_once_it_is_prepared_or_its_package_is_installed(tmp_path, monkeypatch):
    request, modality = DataRequest("qm9", tmp_path), MoleculeModality(MoleculeConfig(), "qm9")
    assert not modality.at_hand(request)
    PluginCache(request, "molecule").folder("qm9", ["anything"]).mkdir(parents=True)
    assert modality.at_hand(request) and not modality.at_hand(replace(request, source="embedded"))
    monkeypatch.setattr("unite_mm_molecule.modality.find_package", lambda: tmp_path)
    other = DataRequest("qm9", tmp_path / "empty")
    assert modality.at_hand(other) and not modality.at_hand(replace(other, source="embedded"))


def test_files_are_compared_with_the_usual_data_where_these_are_at_hand(tmp_path, monkeypatch, capsys):
    write([from_smiles(text) for text in ("CCO", "CCN", "CCF", "CCC", "C1CC1")], tmp_path / "data.sdf")
    write([from_smiles("CCO")], tmp_path / "samples.sdf")
    asked = []
    original = MoleculeModality.open_data

    def opened(self, request):
        asked.append(request.source)
        return original(self, replace(request, source=str(tmp_path / "data.sdf")))

    monkeypatch.setattr(MoleculeModality, "open_data", opened)
    arguments = ["evaluate", "--modality", "qm9", "--samples", str(tmp_path / "samples.sdf")]
    quick = ["--set", "qm9.metrics.adit=false", "--set", "qm9.metrics.fcd=false", "--cache", str(tmp_path / "cache")]
    for ready, expected in ((False, []), (True, ["qm9"])):
        monkeypatch.setattr(MoleculeModality, "at_hand", lambda self, request, ready=ready: ready)
        assert run([*arguments, *quick]) == 0
        assert asked == expected
        assert ("V.U.N., of all" in capsys.readouterr().out) == ready
    assert run([*arguments, *quick, "--reconstructions-of", str(tmp_path / "samples.sdf")]) == 0
    assert asked == ["qm9"]  # reconstructions are compared with their inputs


def test_a_file_is_scored_against_data_with_every_group_of_metrics(tmp_path, capsys):
    pytest.importorskip("fcd")
    pytest.importorskip("openbabel")
    data, samples, report = tmp_path / "data.sdf", tmp_path / "samples.sdf", tmp_path / "report.json"
    texts = [
        "CCO",
        "CCN",
        "CCF",
        "CCC",
        "C1CC1",
        "CC=O",
        "CN",
        "CO",
        "CF",
        "CC#N",
        "C#C",
        "OCO",
        "NCO",
        "CNC",
        "COC",
        "CCCO",
        "CCCN",
        "CCCF",
        "CC(C)O",
        "CC(C)N",
    ]
    write([from_smiles(text) for text in texts], data)
    moved = [replace(one, positions=one.positions * 1.01) for one in map(from_smiles, ["CCO", "CCCC", "CC=O"])]
    write(moved, samples)
    arguments = [
        "evaluate",
        "--modality",
        "qm9",
        "--samples",
        str(samples),
        "--data",
        str(data),
        "--report",
        str(report),
    ]
    assert run([*arguments, "--cache", str(tmp_path / "cache")]) == 0
    score = Score.model_validate(json.loads(report.read_text())["scores"][0])
    groups = list(dict.fromkeys(metric.group for metric in score.metrics))
    assert groups == [
        "by the samples' own bonds", "EDM: distance table", "ADiT: OpenBabel's bonds", "novelty: the training split",
        "novelty: all data", "distance to held-out ones", "energy to minimum, MMFF94", "means of the valid samples",
    ]  # fmt: skip
    assert all(metric.reference is not None for metric in score.metrics if metric.name != "fcd")
    assert "reference: the same figures of 2 held-out molecules (the test split)" in capsys.readouterr().out
    assert len(list((tmp_path / "cache" / "molecule").glob("ceiling-*/found"))) == 1


def test_silent_progress_is_enough():
    assert score_generation([], None, Silent(), 1, QUICK).kind == "generation"
