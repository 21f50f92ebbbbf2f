"""Molecules that grow around a part: what a part is, which compositions have room, what is held, what is counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem

from tests.helpers.molecules_by_hand import from_smiles
from unite_mm.api import UNITE
from unite_mm.cli.main import run
from unite_mm.contract import PriorSample, SampleRequest
from unite_mm.errors import UsageError
from unite_mm.progress import Silent
from unite_mm.registry.build import build_network
from unite_mm_molecule.chemistry import sanitized
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.encode import arrange
from unite_mm_molecule.fragments.hosts import added_elements, grow
from unite_mm_molecule.fragments.part import Part
from unite_mm_molecule.metrics.fragments import contains, score_fragment
from unite_mm_molecule.modality import MoleculeModality
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.config import ModalityRun, RunConfig, SamplingConfig, TrunkConfig

ROWS = {
    "formula": (["H", "C", "N", "O", "F"], [[7, 8, 7, 0, 0, 0, 5], [8, 8, 7, 0, 1, 0, 5], [7, 14, 7, 0, 0, 0, 5],
                                            [8, 1, 7, 0, 1, 0, 5], [7, 5, 6, 0, 0, 1, 5], [6, 12, 6, 0, 0, 0, 5]]),
    "counts": (["heavy atoms", "hydrogens"], [[7, 7, 8, 5], [8, 8, 8, 5], [7, 7, 14, 5], [6, 6, 6, 5]]),
    "none": ([], [[7, 5], [8, 5], [6, 5]]),
}  # fmt: skip
EXPLICIT = [[15, 8, 7, 0, 0, 0, 5], [12, 5, 6, 0, 0, 1, 5], [12, 6, 6, 0, 0, 0, 5]]


def statistics(condition: str = "formula", rows: list[list[int]] | None = None) -> dict[str, Any]:
    names, usual = ROWS[condition]
    return {
        "elements": [1, 6, 7, 8, 9],
        "charges": [-1, 0, 1],
        "max_atoms": 15 if rows else 8,
        "position_scale": 1.4,
        "composition_names": names,
        "composition": rows or usual,
    }


def modality(hydrogens: str = "attached", **changes: Any) -> MoleculeModality:
    return MoleculeModality(MoleculeConfig(hydrogens=hydrogens, channels=4, decoder_depth=1, **changes), "qm9")  # type: ignore[arg-type]


def make_model(hydrogens: str = "attached", condition: str = "formula", **changes: Any) -> UNITE:
    """A small untrained model."""
    torch.manual_seed(0)
    own = {"qm9": modality(hydrogens, condition=condition, **changes)}
    facts = {"qm9": statistics(condition, EXPLICIT if hydrogens == "explicit" else None)}
    trunk = TrunkConfig(width=32, depth=2, heads=2, time_features=16)
    sampling = SamplingConfig(solver="euler", steps=4)
    config = RunConfig(modalities={"qm9": ModalityRun()}, trunk=trunk, sampling=sampling)
    return UNITE(build_network(config, own, facts).eval(), config, own, facts)


def read(given: Any, hydrogens: str = "attached", **changes: Any) -> Part:
    return modality(hydrogens, **changes).fragment(given, statistics()).native  # type: ignore[no-any-return]


def test_a_part_is_heavy_atoms_and_the_hydrogens_that_may_give_way(tmp_path: Path) -> None:
    file = tmp_path / "part.sdf"
    modality().write([from_smiles("CN")], file)
    for given in ("CN", Chem.MolFromSmiles("CN"), from_smiles("CN"), str(file)):
        part = read(given)
        assert part.heavy.numbers.tolist() == [6, 7] and part.hydrogens.tolist() == [3, 2]
        assert part.heavy.bonds.tolist() == [[0, 1, 1]]
    assert read("CN").heavy.positions is None and read(str(file)).heavy.positions is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "fragment: nothing given"),
        ("C1CC", "fragment 'C1CC' is not a SMILES"),
        ("xyz", "fragment 'xyz' is not a SMILES"),
        ("*C", "fragment unknown element"),
        ("CC(C)(C)(C)C", "not chemically sound: .* 5"),
        ("[CH2]C", "an atom is short of a hydrogen"),
        ("[Na]C", "element Na, but the model knows H, C, N, O, F"),
        ("C.O", "2 pieces"),
        ("FC(F)(F)F", "no atom has a hydrogen"),
        ("[H][H]", "holds no heavy atom"),
        ("CCCCCCCC", "takes 8 registers, and the largest training molecule has 8"),
        ("CCCCCCCCC", "9 atoms, but the model has room for 8"),
        ("none.sdf", "none.sdf: no such file"),
        (5, "a int, not a molecule"),
    ],
)
def test_what_is_no_part_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        read(given)
    assert len(error.value.message.splitlines()) == 1


def test_without_rdkit_there_are_no_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unite_mm_molecule.fragments.part.rdkit_installed", lambda: False)
    with pytest.raises(UsageError, match="fragments need RDKit"):
        read("CC")


@pytest.mark.parametrize(
    ("condition", "smiles", "expected"),
    [
        # Toluene, anisole and fluorobenzene hold a benzene ring; C7H14 is too saturated, C7HO has lost too much.
        ("formula", "c1ccccc1", {(7, 8, 7, 0, 0, 0), (8, 8, 7, 0, 1, 0), (7, 5, 6, 0, 0, 1)}),
        ("formula", "CO", {(8, 8, 7, 0, 1, 0), (8, 1, 7, 0, 1, 0)}),
        ("counts", "c1ccccc1", {(7, 7, 8), (8, 8, 8)}),
        ("none", "c1ccccc1", {(7,), (8,)}),
    ],
)
def test_the_prior_has_room_for_the_part(condition: str, smiles: str, expected: set[tuple[int, ...]]) -> None:
    own, facts = modality(condition=condition), statistics(condition)
    fragment, modules = own.fragment(smiles, facts), own.build_modules(facts, 32)
    found = set()
    for seed in range(60):
        drawn = modules.prior_for(torch.Generator().manual_seed(seed), SampleRequest(fragment=fragment))
        counts = [] if drawn.condition is None else map(int, drawn.condition.tolist())
        found.add((int(drawn.mask.sum()), *counts))
    assert found == expected


def test_no_room_is_an_error() -> None:
    own, facts = modality(condition="formula"), statistics()
    request = SampleRequest(fragment=own.fragment("NCCN", facts))
    with pytest.raises(UsageError, match="no training molecule has room for the fragment NCCN"):
        own.build_modules(facts, 32).prior_for(torch.Generator(), request)


def test_what_is_added_follows_the_condition() -> None:
    own = modality(condition="formula")
    part, prior = read("c1ccccc1"), PriorSample(torch.ones(8, dtype=torch.bool), torch.tensor([8.0, 7, 0, 1, 0]))
    assert added_elements(part, prior, statistics(), own.config, 6) == [6, 8]
    counts = PriorSample(prior.mask, torch.tensor([8.0, 8.0]))
    assert added_elements(part, counts, statistics("counts"), own.config, 6) == [6, 6]
    assert added_elements(part, PriorSample(prior.mask), statistics("none"), own.config, 6) == [6, 6]


@pytest.mark.parametrize("smiles", ["C", "c1ccccc1", "NC=O", "CC[NH3+]", "OC1CC1"])
@pytest.mark.parametrize("added", [[6], [6, 8], [9, 7, 6], [6, 6, 6, 6, 9, 9]], ids=str)
def test_a_host_is_a_sound_molecule_that_contains_the_part(smiles: str, added: list[int]) -> None:
    part = read(smiles)
    for seed in range(10):
        host, heavy = grow(part, added, torch.Generator().manual_seed(seed))
        mol = sanitized(host)
        assert mol.GetNumAtoms() == part.heavy.size + len(added) and len(Chem.GetMolFrags(mol)) == 1
        assert host.numbers[heavy].tolist() == part.heavy.numbers.tolist()
        own = [[heavy.index(a), heavy.index(b)] for a, b, _ in host.bonds.tolist() if a in heavy and b in heavy]
        assert sorted(map(sorted, own)) == sorted(part.heavy.bonds[:, :2].tolist())
        assert contains(host, part.heavy)
        assert sorted(host.numbers.tolist()) == sorted([*part.heavy.numbers.tolist(), *added])


@pytest.mark.parametrize(
    ("hydrogens", "condition", "geometry"),
    [
        ("attached", "formula", True),
        ("attached", "none", True),
        ("attached", "counts", False),
        ("implicit", "formula", True),
        ("implicit", "counts", False),
        ("explicit", "formula", True),
    ],
)
def test_heavy_atoms_of_the_part_are_held(hydrogens: str, condition: str, geometry: bool) -> None:
    model = make_model(hydrogens, condition, geometry=geometry)
    own, facts = model.modalities["qm9"], model.statistics["qm9"]
    fragment, modules = own.fragment("c1ccccc1", facts), model.modules_of("qm9")
    assert fragment.registers == (11 if hydrogens == "explicit" else 6)
    streams = [torch.Generator().manual_seed(seed) for seed in range(4)]
    priors = [modules.prior_for(stream, SampleRequest(fragment=fragment)) for stream in streams]
    held = own.hold(fragment, priors, streams, facts)
    for row, types, bonds, prior in zip(held.mask, held.batch.types, held.batch.bonds, priors, strict=True):  # type: ignore[attr-defined]
        assert [facts["elements"][kind] for kind in types[row].tolist()] == [6] * 6
        assert sorted(bonds[row][:, row].sum(1).tolist()) == [3] * 6
        assert int(row.nonzero().max()) < int(prior.mask.sum())
    assert bool(held.batch.positions.any()) == geometry  # type: ignore[attr-defined]


def test_a_given_geometry_is_held_up_to_rotation() -> None:
    own, facts = modality(condition="formula"), statistics()
    given = from_smiles("OC1CC1")
    fragment = own.fragment(given, facts)
    priors = [PriorSample(torch.arange(8) < 6, torch.tensor([10.0, 4, 0, 2, 0]))] * 3
    held = own.hold(fragment, priors, [torch.Generator().manual_seed(seed) for seed in range(3)], facts)
    assert given.positions is not None
    heavy = given.positions[given.numbers != 1]
    wanted = np.linalg.norm(heavy[:, None] - heavy[None], axis=-1)
    places = []
    for row, positions in zip(held.mask, held.batch.positions, strict=True):  # type: ignore[attr-defined]
        found = positions[row].double() * facts["position_scale"]
        assert np.allclose(torch.cdist(found, found), wanted, atol=1e-4)
        places.append(found - found.mean(0))
    assert not torch.allclose(places[0], places[1], atol=0.1)


@pytest.mark.parametrize("hydrogens", ["attached", "implicit", "explicit"])
def test_samples_around_a_part_depend_on_no_batch_mate(hydrogens: str) -> None:
    model = make_model(hydrogens)
    whole = model.generate(5, seed=3, fragment="c1ccccc1", hold_until=0.9)
    small = model.generate(5, seed=3, fragment="c1ccccc1", hold_until=0.9, batch_size=1)
    for one, other in zip(whole, small, strict=True):
        assert one.numbers.tolist() == other.numbers.tolist()
        assert np.allclose(one.positions, other.positions, atol=1e-3)
    assert whole.score is not None and whole.score.kind == "fragment"
    assert {len(arrange([one], MoleculeConfig(hydrogens="implicit"))[0].numbers) for one in whole} <= set(range(16))


@pytest.mark.parametrize(
    ("molecule", "part", "expected"),
    [
        ("Cc1ccccc1", "c1ccccc1", True),
        ("Cc1ccccc1", "C1CCCCC1", False),
        ("CC(=O)O", "C=O", True),
        ("CCO", "C=O", False),
        ("C[NH3+]", "CN", False),
        ("CN", "CN", True),
        ("[NH3+]CC(=O)[O-]", "C[NH3+]", True),
        ("NCC[NH3+]", "CN", True),
        ("CCN", "C[NH3+]", False),
        ("CCC", "C1CC1", False),
    ],
)
def test_whether_a_molecule_contains_a_part(molecule: str, part: str, expected: bool) -> None:
    heavy = read(part).heavy
    for explicit in (True, False):
        assert contains(from_smiles(molecule, explicit), heavy) is expected


def test_the_score_counts_valid_samples_and_those_that_keep_the_part() -> None:
    part = read("CO").heavy
    whole = from_smiles("CCO")
    broken = Molecule(whole.numbers, whole.charges, np.vstack([whole.bonds, [[0, 2, 3]]]), whole.positions)
    pieces = Molecule(whole.numbers, whole.charges, whole.bonds[1:], whole.positions)
    samples = [whole, from_smiles("CCO"), from_smiles("CO"), from_smiles("CC"), broken, pieces, Molecule.flawed("x")]
    found = {m.name: (m.count, m.total) for m in score_fragment(samples, part, Silent(), 1).metrics}
    assert found == {
        "validity": (4, 7),
        "fragment_kept": (4, 7),
        "fragment_kept_of_valid": (3, 4),
        "valid_fragment": (3, 7),
        "fragment_unique": (2, 3),
    }


def test_the_command_grows_around_a_smiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "run", tmp_path / "grown.sdf"
    line = ["train", "--modality", "qm9", "--data", "embedded", "--preset", "tiny", "--max-steps", "1"]
    small = [
        "--set",
        "trunk.width=32",
        "--set",
        "trunk.depth=1",
        "--set",
        "trunk.heads=2",
        "--set",
        "train.compile=false",
    ]
    assert run([*line, *small, "--set", "train.devices=1", "--out", str(folder)]) == 0
    capsys.readouterr()
    sample = ["sample", str(folder), "-n", "5", "-o", str(out), "--steps", "2"]
    assert run([*sample, "--fragment", "CO", "--added", "2"]) == 0
    shown = capsys.readouterr().out
    assert "contain the fragment" in shown and "valid (strict)" in shown and "/ 5" in shown
    grown = modality().read(out)
    assert [int((one.numbers != 1).sum()) for one in grown] == [4] * 5
    assert run([*sample, "--fragment", "nonsense"]) == 2
    assert "error: fragment 'nonsense' is not a SMILES" in capsys.readouterr().err
