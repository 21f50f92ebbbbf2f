"""What the report shows of molecules: which are chosen, what is said of them, and what the page's script draws."""

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest
from helpers.molecules_by_hand import AMMONIUM, FIVE_BONDS, METHANE, METHYL, by_hand, from_smiles

from unite_mm.progress import Silent
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.encode import arrange
from unite_mm_molecule.files.panels import Panel, flat_layout, vector_paths
from unite_mm_molecule.metrics.geometry import aligned_rmsd
from unite_mm_molecule.molecule import Molecule
from unite_mm_molecule.report.content import MOST_ATOMS, formula, laid_over, pair_content, sample_content
from unite_mm_molecule.report.published import QM9
from unite_mm_molecule.report.views import MOST_OF_A_KIND, MoleculeViews
from unite_mm_schemas.metrics import MetricsReport
from unite_mm_schemas.views import Gallery

ETHANOL, PHENOL = from_smiles("CCO"), from_smiles("Oc1ccccc1")
INVALID = [METHYL, FIVE_BONDS, AMMONIUM, Molecule.flawed("not a number", "broken")]
VIEWS = MoleculeViews(MoleculeConfig())


class Known:
    """A data set that holds ethanol alone."""

    description = "one molecule"

    def smiles(self, split: str) -> list[str]:
        return ["CCO"] if split == "train" else []


def samples(molecules: list[Molecule], reference: object = None) -> Gallery:
    found = VIEWS.samples(molecules, reference, Silent(), 1)
    assert found is not None
    return found


def reconstructions(inputs: list[Molecule], outputs: list[Molecule]) -> Gallery:
    found = VIEWS.reconstructions(inputs, outputs, Silent(), 1)
    assert found is not None
    return found


def test_molecules_are_told_apart_by_validity_and_novelty() -> None:
    found = samples([ETHANOL, PHENOL, *INVALID], Known())
    assert [item.tags for item in found.items] == [("valid", "known"), ("valid", "novel"), *[("invalid",)] * 4]
    assert {tag.name: tag.total for tag in found.tags} == {"valid": 2, "novel": 1, "known": 1, "invalid": 4}
    assert [tag.name for tag in found.tags if tag.alert] == ["invalid"]
    assert found.items[0].title == "CCO" and found.items[3].title == "C with 5 bonds"
    assert not found.notes
    facts = {fact.label: fact.text for fact in found.items[1].facts}
    assert facts == {"sample": "2", "name": "Oc1ccccc1", "formula": "C6H6O", "validity": "valid",
                     "training data": "does not hold it"}  # fmt: skip


def test_without_data_nothing_is_said_of_novelty() -> None:
    found = samples([ETHANOL])
    assert [tag.name for tag in found.tags] == ["valid", "invalid"]
    assert "training data" not in {fact.label for fact in found.items[0].facts}


def test_of_many_some_are_shown_and_it_is_said_how_they_were_chosen() -> None:
    found = samples([ETHANOL, FIVE_BONDS] * 500)
    assert (len(found.items), found.total) == (2 * MOST_OF_A_KIND, 1000)
    assert {tag.name: tag.total for tag in found.tags} == {"valid": 500, "invalid": 500}
    assert found.notes[0].startswith("200 of 1,000 are shown")
    places = [int(item.facts[0].text.replace(",", "")) for item in found.items]
    assert places == sorted(places) and places[-1] > 900


def test_ten_thousand_molecules_stay_small_and_quick() -> None:
    start = time.process_time()
    found = samples([PHENOL, FIVE_BONDS] * 5000, Known())
    assert time.process_time() - start < 5
    assert len(found.model_dump_json()) < 3_000_000
    assert found.total == 10_000 and all(tag.total is None for tag in found.tags)


ODD = {
    "no atoms": by_hand(""),
    "no positions": replace(ETHANOL, positions=None),
    "not finite": replace(ETHANOL, positions=np.full((9, 3), np.nan)),
    "far away": replace(ETHANOL, positions=np.full((9, 3), 1e30)),
    "unreadable": Molecule.flawed("what"),
    "implicit hydrogens": from_smiles("CCO", explicit=False),
    "one atom": by_hand("C", positions=[[0, 0, 0]]),
    "too many atoms": by_hand("C " * (MOST_ATOMS + 1)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_molecules_are_shown_as_far_as_that_goes(name: str) -> None:
    odd = ODD[name]
    found = samples([odd])
    json.dumps(found.items[0].model_dump(), allow_nan=False)
    assert isinstance(found.items[0].content, dict)
    shown = name in ("implicit hydrogens", "one atom")
    assert len(found.items[0].content["models"]) == shown  # type: ignore[arg-type]
    for pair in ((odd, ETHANOL), (ETHANOL, odd), (odd, odd)):
        json.dumps(pair_content(*pair), allow_nan=False)


def test_the_3d_model_holds_the_molecule() -> None:
    (model,) = sample_content(ETHANOL)["models"]
    assert model["elements"] == list("CCOHHHHHH")
    assert np.array(model["bonds"]).reshape(-1, 3).tolist() == ETHANOL.bonds.tolist()
    assert ETHANOL.positions is not None
    assert np.abs(np.array(model["places"]).reshape(-1, 3) / 100 - ETHANOL.positions).max() <= 0.005 + 1e-9
    assert model["hydrogens"] == [3, 4, 5, 6, 7, 8]


def test_drawings_are_paths_and_plain_colours() -> None:
    for path, colour, width in sample_content(PHENOL)["drawing"]:
        assert re.fullmatch(r"[MLQCZAaz0-9 .,-]+", path), path
        assert re.fullmatch(r"#[0-9A-F]{6}", colour)
        assert 0 <= width <= 6
    text = json.dumps(sample_content(PHENOL)["drawing"])
    assert len(text) < 4000
    assert "#FF0000" in text  # oxygen


def test_what_is_wrong_is_marked() -> None:
    mark = {colour for _, colour, _ in sample_content(FIVE_BONDS)["drawing"]}
    assert mark - {colour for _, colour, _ in sample_content(METHANE)["drawing"]} == {"#FF9E8C"}
    plain = Panel(flat_layout(METHANE.to_rdkit()), "", atoms=(0,))
    assert {colour for _, colour, _ in vector_paths(plain)} >= {"#FF9E8C"}


def test_a_reconstruction_is_laid_over_its_input() -> None:
    assert PHENOL.positions is not None
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    moved = replace(PHENOL, positions=PHENOL.positions @ turn.T + 7.0)
    laid = laid_over(moved, PHENOL)
    assert laid is not None
    assert np.abs(laid - PHENOL.positions).max() < 1e-6
    content = pair_content(PHENOL, moved)
    assert content["models"][0] == content["models"][1]
    assert [path for path, *_ in content["drawing"]] == [path for path, *_ in content["second"]]


def test_reconstructions_that_differ_come_first_with_their_rmsd() -> None:
    assert PHENOL.positions is not None
    shaken = replace(PHENOL, positions=PHENOL.positions + np.random.default_rng(0).normal(0, 0.05, (13, 3)))
    outputs = arrange([shaken, replace(ETHANOL, bonds=ETHANOL.bonds[1:])], VIEWS.config)  # as the model puts them out
    found = reconstructions([PHENOL, ETHANOL], outputs)
    assert [item.tags for item in found.items] == [("differs",), ("match",)]
    rmsd = aligned_rmsd(shaken.positions, PHENOL.positions)  # type: ignore[arg-type]
    assert found.items[1].facts[-1].text == f"{rmsd:.3f} Å"
    assert {tag.name: tag.total for tag in found.tags} == {"match": 1, "differs": 1}


def test_names_are_taken_as_they_are_but_not_without_end() -> None:
    found = samples([replace(ETHANOL, name="<script>" + "x" * 1000)])
    name = next(fact.text for fact in found.items[0].facts if fact.label == "name")
    assert name.startswith("<script>") and len(name) == 200


@pytest.mark.parametrize(
    ("molecule", "text"), [(ETHANOL, "C2H6O"), (METHANE, "CH4"), (by_hand("F H"), "FH"), (by_hand("H C N"), "CHN")]
)
def test_formulas_are_in_the_order_of_hill(molecule: Molecule, text: str) -> None:
    assert formula(molecule) == text


def test_published_figures_are_of_the_same_data() -> None:
    assert VIEWS.published(MetricsReport(modality="qm9", data=f"{QM9}, and what follows"))
    assert not VIEWS.published(MetricsReport(modality="qm9", data="20,000 embedded molecules"))


def test_the_assets_are_there_with_their_licences() -> None:
    for path in (*VIEWS.scripts, *VIEWS.styles, *VIEWS.licences):
        assert path.is_file()
    assert "BSD-3-Clause" in VIEWS.licences[0].read_text(encoding="utf-8")
