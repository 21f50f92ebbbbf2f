"""One implementation under two names: QM9, and molecules of your own."""

import json
from pathlib import Path

import pytest
import yaml
from helpers.molecule_files import NAMED, named_sdf
from helpers.molecules_by_hand import from_smiles

from unite_mm.cli.main import run
from unite_mm.config import RunOptions, resolve
from unite_mm.contract import DataRequest
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin, discover
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.modality import MoleculeModality

NAMES = ("molecule", "qm9")
SMALL = ("trunk.width=64", "trunk.depth=1", "trunk.heads=2", "train.batch_size=4", "train.threads=1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "own.sdf"
    path.write_text(named_sdf())
    return path


def plugin(name: str) -> Plugin:
    return discover().get(name)


def test_they_differ_in_name_description_sources_and_models_alone() -> None:
    own, qm9 = (yaml.safe_load((plugin(name).folder / f"{name}.yaml").read_text(encoding="utf-8")) for name in NAMES)
    differing = {key for key in own.keys() | qm9.keys() if own.get(key) != qm9.get(key)}
    assert differing == {"name", "description", "sources", "default_source", "models"}
    assert [entry["name"] for entry in own["sources"]] == [
        entry["name"] for entry in qm9["sources"] if entry["name"] != "qm9"
    ]


def test_nothing_of_molecules_of_your_own_is_called_qm9_but_qm9s_files() -> None:
    manifest = plugin("molecule").manifest
    texts = [manifest.name, manifest.description, *(entry.definition for entry in manifest.metrics)]
    assert not any("qm9" in text.lower() for text in texts)
    assert [entry.name for entry in manifest.sources if "qm9" in entry.description.lower()] == ["FOLDER or ZIP"]


def test_a_run_on_molecules_of_your_own_must_name_them() -> None:
    assert plugin("qm9").source(None) == "qm9"
    with pytest.raises(UsageError, match="'molecule' has no data set of its own") as caught:
        plugin("molecule").source(None)
    assert "--data" in caught.value.hint and "embedded" in caught.value.hint


@pytest.mark.parametrize("preset", ["tiny", "tiny-implicit", "small"])
def test_a_preset_gives_both_the_same_configuration(preset: str) -> None:
    configs = [resolve(RunOptions(modalities=(name,), sources=("x",), preset=preset), discover()) for name in NAMES]
    own, qm9 = (config.modalities.pop(name) for config, name in zip(configs, NAMES, strict=True))
    assert own == qm9 and configs[0] == configs[1]


def test_the_card_bears_the_name_of_the_modality_whoever_prepared_the_data(source: Path, tmp_path: Path) -> None:
    cards = []
    for name in (*NAMES, "molecule"):
        request = DataRequest(str(source), tmp_path / "cache", workers=1)
        cards.append(MoleculeModality(MoleculeConfig(), name).open_data(request).card)
    assert [card.modality for card in cards] == ["molecule", "qm9", "molecule"]
    assert cards[0].model_copy(update={"modality": "qm9"}) == cards[1]
    assert len(list((tmp_path / "cache").rglob("card.json"))) == 1  # the cache is shared


@pytest.mark.parametrize("name", NAMES)
def test_messages_quote_settings_by_the_name_of_the_modality(name: str, source: Path, tmp_path: Path) -> None:
    modality = MoleculeModality(MoleculeConfig(), name)
    statistics = modality.open_data(DataRequest(str(source), tmp_path / "cache", workers=1)).statistics
    with pytest.raises(UsageError, match="has room for") as caught:
        modality.encode_samples([from_smiles("CCCCCCCC")], statistics)
    assert f"{name}.max_atoms" in caught.value.hint


def test_check_finds_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "check", "molecule"]) == 0
    assert "qm9" not in capsys.readouterr().out


def test_train_evaluate_and_sample_from_a_file(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, samples = tmp_path / "run", tmp_path / "samples.sdf"
    settings = [word for text in SMALL for word in ("--set", text)]
    train = ["train", "--modality", "molecule", "--data", str(source), "--preset", "tiny-implicit", "--max-steps", "2"]
    assert run([*train, *settings, "--out", str(out)]) == 0, capsys.readouterr().err
    card = json.loads((out / "data-card-molecule.json").read_text(encoding="utf-8"))
    assert card["modality"] == "molecule" and card["kept"] == len(NAMED)
    assert run(["evaluate", str(out), "--samples", "4"]) == 0, capsys.readouterr().err
    assert run(["sample", str(out), "-n", "3", "-o", str(samples)]) == 0, capsys.readouterr().err
    assert samples.read_text(encoding="utf-8").count("$$$$") == 3
    assert run(["evaluate", "--modality", "molecule", "--samples", str(samples), "--data", str(source)]) == 0
    shown = capsys.readouterr()
    assert "qm9" not in shown.out + shown.err
