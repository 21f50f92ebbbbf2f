"""Pictures: real ones of everything a model can produce, differences and invalid molecules in red."""

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
    from_smiles,
    star,
)
from PIL import Image

from unite_mm.errors import UniteError
from unite_mm_molecule.files.pictures import pair_panels, sample_panel, save_pairs_picture, save_picture
from unite_mm_molecule.molecule import Molecule

RED = (204, 36, 29)
HIGHLIGHT = (255, 158, 140)


def colours(path, close_to, tolerance=2):
    """Pixels of a colour in the picture."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - np.array(close_to)).max(axis=-1) <= tolerance).sum())


def test_a_grid_of_valid_molecules_has_nothing_red(tmp_path):
    path = tmp_path / "folder" / "a.png"
    save_picture([from_smiles("CCF"), METHANE, from_smiles("C1CC1")], path)
    assert Image.open(path).size == (3 * 288 + 8, 248 + 8)
    assert colours(path, RED) == 0 and colours(path, HIGHLIGHT) == 0


def test_invalid_molecules_have_a_red_frame_and_marked_atoms(tmp_path):
    path = tmp_path / "a.png"
    save_picture([METHANE, FIVE_BONDS], path)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    middle = 8 + 240 // 2
    assert tuple(pixels[middle, 8]) != RED and tuple(pixels[middle, 8 + 288]) == RED
    assert colours(path, HIGHLIGHT) > 50


ODD = [by_hand(""), METHYL, NITRO_FIVE_BONDS, TWO_WATERS, AMMONIUM, HYDROGEN, by_hand("H"), GLYCINE]
IMPLICIT_ODD = [star("C", "C C C C C", explicit=False), by_hand("C N", explicit=False)]


def test_anything_can_be_shown(tmp_path):
    save_picture([*ODD, *IMPLICIT_ODD], tmp_path / "a.png")
    save_pairs_picture([*ODD, *IMPLICIT_ODD], [*reversed(ODD), *reversed(IMPLICIT_ODD)], tmp_path / "b.png")
    assert Image.open(tmp_path / "a.png").size == (6 * 288 + 8, 2 * 248 + 8)
    assert Image.open(tmp_path / "b.png").size == (4 * 288 + 8, 5 * 248 + 8)


def test_no_more_than_asked_for(tmp_path):
    save_picture([METHANE] * 30, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size[1] == 4 * 248 + 8


def test_a_perfect_pair_has_no_mark(tmp_path):
    fluoroethane = from_smiles("CCF")
    save_pairs_picture([fluoroethane], [fluoroethane], tmp_path / "a.png")
    assert colours(tmp_path / "a.png", HIGHLIGHT) == 0 and colours(tmp_path / "a.png", RED) == 0


def test_wrong_atoms_and_bonds_are_marked_on_both_sides(tmp_path):
    fluoroethane = from_smiles("CCF")
    numbers = fluoroethane.numbers.copy()
    numbers[0] = 7
    bonds = fluoroethane.bonds.copy()
    bonds[1, 2] = 2
    for index, wrong in enumerate([replace(fluoroethane, numbers=numbers), replace(fluoroethane, bonds=bonds)]):
        path = tmp_path / f"{index}.png"
        save_pairs_picture([fluoroethane], [wrong], path)
        picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
        marked = np.abs(picture - np.array(HIGHLIGHT)).max(axis=-1) <= 2
        assert marked[:, :280].sum() > 50 and marked[:, 288:].sum() > 50


def closest(molecule):
    """Smallest distance of two atoms in a layout, in lengths of its median bond."""
    places = molecule.GetConformer().GetPositions()[:, :2]
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    bonds = [distances[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] for bond in molecule.GetBonds()]
    return distances[~np.eye(len(places), dtype=bool)].min() / np.median(bonds)


@pytest.mark.parametrize("smiles", ["CNC12CC(CC1=O)O2", "O=CC1C2NC1C1NC21", "CC12CC(CC1C#N)O2", "CC12CC3OC1C32C=O"])
def test_atoms_of_cages_do_not_lie_on_each_other(smiles):
    """RDKit's own layout without ring templates puts two atoms of each of these within 0.4 bond lengths."""
    molecule = from_smiles(smiles)
    assert closest(sample_panel(molecule).molecule) > 0.4


def test_a_faithful_copy_of_an_invalid_molecule_is_said_to_be_one():
    _, right = pair_panels(FIVE_BONDS, FIVE_BONDS)
    assert right.wrong and right.legend.startswith("same, but invalid") and right.atoms == ()


def test_a_lost_atom_is_said(tmp_path):
    save_pairs_picture([METHANE], [METHYL], tmp_path / "a.png")
    assert colours(tmp_path / "a.png", RED) > 0


def test_nothing_to_show_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no molecules to show"):
        save_picture([], tmp_path / "a.png")
    with pytest.raises(ValueError, match="cannot show 1 inputs beside 0"):
        save_pairs_picture([METHANE], [], tmp_path / "a.png")


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UniteError, match="cannot be written"):
        save_picture([METHANE], tmp_path / "file" / "a.png")


@pytest.mark.parametrize("seed", [13, 14, 17])
def test_what_rdkit_cannot_lay_out_is_shown_on_a_circle(seed, tmp_path):
    """Untrained models bond nearly all atoms with each other; RDKit's layout of these puts atoms on one place."""
    random = np.random.default_rng(seed)
    pairs = [(i, j, int(random.integers(1, 4))) for i in range(20) for j in range(i + 1, 20) if random.random() < 0.9]
    molecule = Molecule(random.choice([1, 6, 7, 8, 9], 20), np.zeros(20, dtype=np.int64), np.array(pairs))
    save_picture([molecule], tmp_path / "dense.png")
    assert colours(tmp_path / "dense.png", RED) > 0
