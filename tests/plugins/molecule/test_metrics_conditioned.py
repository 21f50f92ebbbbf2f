"""Properties of generated molecules against those asked for: the regressor, GFN2-xTB, the score, the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.molecule_files import NAMED, block, property_table, raw_folder

from unite_mm.cli.main import run
from unite_mm.contract import DataRequest
from unite_mm.kit.cache import PluginCache
from unite_mm.progress import Silent
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.dataset import MoleculeData
from unite_mm_molecule.data.prepare import open_prepared
from unite_mm_molecule.metrics import conditioned
from unite_mm_molecule.metrics import regressor as regressor_module
from unite_mm_molecule.metrics.conditioned import held_out_conditions, score_conditioned, xtb_gap_and_dipole
from unite_mm_molecule.metrics.regressor import Regressor, train_regressor
from unite_mm_molecule.molecule import Molecule
from unite_mm_molecule.properties import NAMES
from unite_mm_schemas.metrics import Score

TINY = ["--preset", "tiny-explicit", "--set", "qm9.decoder_width=32", "--set", "trunk.width=32",
        "--set", "trunk.depth=2", "--set", "trunk.heads=2", "--set", "train.batch_size=4"]  # fmt: skip


def config(**settings: Any) -> MoleculeConfig:
    return MoleculeConfig(condition="formula,gap,H", metrics={"conditioned": 60}, **settings)


@pytest.fixture(scope="module")
def data(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> MoleculeData:
    """Embedded molecules with two made-up properties: one of composition and extent, one of functional groups."""
    prepared = open_prepared(DataRequest("embedded", shared_cache, workers=1), config(), "qm9")
    request = DataRequest("embedded", tmp_path_factory.mktemp("cache"), workers=1)
    flat = prepared.molecules
    values = np.full((len(flat), len(NAMES)), np.nan)
    centred = flat.centred_positions()
    extent = np.sqrt(np.bincount(flat.atom_owner, np.square(centred).sum(1), len(flat)) / flat.atoms)
    values[:, NAMES.index("gap")] = extent + 0.01 * np.bincount(flat.atom_owner, flat.numbers, len(flat))
    triple = np.add.reduceat(np.append(flat.orders == 3, False), flat.bond_start[:-1])
    values[:, NAMES.index("H")] = triple * (flat.bonds > 0)
    return MoleculeData(replace(prepared, properties=values), config(), PluginCache(request, "molecule"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less work: fewer molecules, environments and random features."""
    monkeypatch.setattr(conditioned, "MOST_TRAINING", 300)
    monkeypatch.setattr(regressor_module, "RANDOM", 64)
    monkeypatch.setattr(regressor_module, "MOST_ENVIRONMENTS", 80)


def two_columns(data: MoleculeData, split: str, indices: torch.Tensor) -> Any:
    return data.properties(split)[indices][:, [NAMES.index("gap"), NAMES.index("H")]].numpy()


def test_the_regressor_repeats_itself_and_is_better_than_the_mean(data: MoleculeData, tmp_path: Path) -> None:
    train, test = torch.arange(300) * data.size("train") // 300, torch.arange(60)
    molecules, values = data.samples("train", train), two_columns(data, "train", train)
    regressor = train_regressor(molecules, values, Silent())
    held_out, truth = data.samples("test", test), two_columns(data, "test", test)
    found = regressor.predict(held_out)
    error, guess = np.abs(found - truth).mean(0), np.abs(values.mean(0) - truth).mean(0)
    assert (error < 0.4 * guess).all(), (error, guess)
    again = train_regressor(molecules, values, Silent())
    assert np.array_equal(again.predict(held_out), found)
    regressor.write(tmp_path / "found")
    assert np.array_equal(Regressor.read(tmp_path / "found").predict(held_out), found)


def test_predictions_need_no_sound_molecule_and_no_order_or_place(data: MoleculeData) -> None:
    train = torch.arange(100)
    regressor = train_regressor(data.samples("train", train), two_columns(data, "train", train), Silent())
    (one,) = data.samples("test", torch.tensor([3]))
    assert one.positions is not None
    turned = replace(one, numbers=one.numbers[::-1].copy(), charges=one.charges[::-1].copy(), bonds=one.bonds[:0],
                     positions=one.positions[::-1, [1, 2, 0]] + 5.0)  # fmt: skip
    np.testing.assert_allclose(regressor.predict([turned]), regressor.predict([one]), rtol=1e-5, atol=1e-6)
    heap = replace(one, positions=one.positions * 0.01)
    nowhere = replace(one, positions=one.positions * np.nan)
    unknown = replace(one, numbers=np.full_like(one.numbers, 92))
    found = regressor.predict([heap, nowhere, unknown])
    assert np.isfinite(found[[0, 2]]).all() and np.isnan(found[1]).all()
    assert (found[0] >= regressor.low).all() and (found[0] <= regressor.high).all()


def scored(data: MoleculeData, molecules: list[Molecule], conditions: Any, **settings: Any) -> dict[str, Any]:
    score = score_conditioned(molecules, conditions, data, config(**settings), Silent(), 1)
    assert Score.model_validate_json(score.model_dump_json()) == score and score.kind == "conditioning"
    return {metric.name: metric for metric in score.metrics}


def test_real_molecules_keep_to_their_own_values_and_not_to_those_of_others(data: MoleculeData) -> None:
    conditions = held_out_conditions(data, config(), 50)
    assert conditions is not None and list(conditions) == ["gap", "H_hartree"] and len(conditions["gap"]) == 50
    indices, _ = conditioned._targets(data, config(), 50)
    own = data.samples("test", torch.from_numpy(indices))
    found = scored(data, own, conditions)
    gap = found["condition_gap"]
    assert gap.value == pytest.approx(gap.reference) and gap.unit == "hartree" and gap.total == 50
    assert found["condition_gap_by_chance"].value > 3 * gap.value
    exchanged = {name: list(np.roll(values, 25)) for name, values in conditions.items()}
    assert scored(data, own, exchanged)["condition_gap"].value == pytest.approx(
        found["condition_gap_by_chance"].value, rel=0.2
    )
    broken = [replace(one, positions=None) for one in own[:10]] + own[10:]
    assert scored(data, broken, conditions)["condition_gap"].total == 40


def test_what_is_not_checked(data: MoleculeData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert held_out_conditions(data, config(geometry=False), 50) is None
    assert held_out_conditions(data, config().model_copy(update={"metrics": config().metrics.model_copy(
        update={"conditioned": 0})}), 50) is None  # fmt: skip
    monkeypatch.setattr(conditioned, "FEWEST_TRAINING", 10**6)
    conditions = held_out_conditions(data, config(), 5)
    assert conditions is not None
    score = score_conditioned(data.samples("test", torch.arange(5)), conditions, data, config(), Silent(), 1)
    assert score.metrics == () and any("too few" in note for note in score.notes)


def test_gap_and_dipole_of_water_by_xtb() -> None:
    pytest.importorskip("tblite")
    positions = np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])
    water = Molecule(np.array([8, 1, 1]), np.zeros(3, dtype=np.int64), np.array([[0, 1, 1], [0, 2, 1]]), positions)
    found = xtb_gap_and_dipole(water)
    assert found is not None
    assert 0.4 < found[0] < 0.7 and 1.8 < found[1] < 2.6  # hartree; debye (measured: 1.85)


def test_evaluate_generates_under_properties_of_held_out_molecules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(conditioned, "FEWEST_TRAINING", 2)
    folder = raw_folder(tmp_path / "raw-files", [block(name) for name in NAMED])
    gaps = {name: {"gap": 0.1 + 0.2 * (place % 3)} for place, name in enumerate(NAMED)}
    (folder / "gdb9.sdf.csv").write_text(property_table(gaps))
    where = ["--cache", str(tmp_path / "cache")]
    assert run(["train", "--modality", "qm9", "--data", str(folder), *where, *TINY, "--set", "qm9.condition=gap",
                "--max-steps", "1", "--out", str(tmp_path / "run")]) == 0  # fmt: skip
    assert run(["evaluate", str(tmp_path / "run"), *where, "--samples", "2", "--reconstructions", "0", "--steps", "2",
                "--set", "qm9.metrics.fcd=false", "--set", "qm9.metrics.ceiling=0",
                "--workers", "1", "--no-pictures"]) == 0  # fmt: skip
    report = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    score = report["scores"][-1]
    assert score["kind"] == "conditioning" and [metric["name"] for metric in score["metrics"]] == [
        "condition_gap", "condition_gap_by_chance"]  # fmt: skip
    assert "generate_conditioned" in report["seconds"]
    assert (tmp_path / "run" / "evaluation" / "samples-conditioned.sdf").is_file()
    assert "gap, mean error" in capsys.readouterr().out
