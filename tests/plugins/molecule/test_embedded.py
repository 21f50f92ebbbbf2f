"""The embedded molecules: the script finds them again, and they are sound molecules with natural geometries."""

import random
from types import ModuleType

import numpy as np
import pytest
from helpers.embedded_molecules import unpack
from helpers.repository import load_script

from unite_mm_molecule.files.formats import read
from unite_mm_molecule.molecule import Molecule

ORDINARY = ["C", "CCO", "NC=O", "C1CC1", "CC(=O)O", "C#CC#N", "c1ccoc1", "c1c[nH]cn1", "FC(F)F", "c1ccccc1", "N#CCO"]
ODD = ["OO", "C=C=C", "C1=CC1", "OCO", "NF", "CF", "C=CO", "NNN", "C1#CCCCC1", "C1=CC=C1", "OC(=O)O", "C12C3C1C23"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("scripts/make_embedded.py")


@pytest.fixture(scope="module")
def committed(script: ModuleType) -> list[Molecule]:
    return list(unpack(script.OUTPUT))


@pytest.fixture(scope="module")
def names(committed: list[Molecule]) -> set[str]:
    return {molecule.name for molecule in committed}


def canonical(smiles: str) -> str:
    from rdkit import Chem

    return str(Chem.MolToSmiles(Chem.MolFromSmiles(smiles)))


def heavy(molecule: Molecule) -> int:
    return int((molecule.numbers > 1).sum())


def test_script_finds_the_small_molecules_again(script: ModuleType, committed: list[Molecule]) -> None:
    sizes = script.enumerate_smiles(4)
    again = [smiles for size in sizes for smiles in size if script.geometry(smiles) is not None]
    assert again == [molecule.name for molecule in committed if heavy(molecule) <= 4]


def test_skeletons_are_complete(script: ModuleType) -> None:
    """Without multiple bonds they are the connected graphs of degree at most 4, whose numbers are known."""
    skeletons, counts = [script.Chem.MolFromSmiles("C")], []
    for _ in range(6):
        counts.append(sum(all(b.GetBondTypeAsDouble() == 1 for b in s.GetBonds()) for s in skeletons))
        skeletons = script.larger_skeletons(skeletons)
    assert counts == [1, 1, 2, 6, 21, 78]


def test_set_is_small_distinct_and_ordered(script: ModuleType, committed: list[Molecule]) -> None:
    assert script.OUTPUT.stat().st_size < 2_000_000
    assert len(committed) >= 10_000
    assert len({molecule.name for molecule in committed}) == len(committed)
    sizes = [heavy(molecule) for molecule in committed]
    assert sizes == sorted(sizes) and sizes[-1] == script.ATOMS
    assert {int(z) for molecule in committed for z in molecule.numbers} == {1, 6, 7, 8, 9}


def test_molecules_are_sound(committed: list[Molecule]) -> None:
    from rdkit import Chem

    for molecule in random.Random(0).sample(committed, 500):
        mol = molecule.to_rdkit()  # raises where a valence is exceeded; adds no hydrogen
        assert not molecule.charges.any(), molecule.name
        assert not any(atom.GetNumRadicalElectrons() or atom.GetTotalNumHs() for atom in mol.GetAtoms()), molecule.name
        assert len(Chem.GetMolFrags(mol)) == 1, molecule.name
        parameters = Chem.RemoveHsParameters()
        parameters.removeDefiningBondStereo = True
        bare = Chem.RemoveHs(mol, parameters)
        assert Chem.MolToSmiles(bare, isomericSmiles=False) == molecule.name


def test_the_set_can_be_read_as_a_file_of_samples(script: ModuleType, committed: list[Molecule]) -> None:
    molecules = read(script.OUTPUT)
    assert len(molecules) == len(committed) and molecules[0].name == "embedded_1"
    for found, expected in list(zip(molecules, committed, strict=True))[::1000]:
        assert found.numbers.tolist() == expected.numbers.tolist() and found.explicit_hydrogens
        assert found.positions is not None and expected.positions is not None
        np.testing.assert_allclose(found.positions, expected.positions, atol=1e-6)


def test_geometries_are_natural(script: ModuleType, committed: list[Molecule]) -> None:
    for molecule in random.Random(1).sample(committed, 500):
        assert script.natural(molecule), molecule.name
        assert molecule.positions is not None
        apart = np.linalg.norm(molecule.positions[:, None] - molecule.positions[None], axis=-1)
        apart[molecule.bonds[:, 0], molecule.bonds[:, 1]] = apart[molecule.bonds[:, 1], molecule.bonds[:, 0]] = np.inf
        np.fill_diagonal(apart, np.inf)
        assert apart.min() > 1.4, molecule.name  # nothing but bonded atoms is this close
        assert np.abs(molecule.positions.mean(0)).max() < 0.001


@pytest.mark.parametrize("smiles", ORDINARY)
def test_ordinary_molecules_are_in(names: set[str], smiles: str) -> None:
    assert canonical(smiles) in names


@pytest.mark.parametrize("smiles", ODD)
def test_odd_molecules_are_out(names: set[str], smiles: str) -> None:
    assert canonical(smiles) not in names


def test_natural_refuses_a_stretched_bond(script: ModuleType, committed: list[Molecule]) -> None:
    molecule = next(m for m in committed if m.name == "CCO")
    assert molecule.positions is not None
    molecule.positions[:] *= 1.3
    assert not script.natural(molecule)
