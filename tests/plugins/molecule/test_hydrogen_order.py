"""The order of the hydrogens of one atom follows from where they lie."""

from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem
from rdkit.Chem.rdMolTransforms import GetDihedralDeg

from tests.helpers.embedded_molecules import unpack
from tests.helpers.molecules_by_hand import METHANE, from_smiles
from unite_mm_molecule.data.sources import EMBEDDED
from unite_mm_molecule.flat import FlatMolecules
from unite_mm_molecule.hydrogen_order import ordered_hydrogens
from unite_mm_molecule.molecule import Molecule

SHUFFLED = [
    "CCC",
    "CC(=O)NC",
    "NCC#C",
    "C#CC",
    "C=CC=C",
    "CC#CC#CC",
    "CO",
    "C",
    "N",
    "NC=O",
    "C1CC1",
    "CC(C)(C)N",
    "CC",
]


def spatial(smiles: str) -> Molecule:
    """A molecule with a geometry by RDKit."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return Molecule.from_rdkit(mol)


def ordered(molecule: Molecule) -> Molecule:
    return ordered_hydrogens(FlatMolecules.from_molecules([molecule])).molecule(0)


def places(molecule: Molecule) -> np.ndarray:
    assert molecule.positions is not None
    return molecule.positions


def shuffled(molecule: Molecule, seed: int) -> Molecule:
    """The same molecule with positions of the hydrogens of each atom exchanged."""
    draw = np.random.default_rng(seed)
    positions = places(molecule).copy()
    pairs = molecule.bonds[:, :2].tolist()
    for parent in np.flatnonzero(molecule.numbers != 1).tolist():
        own = [b if a == parent else a for a, b in pairs if parent in (a, b)]
        own = [atom for atom in own if molecule.numbers[atom] == 1]
        positions[own] = positions[draw.permutation(np.array(own, dtype=int))]
    return replace(molecule, positions=positions)


@pytest.mark.parametrize("smiles", SHUFFLED)
def test_the_order_of_the_input_does_not_matter(smiles: str) -> None:
    molecule = spatial(smiles)
    goal = places(ordered(molecule))
    for seed in range(4):
        np.testing.assert_array_equal(places(ordered(shuffled(molecule, seed))), goal)
    np.testing.assert_array_equal(places(ordered(ordered(molecule))), goal)
    assert not np.isnan(goal).any()
    assert sorted(map(tuple, goal.tolist())) == sorted(map(tuple, places(ordered(shuffled(molecule, 9))).tolist()))


@pytest.mark.parametrize(
    "smiles", ["CCC", "CC(=O)NC", "NCC#C", "C#CC(C)=O", "C=CC=C", "CC#CCO", "CC#CC#CCO", "C1CC1", "CC(C)(C)N"]
)
def test_the_order_turns_with_the_molecule(smiles: str) -> None:
    molecule = spatial(smiles)
    draw = np.random.default_rng(0)
    for _ in range(4):
        turn, _ = np.linalg.qr(draw.normal(size=(3, 3)))
        turn *= np.linalg.det(turn)
        turned = replace(molecule, positions=places(molecule) @ turn.T + draw.normal(size=3))
        np.testing.assert_allclose(places(ordered(turned)) @ turn, places(ordered(molecule)) + (
            places(turned) @ turn - places(molecule)
        )[0], atol=1e-5)  # fmt: skip


def test_hydrogens_are_met_in_turn_around_the_bond() -> None:
    """Seen along the bond each hydrogen follows the one before in the same sense, whichever comes first."""
    molecule = ordered(spatial("CCCC"))
    mol = molecule.to_rdkit()
    methyl = [atom.GetIdx() for atom in mol.GetAtomWithIdx(0).GetNeighbors() if atom.GetAtomicNum() == 1]
    torsions = [GetDihedralDeg(mol.GetConformer(), 2, 1, 0, atom) for atom in methyl]
    steps = np.diff([*torsions, torsions[0]]) % 360
    assert np.allclose(steps, 120, atol=10) or np.allclose(steps, 240, atol=10)


def test_what_has_no_several_hydrogens_or_no_geometry_stays() -> None:
    plain = from_smiles("CCO")
    assert plain.positions is None or ordered(plain).positions is not None
    flat = FlatMolecules.from_molecules([replace(METHANE, positions=None), spatial("C#N")])
    np.testing.assert_array_equal(ordered_hydrogens(flat).positions, flat.positions)
    assert len(ordered_hydrogens(FlatMolecules.from_molecules([]))) == 0


def test_a_small_change_of_the_geometry_seldom_changes_the_order() -> None:
    """Where the order changes the tokens jump, and no decoder can follow: that must lie where molecules are few."""
    molecules = ordered_hydrogens(FlatMolecules.from_molecules(list(unpack(EMBEDDED))).grouped())
    atoms = int(molecules.atoms.sum())
    noise = np.random.default_rng(0).normal(scale=0.02, size=(atoms, 3)).astype(np.float32)
    moved = ordered_hydrogens(replace(molecules, positions=molecules.positions + noise))
    jumped = np.linalg.norm(moved.positions - molecules.positions, axis=1) > 0.5
    parents, hydrogen = molecules.parents()
    carried = np.bincount(parents[hydrogen], minlength=atoms)
    changed = np.bincount(parents[hydrogen & jumped], minlength=atoms) > 0
    for element, count, most in ((6, 2, 0.001), (6, 3, 0.004), (7, 2, 0.006)):
        groups = (molecules.numbers == element) & (carried == count)
        assert changed[groups].mean() <= most
