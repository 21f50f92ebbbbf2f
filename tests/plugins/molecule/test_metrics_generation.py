"""Generation metrics: denominators, references, conventions, distributions and the worker processes."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from helpers.molecules_by_hand import (
    AMMONIUM,
    FIVE_BONDS,
    GLYCINE,
    HYDROGEN,
    METHANE,
    METHYL,
    TWO_WATERS,
    by_hand,
    from_smiles,
    star,
)

from unite_mm.progress import Silent
from unite_mm_molecule.config import MoleculeConfig, MoleculeMetrics
from unite_mm_molecule.metrics.distributions import count_structures, histograms, ring_count, total_variation
from unite_mm_molecule.metrics.generation import score_generation
from unite_mm_molecule.metrics.perception import edm_bonds, perceive_adit, perceive_edm
from unite_mm_molecule.metrics.validity import check_validity
from unite_mm_molecule.modality import MoleculeModality
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Histogram, Metric, Score


@dataclass
class Reference:
    """Stands for a prepared data set."""

    test: list[Molecule] = field(default_factory=list)
    known: dict[str, list[str]] = field(default_factory=dict)
    validation: list[Molecule] = field(default_factory=list)
    cache: None = None

    def size(self, split):
        held_out = {"test": self.test, "validation": self.validation}.get(split)
        return len(held_out or self.smiles(split))

    def smiles(self, split):
        return self.known.get(split, [])

    def samples(self, split, indices):
        return [{"test": self.test, "validation": self.validation}[split][index] for index in indices.tolist()]


def metric(score: Score, name: str) -> Metric:
    return next(metric for metric in score.metrics if metric.name == name)


def histogram(score: Score, name: str) -> Histogram:
    return next(histogram for histogram in score.histograms if histogram.name == name)


def shares(score: Score, *names: str) -> list[tuple[int | None, int | None]]:
    return [(metric(score, name).count, metric(score, name).total) for name in names]


QUICK = MoleculeMetrics(adit=False, fcd=False, mmff94=0, ceiling=0)
"""What needs no other package."""

WATER = star("O", "H H")
SAMPLES = [METHANE, METHANE, WATER, GLYCINE, METHYL, FIVE_BONDS, AMMONIUM, TWO_WATERS]
"""4 valid, 3 distinct among them; 4 not valid, one of each kind."""


def test_validity_uniqueness_and_novelty_have_their_denominators():
    known = {"train": ["O", "CC"], "validation": ["C"], "test": ["N"]}
    score = score_generation(SAMPLES, Reference([WATER], known), chosen=QUICK)
    assert shares(score, "validity", "uniqueness", "uniqueness_of_all") == [(4, 8), (3, 4), (3, 8)]
    # Of C, O and glycine: O is in the training split, C in validation.
    names = ("", "_of_unique", "_of_all")
    assert shares(score, *(f"novelty{name}" for name in names)) == [(2, 4), (2, 3), (2, 8)]
    assert shares(score, *(f"novelty_all_data{name}" for name in names)) == [(1, 4), (1, 3), (1, 8)]
    assert metric(score, "validity").value == 0.5
    assert metric(score, "validity").interval == pytest.approx((0.2152, 0.7848), abs=5e-5)
    assert histogram(score, "validity_problems").samples == {
        "valid": 0.5, "does not sanitize": 0.125, "radical": 0.125, "fragments": 0.125, "charged": 0.125
    }  # fmt: skip


def test_stability_counts_all_generated():
    score = score_generation(SAMPLES)
    # METHYL has three stable atoms of four, FIVE_BONDS five of six; all other atoms are stable.
    assert shares(score, "stability_atoms") == [(44 - 2, 44)]
    assert shares(score, "stability_molecules") == [(6, 8)]


def test_without_reference_there_is_no_novelty():
    score = score_generation(SAMPLES)
    assert not any(metric.name.startswith("novelty") for metric in score.metrics)
    assert histogram(score, "rings").reference is None and histogram(score, "rings").total_variation is None
    assert any("no reference data" in note for note in score.notes)


def test_no_valid_sample_leaves_shares_without_value():
    score = score_generation([METHYL], Reference([WATER], {"train": ["O"]}), chosen=QUICK)
    assert metric(score, "uniqueness").value is None and metric(score, "novelty").value is None
    assert metric(score, "validity").value == 0.0
    assert [histogram.name for histogram in score.histograms] == ["validity_problems"]


def test_no_sample_at_all():
    score = score_generation([])
    assert metric(score, "validity").value is None and score.histograms == ()


def test_isomers_of_stereo_count_once():
    pair = [from_smiles("C[C@H](N)C(=O)O"), from_smiles("C[C@@H](N)C(=O)O")]
    assert shares(score_generation(pair, chosen=QUICK), "uniqueness") == [(1, 2)]


def test_implicit_hydrogens_are_declared():
    score = score_generation([star("C", "O O", explicit=False)])
    assert shares(score, "validity") == [(1, 1)]
    assert "hydrogens are implicit" in metric(score, "validity").definition
    assert not any(metric.name.startswith(("stability", "validity_")) for metric in score.metrics)
    assert sum("not apply" in note for note in score.notes) == 2


def test_empty_molecules_are_not_valid():
    score = score_generation([by_hand(""), METHANE])
    assert shares(score, "validity", "stability_molecules") == [(1, 2), (1, 2)]


@pytest.mark.parametrize(
    ("smiles", "rings"),
    [("CCC", 0), ("C1CC1", 1), ("c1ccc2ccccc2c1", 2), ("C12C3C4C1C5C2C3C45", 5), ("C1CC12CC2", 2), ("[H][H]", 0)],
)
def test_rings_are_those_of_the_smallest_set(smiles, rings):
    # Cubane has six faces and five independent rings.
    assert ring_count(from_smiles(smiles)) == rings


def test_rings_of_fragments_add_up():
    triangle = [(0, 1, 1), (1, 2, 1), (0, 2, 1)]
    assert ring_count(by_hand("C C C C C C", [*triangle, (3, 4, 1), (4, 5, 1), (3, 5, 1)])) == 2


def test_total_variation_by_hand():
    assert total_variation({"a": 0.5, "b": 0.5}, {"a": 0.25, "c": 0.75}) == pytest.approx(0.75)
    assert total_variation({"a": 1.0}, {"a": 1.0}) == 0.0
    assert total_variation({"a": 1.0}, {"b": 1.0}) == 1.0


def test_histograms_by_hand():
    acetone, propane = from_smiles("CC(C)=O"), from_smiles("CCC")
    score = score_generation([acetone], Reference([propane, from_smiles("C1CC1")]), chosen=QUICK)
    rings = histogram(score, "rings")
    assert rings.samples == {"0": 1.0, "1": 0.0} and rings.reference == {"0": 0.5, "1": 0.5}
    assert rings.total_variation == pytest.approx(0.5)
    # Acetone: two C-C and one C=O; propane and cyclopropane: single bonds only. C-H bonds do not count.
    assert histogram(score, "bond_orders").total_variation == pytest.approx(1 / 3)
    assert histogram(score, "elements").samples == {"C": 0.75, "O": 0.25}
    assert histogram(score, "elements").total_variation == pytest.approx(0.25)
    assert histogram(score, "elements_with_hydrogen").samples["H"] == pytest.approx(0.6)
    assert histogram(score, "heavy_atoms").samples == {"3": 0.0, "4": 1.0}
    assert metric(score, "rings_mean").value == 0.0 and metric(score, "atoms_mean").value == 10.0
    assert metric(score, "variation_rings").value == pytest.approx(0.5)
    assert metric(score, "wasserstein_heavy_atoms").value == pytest.approx(1.0)


def test_aromatic_bonds_are_counted_kekulized():
    found = histograms(count_structures([from_smiles("c1ccccc1")]), None)
    assert next(h for h in found if h.name == "bond_orders").samples == {"single": 0.5, "double": 0.5}


def test_only_valid_samples_enter_the_distributions():
    score = score_generation([METHANE, FIVE_BONDS, METHYL, by_hand("F")], chosen=QUICK)
    assert histogram(score, "elements").samples == {"C": 1.0}


def test_a_distribution_over_nothing_is_left_out():
    names = {h.name for h in histograms(count_structures([METHANE]), count_structures([from_smiles("CC")]))}
    assert "bond_orders" not in names and "rings" in names


def at_distance(first: str, second: str, distance: float) -> int:
    molecule = by_hand(f"{first} {second}", positions=[[0, 0, 0], [0, distance, 0]])
    bonds = edm_bonds(molecule.numbers, molecule.positions)
    return int(bonds[0, 2]) if len(bonds) else 0


# Thresholds: single length + 0.10 A, double + 0.05 A, triple + 0.03 A; exactly at the threshold there is no bond.
@pytest.mark.parametrize(
    ("first", "second", "distance", "order"),
    [("C", "C", 1.65, 0), ("C", "C", 1.63, 1), ("C", "C", 1.40, 1), ("C", "C", 1.38, 2), ("C", "C", 1.24, 2),
     ("C", "C", 1.22, 3), ("C", "H", 1.20, 0), ("H", "C", 1.18, 1), ("O", "H", 0.5, 1), ("N", "N", 1.12, 3),
     ("N", "O", 1.25, 2), ("O", "O", 1.0, 2), ("H", "H", 0.9, 0), ("F", "F", 1.4, 1), ("B", "N", 1.4, 0)],
)  # fmt: skip
def test_edm_distance_table(first, second, distance, order):
    assert at_distance(first, second, distance) == order


def test_edm_convention_ignores_bonds_and_adds_hydrogens():
    methane = from_smiles("C")
    assert perceive_edm(replace(methane, bonds=methane.bonds[:0])).stable_atoms == 5
    # A hydrogen far away: RDKit supplies another, and the fragment left behind does not matter.
    lost = methane.positions.copy()
    lost[4] += 50
    seen = perceive_edm(replace(methane, positions=lost))
    assert seen.smiles == "[H]C([H])[H]" and seen.stable_atoms == 3
    # All hydrogens on one spot of the carbon are bound to each other as well: no valence fits.
    assert perceive_edm(replace(methane, positions=methane.positions * 0.1)).smiles is None


def test_adit_convention_ignores_bonds():
    pytest.importorskip("openbabel")
    ethanol = from_smiles("CCO")
    assert perceive_adit(replace(ethanol, bonds=ethanol.bonds[:0])).smiles == "CCO"
    # OpenBabel misses the aromatic ring of this sound molecule: the convention has misses of its own.
    assert perceive_adit(from_smiles("NC1=NC(O)=NC=C1")).smiles is None
    score = score_generation([ethanol, replace(ethanol, bonds=ethanol.bonds[:3])], workers=1)
    assert shares(score, "validity", "validity_adit", "uniqueness_adit") == [(1, 2), (2, 2), (1, 2)]


def test_optional_tools_that_are_absent_are_named(monkeypatch):
    from unite_mm_molecule.metrics import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    score = score_generation([from_smiles("CCO")], chosen=MoleculeMetrics(posebusters=True))
    said = [note for note in score.notes if "not installed" in note]
    assert len(said) == 2 and all("pip install 'unite-mm[eval]'" in note for note in said)
    assert not any(metric.name.startswith(("posebusters", "validity_adit")) for metric in score.metrics)


@pytest.mark.parametrize("wanted", [False, True])
def test_posebusters_runs_when_the_configuration_asks_for_it(monkeypatch, wanted):
    from unite_mm_molecule.metrics import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    config = MoleculeConfig.model_validate({"metrics": {"posebusters": wanted}})
    score = MoleculeModality(config, "qm9").score_generation([from_smiles("CCO")], None, Silent(), 1)
    assert any(note.startswith("PoseBusters left out") for note in score.notes) == wanted


def test_distributions_are_those_of_the_split_that_the_configuration_names():
    reference = Reference(test=[from_smiles("C1CC1")], validation=[from_smiles("CCO")])
    for metrics, expected in (({}, 1.0), ({"reference_split": "validation"}, 0.0)):
        config = MoleculeConfig.model_validate({"metrics": metrics})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("unite_mm_molecule.modality.MoleculeData", Reference)
            score = MoleculeModality(config, "qm9").score_generation([from_smiles("CCO")], reference, Silent(), 1)
        assert histogram(score, "rings").total_variation == expected


@pytest.mark.slow
def test_posebusters():
    pytest.importorskip("posebusters")
    ethanol = from_smiles("CCO")
    clash = replace(ethanol, positions=ethanol.positions * 0.6)
    score = score_generation(
        [ethanol, clash, METHYL_AT_REST], chosen=QUICK.model_copy(update={"posebusters": True}), workers=1
    )
    assert shares(score, "validity", "posebusters", "posebusters_bond_lengths") == [(2, 3), (1, 3), (1, 2)]


@pytest.mark.slow
def test_posebusters_goes_on_without_the_energy_check_where_that_takes_too_long(monkeypatch):
    pytest.importorskip("posebusters")
    from unite_mm_molecule.metrics import posebusters

    calls = []

    def impatient(function, items, **options):
        calls.append(len(items))
        # What a worker past its limit leaves behind: the first time, nothing of the first molecule.
        return [None if len(calls) == 1 and index == 0 else function(item) for index, item in enumerate(items)]

    pair = [from_smiles("CCO"), from_smiles("CCF")]
    results = [check_validity(molecule) for molecule in pair]
    monkeypatch.setattr(posebusters, "map_items", impatient)
    metrics, notes = posebusters.posebusters_metrics(pair, results, Silent(), 1)
    totals = {metric.name: (metric.count, metric.total) for metric in metrics}
    assert calls == [2, 1] and totals["posebusters"] == (2, 2)
    assert totals["posebusters_bond_lengths"] == (2, 2) and totals["posebusters_internal_energy"] == (1, 1)
    assert notes == ["PoseBusters took over 20 s on 1 samples: scored without internal energy"]


METHYL_AT_REST = replace(METHYL, positions=np.array([[0, 0, 0], [1.08, 0, 0], [-0.54, 0.935, 0], [-0.54, -0.935, 0]]))


def test_scores_do_not_depend_on_the_number_of_processes():
    samples = [*SAMPLES, HYDROGEN] * 70  # enough for two processes
    one, two = (score_generation(samples, workers=workers, chosen=QUICK) for workers in (1, 2))
    assert one == two and metric(one, "validity").total == 630
