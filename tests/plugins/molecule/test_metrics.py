"""Validity, stability, geometry and reconstruction metrics against molecules whose answers are known by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.molecules_by_hand import (
    AMMONIUM,
    FIVE_BONDS,
    GLYCINE,
    HYDROGEN,
    IMINE,
    METHANE,
    METHYL,
    NITRO_FIVE_BONDS,
    NITROMETHANE,
    TWO_WATERS,
    by_hand,
    from_smiles,
    star,
)

from unite_mm.kit.intervals import mean, median, share, wilson
from unite_mm_molecule.chemistry import add_hydrogens
from unite_mm_molecule.metrics.geometry import aligned_rmsd, kabsch
from unite_mm_molecule.metrics.reconstruction import score_reconstruction
from unite_mm_molecule.metrics.validity import allowed_valences, check_validity, stable_atoms
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric, Score


def metric(score: Score, name: str) -> Metric:
    return next(metric for metric in score.metrics if metric.name == name)


def permuted(molecule: Molecule, order: list[int]) -> Molecule:
    """The same molecule, atom `order[k]` becoming atom k."""
    place = {old: new for new, old in enumerate(order)}
    bonds = sorted((*sorted((place[a], place[b])), o) for a, b, o in molecule.bonds.tolist())
    return replace(
        molecule,
        numbers=molecule.numbers[order],
        charges=molecule.charges[order],
        bonds=np.array(bonds),
        positions=None if molecule.positions is None else molecule.positions[order],
    )


@pytest.mark.parametrize(
    ("molecule", "problem", "detail"),
    [
        (METHANE, "", ""),
        (GLYCINE, "", ""),
        (NITROMETHANE, "", ""),
        (IMINE, "", ""),
        (HYDROGEN, "", ""),
        (by_hand("C O", [(0, 1, 3)], {0: -1, 1: 1}), "", ""),
        (star("C", "C C C C", explicit=False), "", ""),
        (METHYL, "radical", "1 unpaired on C"),
        (by_hand("C"), "radical", "4 unpaired on C"),
        (by_hand("O C", [(0, 1, 2)]), "radical", "2 unpaired on C"),
        (FIVE_BONDS, "does not sanitize", "C with 5 bonds"),
        (star("C", "C C C C C", explicit=False), "does not sanitize", "C with 5 bonds"),
        (star("N", "H H H H"), "does not sanitize", "N with 4 bonds"),
        (NITRO_FIVE_BONDS, "does not sanitize", "N with 5 bonds"),
        (by_hand("H H H", [(0, 1, 1), (1, 2, 1)]), "does not sanitize", "H with 2 bonds"),
        (TWO_WATERS, "fragments", "2 fragments"),
        (AMMONIUM, "charged", "charge +1"),
        (by_hand("N", charges={0: 1}, explicit=False), "charged", "charge +1"),
        (by_hand(""), "empty", "no atoms"),
    ],
)
def test_strict_validity(molecule, problem, detail):
    result = check_validity(molecule)
    assert (result.problem, result.detail, result.valid) == (problem, detail, not problem)


@pytest.mark.parametrize(
    "smiles", ["C=N", "CC(=N)C", "c1cc[nH]c1", "[NH3+]CC(=O)[O-]", "C[N+](=O)[O-]", "OC=O", "N=C1CC1", "[C-]#[N+]C"]
)
def test_the_same_smiles_with_and_without_hydrogens(smiles):
    explicit, implicit = from_smiles(smiles), from_smiles(smiles, explicit=False)
    assert explicit.size > implicit.size
    assert check_validity(explicit).valid and check_validity(explicit).smiles == check_validity(implicit).smiles


def test_a_missing_hydrogen_is_a_radical_only_where_hydrogens_are_explicit():
    assert check_validity(METHYL).problem == "radical"
    assert check_validity(by_hand("C", explicit=False)).valid


@pytest.mark.parametrize(
    ("number", "charge", "valences"),
    [(1, 0, (1,)), (6, 0, (4,)), (7, 0, (3,)), (8, 0, (2,)), (9, 0, (1,)), (7, 1, (4,)), (8, -1, (1,)), (8, 1, (3,)),
     (7, -1, (2,)), (6, 1, (3,)), (6, -1, (3,)), (1, 1, (0,)), (9, -1, (0,)), (6, 3, ())],
)  # fmt: skip
def test_valences_follow_the_charge(number, charge, valences):
    assert allowed_valences(number, charge) == valences


@pytest.mark.parametrize(
    ("molecule", "stable"),
    [(METHANE, 5), (METHYL, 3), (FIVE_BONDS, 5), (GLYCINE, 10), (NITROMETHANE, 7), (NITRO_FIVE_BONDS, 6), (AMMONIUM, 5),
     (star("N", "H H H H"), 4), (by_hand("H"), 0), (HYDROGEN, 2)],
)  # fmt: skip
def test_stable_atoms(molecule, stable):
    assert stable_atoms(molecule) == stable


def test_added_hydrogens_leave_the_molecule_as_it_is():
    heavy = from_smiles("C[N+](=O)[O-]", explicit=False)
    full = add_hydrogens(heavy)
    assert full.numbers.tolist() == [*heavy.numbers.tolist(), 1, 1, 1]
    assert full.bonds.tolist() == [*heavy.bonds.tolist(), [0, 4, 1], [0, 5, 1], [0, 6, 1]]
    np.testing.assert_array_equal(full.positions[:4], heavy.positions)
    lengths = np.linalg.norm(full.positions[4:] - full.positions[0], axis=1)
    assert np.all((lengths > 1.0) & (lengths < 1.2)) and check_validity(full).smiles == check_validity(heavy).smiles
    assert add_hydrogens(full) is full


# The first four are the worked examples of Newcombe (1998), Table I, method 3.
@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
     (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)  # fmt: skip
def test_wilson(count, total, low, high):
    assert wilson(count, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_refuses_what_is_no_share():
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


def test_means_medians_and_shares_of_nothing_have_no_value():
    assert share("s", "s", 0, 0, "").value is None
    assert mean("m", "m", [], "").value is None
    assert median("m", "m", [], "").value is None


def test_mean_and_median_by_hand():
    found = mean("m", "m", [1.0, 2.0, 3.0, 6.0], "")  # variance 14/3, so the half width is 1.96 sqrt(14/12)
    half = 1.959964 * math.sqrt(14 / 12)
    assert found.value == 3.0 and found.interval == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert median("m", "m", [5.0, 1.0, 2.0], "").value == 2.0
    assert median("m", "m", [4.0, 1.0, 2.0, 3.0], "").value == 2.5
    # 100 values: ranks 50 -+ 9.8, so the 41st and the 61st.
    assert median("m", "m", [float(i) for i in range(1, 101)], "").interval == (41.0, 61.0)


def rotation(axis: int, degrees: float) -> np.ndarray:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[[i, i, j, j], [i, j, i, j]] = [cosine, -sine, sine, cosine]
    return matrix


def test_kabsch_finds_the_motion():
    points = np.random.default_rng(0).normal(size=(7, 3))
    turn, shift = rotation(0, 40) @ rotation(2, 110), np.array([1.0, -2.0, 3.0])
    found_turn, found_shift = kabsch(points, points @ turn.T + shift)
    np.testing.assert_allclose(found_turn, turn, atol=1e-12)
    np.testing.assert_allclose(found_shift, shift, atol=1e-12)


@pytest.mark.parametrize("degrees", [0, 90, 180])
def test_rmsd_is_what_no_motion_removes(degrees):
    # Two points at distance 2 against two at distance 4: each is 1 off, however they lie.
    near, far = np.array([[-1.0, 0, 0], [1, 0, 0]]), np.array([[-2.0, 0, 0], [2, 0, 0]])
    assert aligned_rmsd(near @ rotation(2, degrees).T + 5, far) == pytest.approx(1.0)


def test_one_point_and_flat_shapes_superpose():
    assert aligned_rmsd(np.array([[1.0, 2, 3]]), np.zeros((1, 3))) == 0.0
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert aligned_rmsd(square @ rotation(0, 90).T, square) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="superpose"):
        aligned_rmsd(square, square[:3])


def test_a_mirror_image_does_not_superpose():
    chiral = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    mirror = chiral * [1, 1, -1]
    turn, _ = kabsch(mirror, chiral)
    assert np.linalg.det(turn) == pytest.approx(1.0)
    assert aligned_rmsd(mirror, chiral) > 0.3


ALANINE = from_smiles("C[C@H](N)C(=O)O")
ETHANOL = from_smiles("CCO")


def test_a_perfect_reconstruction():
    score = score_reconstruction([ETHANOL, ALANINE], [ETHANOL, ALANINE], geometry=False)
    assert metric(score, "match_graph").count == metric(score, "match_graph").total == 2
    assert metric(score, "match_graph").interval == pytest.approx(wilson(2, 2))
    assert metric(score, "rmsd_mean").value == pytest.approx(0.0, abs=1e-6)
    for name in ("identical", "accuracy_types", "accuracy_charges", "accuracy_bonds"):
        assert metric(score, name).value == 1.0, name
    assert score.kind == "reconstruction" and score.notes == ()


def test_rotated_and_moved_is_the_same_geometry():
    moved = replace(ETHANOL, positions=ETHANOL.positions @ rotation(1, 77).T + [4.0, 0, -2])
    assert metric(score_reconstruction([ETHANOL], [moved], geometry=False), "rmsd_mean").value < 1e-6


def test_a_mirror_image_matches_as_a_graph_and_not_as_a_geometry():
    mirror = replace(ALANINE, positions=ALANINE.positions * [1, 1, -1])
    score = score_reconstruction([ALANINE], [mirror], geometry=False)
    assert metric(score, "match_graph").count == 1
    assert metric(score, "rmsd_mean").value > 0.3


def test_permuted_atoms_match_as_a_graph_but_rmsd_goes_register_by_register():
    order = [2, 0, 1, *range(3, ETHANOL.size)]
    score = score_reconstruction([ETHANOL], [permuted(ETHANOL, order)], geometry=False)
    assert metric(score, "match_graph").count == 1 and metric(score, "identical").count == 0
    expected = aligned_rmsd(ETHANOL.positions[order], ETHANOL.positions)
    assert metric(score, "rmsd_mean").value == pytest.approx(expected) and expected > 0.5
    # C C O became O C C: two of nine types are wrong.
    assert (metric(score, "accuracy_types").count, metric(score, "accuracy_types").total) == (7, 9)


def test_rmsd_is_over_matched_molecules_only():
    numbers = ETHANOL.numbers.copy()
    numbers[2] = 16  # ethanethiol
    wrong = replace(ETHANOL, numbers=numbers, positions=ETHANOL.positions * 2)
    longer = replace(HYDROGEN, positions=np.array([[0.0, 0, 0], [0.75, 0, 0]]))
    shorter = replace(HYDROGEN, positions=np.array([[0.0, 0, 0], [0.55, 0, 0]]))
    score = score_reconstruction([ETHANOL, longer], [wrong, shorter], geometry=False)
    assert metric(score, "match_graph").count == 1 and metric(score, "rmsd_mean").total == 1
    assert metric(score, "rmsd_mean").value == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("output", "match", "types", "charges", "bonds"),
    [
        (replace(GLYCINE, charges=np.zeros(10, dtype=np.int64)), 0, 10, 8, (9, 9)),
        (replace(GLYCINE, bonds=GLYCINE.bonds[:-1]), 0, 10, 10, (8, 9)),
        (replace(GLYCINE, bonds=np.array([*GLYCINE.bonds.tolist(), [3, 9, 1]])), 0, 10, 10, (9, 10)),
        (replace(GLYCINE, numbers=np.array([7, 6, 6, 8, 16, 1, 1, 1, 1, 1])), 0, 9, 10, (9, 9)),
        # The other resonance form: the same molecule, two bonds and two charges elsewhere.
        (
            replace(
                GLYCINE,
                bonds=np.array([[a, b, {3: 1, 4: 2}.get(b, o) if a == 2 else o] for a, b, o in GLYCINE.bonds.tolist()]),
                charges=np.array([1, 0, 0, -1, 0, 0, 0, 0, 0, 0]),
            ),
            1, 10, 8, (7, 9),
        ),
    ],
    ids=["charges lost", "bond lost", "bond too many", "wrong element", "other resonance form"],
)  # fmt: skip
def test_parts_of_a_wrong_reconstruction(output, match, types, charges, bonds):
    score = score_reconstruction([GLYCINE], [output], geometry=False)
    assert metric(score, "match_graph").count == match
    assert (metric(score, "accuracy_types").count, metric(score, "accuracy_charges").count) == (types, charges)
    assert (metric(score, "accuracy_bonds").count, metric(score, "accuracy_bonds").total) == bonds
    assert metric(score, "identical").count == 0


def test_what_does_not_sanitize_is_a_miss_even_if_it_equals_the_input():
    score = score_reconstruction([FIVE_BONDS, METHANE], [FIVE_BONDS, FIVE_BONDS], geometry=False)
    assert metric(score, "match_graph").count == 0
    assert "1 inputs do not sanitize" in score.notes[0]


def test_implicit_hydrogens_are_declared():
    heavy = from_smiles("CCO", explicit=False)
    score = score_reconstruction([heavy], [heavy])
    assert metric(score, "match_graph").count == 1
    assert "heavy atoms" in metric(score, "rmsd_mean").definition
    assert any("implicit in 1 of 1" in note for note in score.notes)
    assert any("does not apply" in note for note in score.notes)
    assert all(metric.name != "match_geometry" for metric in score.metrics)


def test_positions_that_are_not_finite_give_no_rmsd():
    broken = replace(ETHANOL, positions=np.full_like(ETHANOL.positions, np.nan))
    score = score_reconstruction([ETHANOL], [broken], geometry=False)
    assert metric(score, "match_graph").count == 1 and metric(score, "rmsd_mean").value is None
    assert "no RMSD" in score.notes[0]


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="2 inputs and 1 reconstructions"):
        score_reconstruction([METHANE, METHANE], [METHANE])


def test_geometry_match_needs_its_packages(monkeypatch):
    from unite_mm_molecule.metrics import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "pymatgen" else object())
    score = score_reconstruction([ETHANOL], [ETHANOL])
    assert score.notes == ("match (geometry) left out: pymatgen not installed (pip install 'unite-mm[eval]')",)
    assert metric(score, "match_graph").count == 1


def test_geometry_match_sees_geometry_alone():
    pytest.importorskip("pymatgen")
    pytest.importorskip("openbabel")
    from unite_mm_molecule.metrics.reconstruction import geometry_rmsd

    order = [2, 0, 1, *range(3, ETHANOL.size)]
    scrambled = replace(permuted(ETHANOL, order), bonds=np.array([[0, 1, 3]]))
    assert geometry_rmsd((ETHANOL, scrambled)) == pytest.approx(0.0, abs=1e-3)
    assert geometry_rmsd((ETHANOL, replace(ETHANOL, positions=ETHANOL.positions * 1.5))) == math.inf
    numbers = ETHANOL.numbers.copy()
    numbers[2] = 9
    assert geometry_rmsd((ETHANOL, replace(ETHANOL, numbers=numbers))) == math.inf
