"""What may be asked of a molecule to generate: its number of atoms, some of its counts, how compositions are drawn."""

from typing import Any

import pytest
import torch

from unite_mm.contract import SampleRequest
from unite_mm.errors import UsageError
from unite_mm_molecule.config import MoleculeConfig, MoleculeSampling
from unite_mm_molecule.data.encode import encode
from unite_mm_molecule.modality import MoleculeModality
from unite_mm_molecule.model.modules import MoleculeModules

STATISTICS: dict[str, Any] = {
    "elements": [1, 6],
    "charges": [0],
    "position_scale": 1.0,
    "max_atoms": 8,
    "composition_names": ["heavy atoms", "hydrogens"],
    "composition": [[5, 1, 4, 1], [8, 2, 6, 97], [6, 2, 4, 2]],  # registers, counts, molecules
}


@pytest.fixture
def modules() -> MoleculeModules:
    modality = MoleculeModality(MoleculeConfig(channels=4, decoder_depth=1), "qm9")
    return modality.build_modules(STATISTICS, 32)


def draws(modules: MoleculeModules, count: int = 300, **asked: Any) -> set[tuple[int, ...]]:
    """(atoms, heavy atoms, hydrogens) of the samples drawn."""
    found = set()
    for seed in range(count):
        sample = modules.prior_for(torch.Generator().manual_seed(seed), SampleRequest(**asked))
        assert sample.condition is not None
        found.add((int(sample.mask.sum()), *map(int, sample.condition.tolist())))
    return found


def counts(heavy: float, hydrogens: float) -> torch.Tensor:
    return torch.tensor([heavy, hydrogens])


OPEN = float("nan")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {(5, 1, 4), (8, 2, 6), (6, 2, 4)}),
        ({"size": 6}, {(6, 2, 4)}),
        ({"condition": counts(2, OPEN)}, {(8, 2, 6), (6, 2, 4)}),
        ({"condition": counts(OPEN, 4)}, {(5, 1, 4), (6, 2, 4)}),
        ({"condition": counts(OPEN, 4), "size": 5}, {(5, 1, 4)}),
        ({"condition": counts(2, 6)}, {(8, 2, 6)}),
        ({"condition": counts(OPEN, OPEN)}, {(5, 1, 4), (8, 2, 6), (6, 2, 4)}),
    ],
)
def test_what_is_asked_for_is_kept_and_the_rest_is_drawn(
    modules: MoleculeModules, asked: dict[str, Any], expected: set[tuple[int, ...]]
) -> None:
    assert draws(modules, **asked) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"size": 7}, "no training molecule has size 7"),
        ({"condition": counts(3, OPEN)}, "no training molecule has 3 heavy atoms"),
        ({"condition": counts(1.5, 4)}, "no training molecule has 1.5 heavy atoms, 4 hydrogens"),
        ({"condition": counts(1, 4), "size": 8}, "1 heavy atoms, 4 hydrogens, size 8"),
    ],
)
def test_what_no_training_molecule_has_is_refused(
    modules: MoleculeModules, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        draws(modules, 1, **asked)


def test_compositions_are_drawn_as_often_as_in_training_or_equally(modules: MoleculeModules) -> None:
    def rare(options: MoleculeSampling) -> int:
        request = SampleRequest(options=options)
        seeds = (torch.Generator().manual_seed(seed) for seed in range(300))
        return sum(int(modules.prior_for(seed, request).mask.sum()) == 5 for seed in seeds)

    assert rare(MoleculeSampling()) < 15
    assert 60 < rare(MoleculeSampling(compositions="uniform")) < 140


def test_sizes_are_those_of_training_molecules(modules: MoleculeModules) -> None:
    assert modules.sizes == (5, 8)


@pytest.mark.parametrize("hydrogens", ["explicit", "implicit", "attached"])
@pytest.mark.parametrize(
    ("condition", "names", "expected"),
    [
        ("formula", ["H", "C", "N", "O"], [5, 2, 1, 1]),
        ("counts", ["heavy atoms", "hydrogens"], [4, 5]),
        ("none", [], None),
    ],
)
def test_counts_are_known_of_a_molecule_at_hand(
    condition: str, names: list[str], expected: list[int] | None, hydrogens: Any
) -> None:
    config = MoleculeConfig(condition=condition, hydrogens=hydrogens)
    statistics = {"elements": [1, 6, 7, 8], "charges": [0], "max_atoms": 9, "position_scale": 1.0}
    batch = encode(["CC(N)=O"], statistics | {"composition_names": names}, config, "qm9")
    assert (None if batch.condition is None else batch.condition.tolist()[0]) == expected
    told = {"composition_names": names, "properties": {"names": ["gap"]}}
    batch = encode(["CC(N)=O"], statistics | told, config, "qm9")
    assert batch.condition is not None
    assert batch.condition[0, :-1].tolist() == (expected or []) and bool(batch.condition[0, -1].isnan())
