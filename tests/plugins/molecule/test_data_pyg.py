"""PyTorch Geometric in and out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.molecule_files import NAMED, block, raw_folder
from rdkit import Chem
from torch_geometric.data import Data
from torch_geometric.datasets import QM9

from unite_mm.errors import UsageError
from unite_mm_molecule.chemistry import canonical_smiles
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.pyg import dataset_from_pyg, from_pyg, to_pyg
from unite_mm_molecule.molecule import Molecule


def made(name: str) -> Molecule:
    return Molecule.from_rdkit(Chem.MolFromMolBlock(block(name), removeHs=False), name)


def expected(name: str) -> str:
    return canonical_smiles(Chem.MolFromSmiles(NAMED[name]))


@pytest.mark.parametrize("name", NAMED)
def test_round_trip(name: str) -> None:
    molecule = made(name)
    data = to_pyg(molecule)
    assert data.is_undirected() and data.num_nodes == molecule.size
    assert data.smiles == expected(name) and data.edge_attr.shape == (2 * len(molecule.bonds), 4)
    back = from_pyg(data)
    assert back.name == name and back.explicit_hydrogens
    for attribute in ("numbers", "charges", "bonds"):
        np.testing.assert_array_equal(getattr(back, attribute), getattr(molecule, attribute))
    assert back.positions is not None and molecule.positions is not None
    np.testing.assert_allclose(back.positions, molecule.positions, atol=1e-5)


def test_qm9_of_pyg_has_the_same_layout_and_can_be_trained_on(tmp_path: Path) -> None:
    raw_folder(tmp_path / "raw", [block(name) for name in NAMED])
    (tmp_path / "raw" / "gdb9.sdf.csv").write_text(
        "mol_id," + ",".join("abcdefghijklmnopqrs") + "\n" + f"m{',0.0' * 19}\n" * len(NAMED)
    )
    theirs = QM9(str(tmp_path))
    assert len(theirs) == len(NAMED)
    for data in theirs:
        ours = to_pyg(made(data.name))
        assert data.edge_index.equal(ours.edge_index) and data.z.equal(ours.z)
        assert data.edge_attr.equal(ours.edge_attr)
        assert canonical_smiles(from_pyg(data).to_rdkit()) == expected(data.name)  # charges found again
    trained_on = dataset_from_pyg(theirs, MoleculeConfig(), name="theirs")
    assert trained_on.card.kept == len(NAMED) and trained_on.card.name == "theirs"
    assert trained_on.batch("train", torch.arange(4)).registers.mask.shape[0] == 4


def test_bonds_are_found_from_the_geometry_where_there_are_none() -> None:
    for name in ("ethanol", "benzene", "nitrile"):
        data = to_pyg(made(name))
        assert canonical_smiles(from_pyg(Data(z=data.z, pos=data.pos, name=name)).to_rdkit()) == expected(name)


def test_orders_may_be_numbers_aromatic_or_in_one_direction() -> None:
    ring = Chem.MolFromSmiles("c1cc[nH]c1")
    full = Chem.AddHs(ring)
    edges = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in full.GetBonds()]
    orders = torch.tensor([b.GetBondTypeAsDouble() for b in full.GetBonds()])
    numbers = torch.tensor([a.GetAtomicNum() for a in full.GetAtoms()])
    for attributes in (orders, orders[:, None]):
        molecule = from_pyg(Data(z=numbers, edge_index=torch.tensor(edges).T, edge_attr=attributes))
        assert set(molecule.bonds[:, 2].tolist()) == {1, 2} and molecule.positions is None
        assert canonical_smiles(molecule.to_rdkit()) == expected("pyrrole")


def test_molecules_that_are_not_sound_have_no_smiles() -> None:
    broken = Molecule(np.array([8, 8, 8, 8]), np.zeros(4, dtype=np.int64), np.array([[0, 1, 1], [0, 2, 1], [0, 3, 1]]))
    assert "smiles" not in to_pyg(broken) and "pos" not in to_pyg(broken)


def test_plain_graphs_and_heavy_atoms_alone_can_be_trained_on() -> None:
    chains = [Chem.MolFromSmiles("C" * n) for n in range(2, 12)]
    graphs = [to_pyg(Molecule.from_rdkit(chain)) for chain in chains]
    graphs_only = dataset_from_pyg(graphs, MoleculeConfig(geometry=False, hydrogens="implicit"))
    assert sorted(key for s in ("train", "validation", "test") for key in graphs_only.smiles(s)) == sorted(
        "C" * n for n in range(2, 12)
    )
    assert graphs_only.card.notes == ("10 molecules were given the hydrogens they lacked.",)
    with_geometry = dataset_from_pyg(graphs[:4], MoleculeConfig())
    assert "4 molecules were given a geometry" in with_geometry.card.notes[1]


WRONG = [
    (Data(pos=torch.zeros(2, 3)), "PyG data: has no atomic numbers `z`"),
    (Data(z=torch.tensor([6]), name="bare"), "bare: has neither positions `pos` nor bonds"),
    (Data(z=torch.tensor([6, 6]), pos=torch.full((2, 3), torch.nan)), "PyG data: coordinates that are not finite"),
    (
        Data(z=torch.tensor([6, 6]), edge_index=torch.tensor([[0], [1]]), edge_attr=torch.tensor([5.0])),
        "PyG data: `edge_attr` (1,) is not a bond order for each of 1 edges",
    ),
]


@pytest.mark.parametrize(("data", "message"), WRONG, ids=[message for _, message in WRONG])
def test_data_that_is_no_molecule_is_refused(data: Data, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_pyg(data)
    assert caught.value.message.startswith(message)
    with pytest.raises(UsageError, match="holds no molecule"):
        dataset_from_pyg([], MoleculeConfig())


def test_one_bad_molecule_of_a_set_is_counted_and_left_out() -> None:
    good = [to_pyg(made(name)) for name in ("ethanol", "nitrile", "benzene")]
    bare = [Data(z=data.z, pos=data.pos) for data in good]
    ammonium = to_pyg(Molecule.from_rdkit(Chem.MolFromMolBlock(block("ion", "[NH4+]"), removeHs=False), "ion"))
    bad = {
        "no consistent bonds": Data(z=ammonium.z, pos=ammonium.pos),
        "coordinates that are not finite": Data(z=torch.tensor([6, 6]), pos=torch.full((2, 3), torch.nan)),
        "its atoms are no plausible distances": Data(z=good[0].z, pos=good[0].pos * 1.89),
        "has no atomic numbers": Data(pos=torch.zeros(2, 3)),
        "holds an element": Data(z=torch.tensor([34, 1, 1]), pos=torch.eye(3)),
        "cannot be read": Data(
            z=torch.tensor([6, 6]), edge_index=torch.tensor([[0], [5]]), edge_attr=torch.tensor([1.0])
        ),
        "`edge_attr`": Data(z=torch.tensor([6, 6]), edge_index=torch.tensor([[0], [1]]), edge_attr=torch.tensor([5.0])),
    }
    card = dataset_from_pyg([*bare, *bad.values()], MoleculeConfig(), workers=1).card
    assert (card.kept, card.read) == (3, 10) and sum(e.count for e in card.excluded) == 7
    assert all(any(e.reason.startswith(start) for e in card.excluded) for start in bad)


def test_hydrogens_are_decided_for_each_molecule_of_a_set() -> None:
    heavy = [to_pyg(Molecule.from_rdkit(Chem.MolFromSmiles("C" * n))) for n in range(1, 5)]
    for extra in ([], [to_pyg(made("water"))]):
        graphs = dataset_from_pyg([*heavy[1:], *extra], MoleculeConfig(geometry=False), workers=1)
        assert graphs.card.kept == 3 + len(extra)
    assert dataset_from_pyg(heavy, MoleculeConfig(geometry=False), workers=1).card.kept == 4
