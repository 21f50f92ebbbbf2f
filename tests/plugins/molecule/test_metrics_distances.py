"""Bond lengths, angles and dihedrals by type, distances between sets, the ChemNet distance and energies."""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.molecules_by_hand import by_hand, from_smiles

from unite_mm.kit.intervals import median, quantile
from unite_mm.progress import Silent
from unite_mm_molecule.metrics.assess import assess, describe
from unite_mm_molecule.metrics.chemnet import Moments, chemnet_features, chemnet_moments, frechet_distance
from unite_mm_molecule.metrics.energy import mmff94_strain, strain_metrics, xtb_strain
from unite_mm_molecule.metrics.internal import binned_variation, internal_coordinates, wasserstein
from unite_mm_molecule.metrics.profile import distance_metrics, take_profile
from unite_mm_molecule.molecule import SYMBOLS, Molecule


def coordinates(*molecules: Molecule, heavy: bool = False):
    return internal_coordinates(molecules, [describe(one).traits.aromatic for one in molecules], heavy=heavy)


def profile(*molecules: Molecule):
    return take_profile(molecules, [describe(one) for one in molecules])


def by_name(metrics):
    return {metric.name: metric for metric in metrics}


PEROXIDE = by_hand(
    "H O O H", [(0, 1, 1), (1, 2, 1), (2, 3, 1)], positions=[[0, 0.96, 0], [0, 0, 0], [1.45, 0, 0], [1.45, 0, 0.96]]
)
"""Right angles throughout, the hydrogens a quarter turn apart."""


def test_peroxide_by_hand():
    found = coordinates(PEROXIDE)
    assert {name: values.round(6).tolist() for name, values in found.lengths.items()} == {
        "H-O single": [0.96, 0.96], "O-O single": [1.45]
    }  # fmt: skip
    assert {name: values.round(6).tolist() for name, values in found.angles.items()} == {"H-O-O": [90, 90]}
    assert found.dihedrals == {}  # of heavy atoms alone
    assert list(coordinates(PEROXIDE, heavy=True).lengths) == ["O-O single"]


@pytest.mark.parametrize(("turn", "expected"), [(0, 0), (60, 60), (180, 180), (-60, 60), (270, 90)])
def test_dihedrals_are_those_of_the_torsion_whichever_its_sign(turn, expected):
    end = [1.5, np.cos(np.radians(turn)), np.sin(np.radians(turn))]
    chain = by_hand("C C C O", [(0, 1, 1), (1, 2, 1), (2, 3, 1)], positions=[[0, 1, 0], [0, 0, 0], [1.5, 0, 0], end])
    found = internal_coordinates([chain], [np.zeros(3, dtype=np.bool_)])
    assert found.dihedrals["C-C-C-O"] == pytest.approx([expected], abs=1e-6)


def test_every_angle_and_dihedral_is_taken_once():
    """Against loops over all triples and rows of atoms, on rings, a bridge and a triple bond."""
    molecules = [from_smiles(text) for text in ("C1CC1", "C12CC(C1)C2", "CC#CC(F)=O", "c1ccoc1", "OCC1CN1")]
    angles, dihedrals = {}, {}
    for one in molecules:
        symbols = [SYMBOLS[number] for number in one.numbers.tolist()]
        bonded = {pair for a, b, _ in one.bonds.tolist() for pair in ((a, b), (b, a))}
        for a, b, c in itertools.permutations(range(one.size), 3):
            if a < c and {(a, b), (b, c)} <= bonded:
                key = (symbols[b], *sorted((symbols[a], symbols[c])))
                angles[key] = angles.get(key, 0) + 1
        heavy = [atom for atom in range(one.size) if symbols[atom] != "H"]
        for a, b, c, d in itertools.permutations(heavy, 4):
            if a < d and {(a, b), (b, c), (c, d)} <= bonded:
                key = min(
                    (symbols[a], symbols[b], symbols[c], symbols[d]), (symbols[d], symbols[c], symbols[b], symbols[a])
                )
                dihedrals[key] = dihedrals.get(key, 0) + 1
    found = coordinates(*molecules)
    counted = {}
    for name, values in found.angles.items():
        one, centre, other = name.split("-")
        counted[(centre, *sorted((one, other)))] = len(values)
    assert counted == angles
    counted = {}
    for name, values in found.dihedrals.items():
        row = tuple(name.split("-"))
        counted[min(row, row[::-1])] = len(values)
    assert counted == dihedrals


def test_which_kekulized_form_a_ring_has_does_not_matter():
    benzene = from_smiles("c1ccccc1")
    other = benzene.bonds.copy()
    ring = (benzene.numbers[other[:, :2]] == 6).all(axis=1)
    other[ring, 2] = 3 - other[ring, 2]
    one, two = coordinates(benzene), coordinates(replace(benzene, bonds=other))
    assert sorted(one.lengths) == sorted(two.lengths) == ["C-C aromatic", "H-C single"]


def test_a_turned_moved_renumbered_or_mirrored_molecule_has_the_same_coordinates():
    one = from_smiles("CC(N)C(=O)O")
    order = np.random.default_rng(0).permutation(one.size)
    back = np.argsort(order)
    bonds = one.bonds.copy()
    bonds[:, :2] = np.sort(back[bonds[:, :2]], axis=1)
    turned = one.positions[:, [1, 2, 0]] * [1, 1, -1] + 5
    other = Molecule(one.numbers[order], one.charges[order], bonds, turned[order])
    first, second = coordinates(one), coordinates(other)
    for kind in ("lengths", "angles", "dihedrals"):
        mine, theirs = first.of(kind), second.of(kind)
        assert mine.keys() == theirs.keys() and mine
        assert all(np.allclose(mine[name], theirs[name]) for name in mine)


def test_distances_of_samples_by_hand():
    one, other = np.array([0.0, 1.0]), np.array([0.5, 1.5])
    assert wasserstein(one, other) == pytest.approx(0.5)
    assert wasserstein(np.array([0.0]), np.array([1.0, 3.0])) == pytest.approx(2.0)
    assert wasserstein(one, one) == 0.0
    assert binned_variation(np.array([0.1, 0.2, 1.1, 1.2]), np.array([0.3, 0.4, 0.5, 1.9]), 1.0) == pytest.approx(0.25)


def test_the_wasserstein_distance_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(3)
    one, other = np.sort(generator.normal(size=40)), np.sort(generator.normal(0.3, 2, size=71))
    assert wasserstein(one, other) == pytest.approx(stats.wasserstein_distance(one, other))


def test_a_set_is_at_distance_zero_of_itself():
    whole = profile(*(from_smiles(text) for text in ("CCO", "c1ccccc1", "CC(F)CN", "C1CC1")))
    metrics, notes = distance_metrics(whole, whole)
    assert notes == [] and len(metrics) > 15
    assert all(metric.value == 0.0 and metric.group for metric in metrics)


def test_lengths_stretched_by_a_tenth_are_found_by_type():
    one = from_smiles("CCO")
    stretched = replace(one, positions=one.positions * 1.1)
    found = by_name(distance_metrics(profile(stretched), profile(one))[0])
    lengths, data = found["wasserstein_lengths"], coordinates(one).lengths
    expected = {name: 0.1 * values.mean() for name, values in data.items()}
    assert lengths.parts == pytest.approx(expected) and lengths.unit == "angstrom"
    assert lengths.value == pytest.approx(sum(expected[name] * len(data[name]) for name in data) / len(one.bonds))
    assert found["variation_lengths"].value == pytest.approx(1.0)
    assert found["wasserstein_angles"].value == pytest.approx(0, abs=1e-9)
    assert found["variation_lengths_types"].value == 0.0


def test_types_that_samples_lack_are_named():
    metrics, notes = distance_metrics(profile(from_smiles("CC")), profile(from_smiles("CCF")))
    assert notes[0] == "bond lengths: no C-F single among the valid samples, so these are left out"
    assert "C-F single" not in by_name(metrics)["wasserstein_lengths"].parts
    assert by_name(metrics)["variation_lengths_types"].value > 0


def test_sets_with_implicit_hydrogens_are_compared_by_heavy_atoms():
    one = from_smiles("CCO")
    metrics, _ = distance_metrics(profile(from_smiles("CCO", explicit=False)), profile(one))
    assert sorted(by_name(metrics)["wasserstein_lengths"].parts) == ["C-C single", "C-O single"]
    assert by_name(metrics)["wasserstein_lengths"].value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("smiles", "rings", "rotatable"),
    [
        ("CCCC", (), 1),
        ("CCO", (), 0),
        ("c1ccccc1CC", (6,), 1),
        ("C1CC12CCC2", (3, 4), 0),
        ("CCCCO", (), 2),
        ("C", (), 0),
    ],
)
@pytest.mark.parametrize("explicit", [True, False])
def test_rings_and_rotatable_bonds_by_hand(smiles, rings, rotatable, explicit):
    traits = assess(from_smiles(smiles, explicit)).traits
    assert (tuple(sorted(traits.ring_sizes)), traits.rotatable) == (rings, rotatable)


SET = ["CCO", "CCN", "c1ccccc1", "CC(=O)N", "C1CC1", "CCO"]


def test_the_chemnet_distance_of_a_set_to_itself_is_zero():
    pytest.importorskip("fcd")
    one = chemnet_moments(SET, "", Silent(), 1)
    shuffled = chemnet_moments(SET[::-1], "", Silent(), 1)
    assert frechet_distance(one, shuffled) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(one, chemnet_moments(SET[:4], "", Silent(), 1)) > 0.1


def test_features_depend_on_the_molecule_alone():
    pytest.importorskip("fcd")
    together, alone = chemnet_features(SET), np.concatenate([chemnet_features([text]) for text in SET])
    assert together.shape == (6, 512) and np.allclose(together, alone, atol=1e-5)
    assert np.allclose(together[0], together[5], atol=1e-6) and not np.allclose(together[0], together[1], atol=1e-2)


def test_the_package_needs_no_other_framework_and_its_weights_hold_no_code():
    fcd = pytest.importorskip("fcd")
    chemnet_features(["C"])
    assert not {"tensorflow", "keras"} & sys.modules.keys()
    (weights,) = Path(fcd.__file__).parent.glob("ChemNet*.pt")
    assert torch.load(weights, weights_only=True)  # what torch does by default


def test_the_frechet_distance_of_known_distributions():
    one, other = (
        Moments(np.zeros(3), np.diag([1.0, 4.0, 0.0]), 9),
        Moments(np.array([1.0, 0, 2]), np.diag([9.0, 4, 1]), 9),
    )
    assert frechet_distance(one, other) == pytest.approx(5 + (1 - 3) ** 2 + 0 + 1)
    generator = np.random.default_rng(0)
    sheared = [generator.normal(size=(50, 6)) @ generator.normal(size=(6, 6)) for _ in range(2)]
    one, other = (Moments(part.mean(0), np.cov(part.T), 50) for part in sheared)
    roots = np.sqrt(np.linalg.eigvals(one.sigma @ other.sigma).real).sum()
    gap = one.mu - other.mu
    assert frechet_distance(one, other) == pytest.approx(gap @ gap + np.trace(one.sigma + other.sigma) - 2 * roots)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))


def test_moments_are_kept_exactly(tmp_path):
    one = Moments(np.arange(3.0), np.eye(3) / 3, 7)
    one.write(tmp_path / "found")
    again = Moments.read(tmp_path / "found")
    assert again.count == 7 and np.array_equal(again.mu, one.mu) and np.array_equal(again.sigma, one.sigma)


def test_mmff94_energy_is_zero_at_the_minimum_and_grows_away_from_it():
    from unite_mm_molecule.chemistry import embed, sanitized

    rested = Molecule.from_rdkit(embed(sanitized(from_smiles("CCO")))[0])
    assert mmff94_strain(rested) == pytest.approx(0, abs=1e-3)
    near, far = (mmff94_strain(replace(rested, positions=rested.positions * scale)) for scale in (1.02, 1.05))
    assert 0.5 < near < far


def test_molecules_without_parameters_are_counted():
    odd = by_hand(
        "B H H H", [(0, 1, 1), (0, 2, 1), (0, 3, 1)], positions=[[0, 0, 0], [1.2, 0, 0], [-0.6, 1, 0], [-0.6, -1, 0]]
    )
    metrics, notes = strain_metrics([odd, from_smiles("CCO")], "mmff94", Silent(), 1)
    assert metrics[0].total == 1
    assert notes == ["1 of 2 samples could not be relaxed with MMFF94 and are left out of the energies"]


def test_xtb_energy_grows_away_from_the_minimum():
    pytest.importorskip("tblite.interface", exc_type=ImportError)
    water = by_hand("O H H", [(0, 1, 1), (0, 2, 1)], positions=[[0, 0, 0], [0.9584, 0, 0], [-0.2396, 0.9279, 0]])
    near, far = xtb_strain(water), xtb_strain(replace(water, positions=water.positions * 1.1))
    assert 0 <= near < 0.5 and 3 < far < 20


def test_quantiles_by_hand():
    values = [float(k) for k in range(1, 12)]
    assert quantile("q", "q", values, 0.9, "").value == pytest.approx(10.0)
    assert quantile("q", "q", values, 0.25, "").value == pytest.approx(3.5)
    assert quantile("q", "q", values, 0.5, "") == median("q", "q", values, "")
    assert quantile("q", "q", [], 0.5, "").value is None
    assert quantile("q", "q", [0.0] * 1000, 0.9, "").interval == (0.0, 0.0)
    with pytest.raises(ValueError, match="no level"):
        quantile("q", "q", values, 1.0, "")
