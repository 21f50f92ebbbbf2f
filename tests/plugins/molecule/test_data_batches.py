"""From prepared molecules to batches: augmentation, order of atoms, hydrogens, statistics, encoding."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.molecule_files import NAMED, block, named_sdf, sdf
from rdkit import Chem

from unite_mm.contract import DataRequest, Registers
from unite_mm.errors import UsageError
from unite_mm_molecule.chemistry import canonical_smiles
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch, random_rotations
from unite_mm_molecule.data.dataset import MoleculeData, open_data
from unite_mm_molecule.data.encode import arrange, encode
from unite_mm_molecule.flat import FlatMolecules
from unite_mm_molecule.molecule import Molecule

SETTINGS: list[dict[str, Any]] = [
    {},
    {"atom_order": "source"},
    {"hydrogens": "implicit"},
    {"geometry": False},
    {"hydrogens": "implicit", "geometry": False},
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "own.sdf"
    path.write_text(named_sdf())
    return path


def opened(source: Path, **settings: Any) -> MoleculeData:
    return open_data(DataRequest(str(source), source.parent / "cache", workers=1), MoleculeConfig(**settings), "qm9")


def everything(data: MoleculeData, split: str = "train", generator: torch.Generator | None = None) -> MoleculeBatch:
    return data.batch(split, torch.arange(data.size(split)), generator)


def decoded(batch: MoleculeBatch, data: MoleculeData) -> list[Molecule]:
    """The molecules that a perfect decoder would give back for a batch."""
    result = []
    for row, size in enumerate(batch.registers.mask.sum(1).tolist()):
        orders = torch.triu(batch.bonds[row, :size, :size])
        begin, end = orders.nonzero(as_tuple=True)
        result.append(
            Molecule(
                numbers=np.array(data.statistics["elements"])[batch.types[row, :size].numpy()],
                charges=np.array(data.statistics["charges"])[batch.charges[row, :size].numpy()],
                bonds=torch.stack([begin, end, orders[begin, end]], 1).numpy(),
                positions=batch.positions[row, :size].double().numpy() * data.statistics["position_scale"],
                explicit_hydrogens=data.config.hydrogens == "explicit",
            )
        )
    return result


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_batch_holds_exactly_the_molecules_of_the_source(source: Path, settings: dict[str, Any]) -> None:
    data = opened(source, **settings)
    for split in ("train", "validation", "test"):
        batch = everything(data, split, torch.Generator().manual_seed(1))
        assert [canonical_smiles(m.to_rdkit()) for m in decoded(batch, data)] == data.smiles(split)
        samples = data.samples(split, torch.arange(data.size(split)))
        assert [canonical_smiles(m.to_rdkit()) for m in samples] == data.smiles(split)
        assert data.lengths(split).tolist() == [m.size for m in samples] == batch.registers.mask.sum(1).tolist()
        assert batch.bonds.equal(batch.bonds.transpose(1, 2))
        unused = ~batch.registers.mask
        assert not batch.types[unused].any() and not batch.positions[unused].any() and not batch.bonds[unused].any()
        assert all((m.positions is not None) == data.config.geometry for m in samples)
    assert data.config.geometry or not everything(data, generator=torch.Generator()).positions.any()


def test_grouped_order_puts_hydrogens_behind_their_atom_and_implicit_order_keeps_heavy_atoms(source: Path) -> None:
    grouped, plain, heavy = (opened(source, **s) for s in ({}, {"atom_order": "source"}, {"hydrogens": "implicit"}))
    for index in range(plain.size("train")):
        one, other, bare = (data.samples("train", torch.tensor([index]))[0] for data in (grouped, plain, heavy))
        assert sorted(one.numbers.tolist()) == sorted(other.numbers.tolist())
        owner = -1
        for atom, number in enumerate(one.numbers.tolist()):
            partners = [b if a == atom else a for a, b, _ in one.bonds.tolist() if atom in (a, b)]
            if number != 1:
                owner = atom
            elif owner >= 0:
                assert partners == [owner]
        assert one.numbers[one.numbers != 1].tolist() == other.numbers[other.numbers != 1].tolist()
        if (other.numbers != 1).any():
            assert bare.numbers.tolist() == other.numbers[other.numbers != 1].tolist()
            assert (bare.bonds[:, :2] < bare.size).all() and (bare.bonds[:, 0] < bare.bonds[:, 1]).all()


def test_hydrogens_without_a_heavy_neighbour_stay(source: Path) -> None:
    data = opened(source, hydrogens="implicit")
    assert "[H][H]" in data.smiles("train") + data.smiles("validation") + data.smiles("test")
    assert data.statistics["elements"] == [1, 6, 7, 8, 9]
    bridged = Molecule(  # B2H6: the two bridging hydrogens have two bonds each
        numbers=np.array([5, 5, 1, 1, 1, 1, 1, 1]),
        charges=np.zeros(8, dtype=np.int64),
        bonds=np.array([[0, 2, 1], [1, 2, 1], [0, 3, 1], [1, 3, 1], [0, 4, 1], [0, 5, 1], [1, 6, 1], [1, 7, 1]]),
    )
    bare = FlatMolecules.from_molecules([bridged]).without_hydrogens().molecule(0)
    assert bare.numbers.tolist() == [5, 5, 1, 1] and len(bare.bonds) == 4


def test_positions_are_centred_scaled_rotated_and_shifted(source: Path) -> None:
    data = opened(source, translation=0.0)
    still, turned = everything(data), everything(data, generator=torch.Generator().manual_seed(0))
    counts = still.registers.mask.sum(1)
    for batch in (still, turned):
        torch.testing.assert_close(
            batch.positions.sum(1) / counts[:, None], torch.zeros(len(counts), 3), atol=1e-6, rtol=0
        )
    coordinates = still.positions[still.registers.mask]
    assert float(coordinates.square().mean()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(
        torch.cdist(still.positions, still.positions),
        torch.cdist(turned.positions, turned.positions),
        atol=1e-4,
        rtol=0,
    )
    assert (still.positions - turned.positions).abs().max() > 0.1
    volumes = [p[:, 1:4] - p[:, :1] for p in (still.positions, turned.positions)]  # handedness of four atoms
    torch.testing.assert_close(torch.linalg.det(volumes[0]), torch.linalg.det(volumes[1]), atol=1e-4, rtol=0)
    shifted = everything(opened(source, translation=0.5), generator=torch.Generator().manual_seed(0))
    means = shifted.positions.sum(1) / counts[:, None]
    assert 0.2 < float(means.std()) < 0.9
    sample = data.samples("train", torch.tensor([0]))[0]
    assert sample.positions is not None
    distances = torch.pdist(torch.from_numpy(sample.positions)) / data.statistics["position_scale"]
    size = int(counts[0])
    torch.testing.assert_close(torch.pdist(turned.positions[0, :size]).double(), distances, atol=1e-4, rtol=0)


def test_rotations_are_uniform_and_proper() -> None:
    rotations = random_rotations(20_000, torch.Generator().manual_seed(0))
    unit = torch.eye(3).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.transpose(1, 2), unit, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(20_000), atol=1e-5, rtol=0)
    # Moments of the uniform distribution over rotations: E[R] = 0, E[R_ij^2] = 1/3, E[trace^2] = 1; five sigma.
    assert rotations.mean(0).abs().max() < 5 * (1 / 3 / 20_000) ** 0.5
    assert (rotations.square().mean(0) - 1 / 3).abs().max() < 5 * (0.2 - 1 / 9) ** 0.5 / 20_000**0.5
    assert abs(float(rotations.diagonal(dim1=1, dim2=2).sum(1).square().mean()) - 1) < 0.06


def test_batches_follow_their_generator_and_not_their_company(source: Path) -> None:
    data = opened(source)
    first, second = (everything(data, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.positions.equal(second.positions)
    assert not first.positions.equal(everything(data, generator=torch.Generator().manual_seed(4)).positions)
    together = everything(data)
    for index in range(data.size("train")):
        alone = data.batch("train", torch.tensor([index]))
        size = alone.types.shape[1]
        assert not alone.registers.padded
        assert alone.types[0].equal(together.types[index, :size])
        assert alone.charges[0].equal(together.charges[index, :size])
        assert alone.positions[0].equal(together.positions[index, :size])
        assert alone.bonds[0].equal(together.bonds[index, :size, :size])
    order = torch.tensor([4, 0, 4])
    assert [m.name for m in data.samples("train", order)] == [
        data.samples("train", torch.tensor([i]))[0].name for i in order.tolist()
    ]
    assert isinstance(together.to(torch.device("cpu")).registers, Registers)


def test_statistics_describe_the_data(tmp_path: Path) -> None:
    path = tmp_path / "two.sdf"
    path.write_text(sdf([block("methane")] * 3 + [block("zwitterion")] * 2))  # no split has room for duplicates
    facts = opened(path).statistics
    assert facts["elements"] == [1, 6, 7, 8] and facts["charges"] == [-1, 0, 1]
    assert facts["composition"] == [[5, 1, 4, 3], [10, 5, 5, 2]]
    assert facts["max_atoms"] == 10 and facts["molecules"] == 5
    heavy = opened(path, hydrogens="implicit").statistics
    assert heavy["elements"] == [6, 7, 8] and heavy["composition"] == [[1, 1, 4, 3], [5, 5, 5, 2]]
    for settings in ({}, {"hydrogens": "implicit"}):
        batch = opened(path, **settings).batch("train", torch.tensor([4, 0]))
        assert batch.condition is not None and batch.condition.tolist() == [[5, 5], [1, 4]]
    formula = opened(path, hydrogens="implicit", condition="formula")
    assert formula.statistics["composition_names"] == ["H", "C", "N", "O"]
    assert formula.statistics["composition"] == [[1, 4, 1, 0, 0, 3], [5, 5, 2, 1, 2, 2]]
    told = formula.batch("train", torch.tensor([4, 0])).condition
    assert told is not None and told.tolist() == [[5, 2, 1, 2], [4, 1, 0, 0]]
    untold = opened(path, condition="none")
    assert untold.statistics["composition"] == [[5, 3], [10, 2]]
    assert untold.batch("train", torch.tensor([0])).condition is None
    centred = [m.positions - m.positions.mean(0) for m in opened(path).samples("train", torch.arange(5))]
    assert facts["position_scale"] == pytest.approx(np.sqrt(np.mean(np.concatenate(centred) ** 2)), rel=1e-5)
    assert opened(path, geometry=False).statistics["position_scale"] == 1.0


def test_molecules_above_max_atoms_are_left_out_and_counted(source: Path) -> None:
    data = opened(source, max_atoms=9)
    excluded = data.card.excluded[-1]
    assert excluded.reason == "more than max_atoms=9 atoms"
    assert set(excluded.examples) == {"benzene: 12 atoms", "pyrrole: 10 atoms", "zwitterion: 10 atoms"}
    assert data.card.kept + excluded.count == data.card.read == len(NAMED)
    assert sum(data.card.splits.values()) == data.card.kept == sum(data.size(s) for s in data.card.splits)
    assert data.statistics["max_atoms"] == 9 and data.card.split_hash != opened(source).card.split_hash
    assert opened(source, hydrogens="implicit", max_atoms=9).card.kept == len(NAMED)
    with pytest.raises(UsageError, match="no molecule is left for training"):
        opened(source, max_atoms=1)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_encoding_samples_gives_the_batch_of_the_data(source: Path, settings: dict[str, Any]) -> None:
    data = opened(source, **settings)
    samples = data.samples("train", torch.arange(data.size("train")))
    batch, expected = encode(samples, data.statistics, data.config, "qm9"), everything(data)
    assert batch.types.equal(expected.types) and batch.charges.equal(expected.charges)
    assert batch.bonds.equal(expected.bonds) and batch.registers.mask.equal(expected.registers.mask)
    torch.testing.assert_close(batch.positions, expected.positions, atol=1e-6, rtol=0)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_foreign_molecules_are_arranged_as_the_model_sees_them(source: Path, settings: dict[str, Any]) -> None:
    data = opened(source, **settings)
    foreign = Chem.AddHs(Chem.MolFromSmiles("OCC"))
    order = np.random.default_rng(0).permutation(foreign.GetNumAtoms()).tolist()
    mixed = replace(Molecule.from_rdkit(Chem.RenumberAtoms(foreign, order)), positions=np.random.rand(9, 3))
    arranged = arrange([mixed], data.config)
    assert canonical_smiles(arranged[0].to_rdkit()) == "CCO"
    again = arrange(arranged, data.config)[0]
    assert again.numbers.tolist() == arranged[0].numbers.tolist() and again.bonds.tolist() == arranged[0].bonds.tolist()
    batch = encode([mixed], data.statistics, data.config, "qm9")
    assert [canonical_smiles(m.to_rdkit()) for m in decoded(batch, data)] == ["CCO"]


def test_implicit_hydrogens_are_supplied_to_a_model_that_wants_them(source: Path) -> None:
    data = opened(source, geometry=False)
    bare = Molecule.from_rdkit(Chem.MolFromSmiles("CCO"))
    assert not bare.explicit_hydrogens
    assert encode([bare], data.statistics, data.config, "qm9").registers.mask.sum() == 9
    overfull = replace(bare, bonds=np.array([[0, 1, 3], [1, 2, 3]]), name="odd")
    with pytest.raises(UsageError, match=r"^odd: its missing hydrogens cannot be added: "):
        encode([overfull], data.statistics, data.config, "qm9")


def molecule(smiles: str, name: str = "mine") -> Molecule:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    return replace(
        Molecule.from_rdkit(mol, name), positions=np.random.default_rng(0).normal(size=(mol.GetNumAtoms(), 3))
    )


UNFIT = [
    (lambda: molecule("CCCCCCCCCC"), "mine: 32 atoms, but the model has room for 12"),
    (lambda: molecule("CCl"), "mine: element Cl, but the model knows H, C, N, O, F"),
    (lambda: molecule("[Mg+2]"), "mine: element Mg, but the model knows H, C, N, O, F"),
    (lambda: molecule("[O-2]"), "mine: an atom of charge -2, but the model knows -1, 0, +1"),
    (lambda: replace(molecule("CC"), positions=None), "mine: no 3D coordinates"),
    (lambda: replace(molecule("CC"), positions=np.full((8, 3), np.nan)), "mine: no 3D coordinates"),
    (
        lambda: Molecule(*(np.empty(0, dtype=np.int64),) * 2, np.empty((0, 3), dtype=np.int64)),
        "molecule 2: holds no atom",
    ),
]


@pytest.mark.parametrize(("make", "message"), UNFIT, ids=[message for _, message in UNFIT])
def test_samples_that_do_not_fit_are_named(source: Path, make: Any, message: str) -> None:
    data = opened(source)
    with pytest.raises(UsageError) as caught:
        encode([molecule("CC", "fine"), make()], data.statistics, data.config, "qm9")
    assert caught.value.message.startswith(message)
    with pytest.raises(UsageError, match="no molecule"):
        encode([], data.statistics, data.config, "qm9")
