"""Conditioning on properties: configuration, statistics, the prior near the values asked for, units, the commands."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.molecule_files import NAMED, block, named_sdf, property_table, raw_folder
from helpers.qm9_package import ROWS, write_package
from pydantic import ValidationError

from unite_mm.cli.main import run
from unite_mm.contract import DataRequest, SampleRequest
from unite_mm.errors import UniteWarning, UsageError
from unite_mm.sampling.generate import draw_prior
from unite_mm_molecule.config import MoleculeConfig, MoleculeSampling
from unite_mm_molecule.data.dataset import MoleculeData
from unite_mm_molecule.data.prepare import open_prepared
from unite_mm_molecule.modality import MoleculeModality
from unite_mm_molecule.model.modules import MoleculeModules
from unite_mm_molecule.properties import NAMES

OPEN = math.nan
TINY = ["--preset", "tiny-explicit", "--set", "qm9.decoder_width=32", "--set", "trunk.width=32",
        "--set", "trunk.depth=2", "--set", "trunk.heads=2", "--set", "train.batch_size=4"]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "kept", "counted", "properties"),
    [
        ("counts", "counts", "counts", ()),
        ("none", "none", "none", ()),
        (["formula"], "formula", "formula", ()),
        ("gap", "gap", "none", ("gap",)),
        ("gap, alpha", ("gap", "alpha"), "none", ("gap", "alpha")),
        (["formula", "C"], ("formula", "C"), "formula", ("C",)),
        (("mu", "counts"), ("mu", "counts"), "counts", ("mu",)),
        (list(NAMES), NAMES, "none", NAMES),
    ],
)
def test_conditions_are_named_alone_in_a_list_or_with_commas(
    given: Any, kept: Any, counted: str, properties: tuple[str, ...]
) -> None:
    config = MoleculeConfig(condition=given)
    assert (config.condition, config.counted, config.conditioned_properties) == (kept, counted, properties)
    again = MoleculeConfig.model_validate(json.loads(config.model_dump_json()))
    assert again == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gapp", "'gapp' is no condition; did you mean 'gap'"),
        ("formula,", "'' is no condition"),
        ("gap,gap", "named twice"),
        ("formula,counts,gap", "formula and counts"),
        ("none,gap", "none cannot be asked together"),
        (3, "string"),
    ],
)
def test_unknown_conditions_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MoleculeConfig(condition=given)
    assert message in str(caught.value)


def opened(path: Path, **settings: Any) -> tuple[MoleculeModality, MoleculeData]:
    modality = MoleculeModality(MoleculeConfig(channels=4, decoder_depth=1, **settings), "qm9")
    return modality, modality.open_data(DataRequest(str(path), path.parent / "cache", workers=1))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Molecules whose gap is their number in hundredths, but for one that is not in the table."""
    folder = raw_folder(tmp_path / "raw-files", [block(name) for name in NAMED])
    table = {name: {"gap": place / 100, "h298": -place} for place, name in enumerate(NAMED) if name != "water"}
    (folder / "gdb9.sdf.csv").write_text(property_table(table))
    return folder


def test_statistics_pass_over_molecules_without_a_value(source: Path) -> None:
    modality, data = opened(source, condition="formula,gap,H")
    told = modality.statistics(data)["properties"]
    values = data.properties("train")[:, [NAMES.index("gap"), NAMES.index("H")]]
    known = values[~values[:, 0].isnan()]
    assert len(known) < len(values), "water must be a training molecule for this test"
    assert told["names"] == ["gap", "H"] and told["units"] == ["hartree", "hartree"]
    assert told["mean"] == pytest.approx(known.mean(0).tolist())
    assert told["std"] == pytest.approx(known.std(0, correction=0).tolist())
    assert (told["low"], told["high"]) == (known.amin(0).tolist(), known.amax(0).tolist())
    assert len(told["rows"]) == len(known)
    batch = data.batch("train", torch.arange(len(values))).condition
    counts = len(data.statistics["composition_names"])
    assert batch is not None and torch.equal(batch[:, counts:].isnan(), values.isnan())
    spec = modality.build_modules(data.statistics, 32).condition
    assert spec.names[counts:] == ("gap", "H_hartree"), "beside a formula H is an element"
    assert spec.left_open == "dropped" and spec.units == ("",) * counts + ("hartree",) * 2


def test_properties_that_no_training_molecule_has_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.sdf").write_text(named_sdf())
    modality, data = opened(tmp_path / "own.sdf", condition="gap,counts,mu")
    with pytest.raises(UsageError, match=r"own\.sdf: no training molecule has the property gap, mu, which qm9"):
        modality.statistics(data)


@pytest.mark.parametrize("condition", ["none", "counts", "formula"])
def test_other_conditions_know_nothing_of_properties(source: Path, condition: str) -> None:
    modality, data = opened(source, condition=condition)
    assert "properties" not in modality.statistics(data)
    spec = modality.build_modules(data.statistics, 32).condition
    assert spec.units == () and spec.ranges == () and spec.left_open == ("refused" if condition == "none" else "drawn")


def test_the_card_states_units_and_values(source: Path) -> None:
    _, data = opened(source, condition="gap,alpha")
    notes = "\n".join(data.card.notes)
    assert "mu (D), alpha (bohr^3), homo (hartree)" in notes and "Cv (cal/(mol K))" in notes
    told = data.statistics["properties"]
    assert f"conditioned on gap in hartree: mean {told['mean'][0]:.4g}, supported from {told['low'][0]:.4g}" in notes


@pytest.fixture(scope="module")
def sized(shared_cache: Path) -> MoleculeModules:
    """A model of embedded molecules whose gap grows with their atoms, with alpha the number of carbon atoms."""
    config = MoleculeConfig(channels=4, decoder_depth=1, condition="counts,gap,alpha")
    prepared = open_prepared(DataRequest("embedded", shared_cache, workers=1), config, "qm9")
    molecules = prepared.molecules
    values = np.full((len(molecules), len(NAMES)), np.nan)
    values[:, NAMES.index("gap")] = molecules.atoms / 100
    carbon = np.bincount(molecules.atom_owner[molecules.numbers == 6], minlength=len(molecules))
    values[:, NAMES.index("alpha")] = carbon
    modality = MoleculeModality(config, "qm9")
    statistics = modality.statistics(MoleculeData(replace(prepared, properties=values), config))
    assert len(statistics["properties"]["rows"]) <= 5000
    return modality.build_modules(json.loads(json.dumps(statistics)), 32)


def drawn(modules: MoleculeModules, **asked: Any) -> list[tuple[int, list[float]]]:
    """Atoms and condition of 40 draws."""
    found = []
    for seed in range(40):
        sample = modules.prior_for(torch.Generator().manual_seed(seed), SampleRequest(**asked))
        assert sample.condition is not None
        found.append((int(sample.mask.sum()), sample.condition.tolist()))
    return found


@pytest.mark.parametrize("options", [None, MoleculeSampling(compositions="uniform")])
def test_compositions_are_those_of_molecules_near_the_values_asked_for(sized: MoleculeModules, options: Any) -> None:
    for gap in (0.06, 0.11, 0.15):
        found = drawn(sized, condition=torch.tensor([OPEN, OPEN, gap, OPEN]), options=options)
        assert {atoms for atoms, _ in found} == {round(100 * gap)}
        for atoms, (heavy, hydrogens, asked, other) in found:
            assert atoms == heavy + hydrogens and asked == pytest.approx(gap) and math.isnan(other)
    both = drawn(sized, condition=torch.tensor([5, OPEN, 0.11, OPEN]), options=options)
    assert {(atoms, condition[0]) for atoms, condition in both} == {(11, 5)}
    beyond = drawn(sized, condition=torch.tensor([OPEN, OPEN, 5.0, OPEN]), options=options)
    assert {atoms for atoms, _ in beyond} == {sized.sizes[1]}, "the nearest count, however far"


def test_what_is_not_asked_for_stays_open_and_counts_are_drawn(sized: MoleculeModules) -> None:
    found = drawn(sized)
    assert len({atoms for atoms, _ in found}) > 3
    assert all(math.isnan(condition[2]) and math.isnan(condition[3]) for _, condition in found)
    of_size = drawn(sized, size=9, condition=torch.tensor([OPEN, OPEN, 0.15, 3.0]))
    assert {atoms for atoms, _ in of_size} == {9}, "a size that is asked for counts above properties"


def test_a_mistaken_unit_warns(sized: MoleculeModules) -> None:
    draw_prior(sized, 2, {"gap": 0.11, "alpha": 4})
    with pytest.warns(UniteWarning, match=r"gap=2.99 lies outside .* hartree; is it in hartree\?"):
        draw_prior(sized, 2, {"gap": 2.99})  # 0.11 hartree in eV


def test_the_commands_train_and_sample_on_properties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_package(tmp_path / "site", monkeypatch, ROWS)
    cache = ["--cache", str(tmp_path / "cache")]
    assert run(["train", "--modality", "qm9", *cache, *TINY, "--set", "qm9.condition=formula,gap,alpha",
                "--max-steps", "2", "--out", str(tmp_path / "run")]) == 0  # fmt: skip
    capsys.readouterr()
    sample = ["sample", str(tmp_path / "run"), "-n", "3", "-o", str(tmp_path / "s.sdf"), "--steps", "2"]
    assert run([*sample, "--condition", "gap=0.35,alpha=13", "--guidance", "2"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert run([*sample, "--condition", "gap=9.5"]) == 0
    err = capsys.readouterr().err
    assert err.count("warning: condition gap=9.5 lies outside what the training data support") == 1
    assert "hartree" in err
    assert run([*sample, "--condition", "homo=1"]) == 2
    assert "gap in hartree, alpha in bohr^3" in capsys.readouterr().err
    assert run(["train", "--modality", "qm9", *cache, *TINY, "--set", "qm9.condition=gap,lipo", "--dry-run"]) == 2
    assert "'lipo' is no condition" in capsys.readouterr().err
    assert run(["data", "info", "--modality", "qm9", *cache, "--set", "qm9.condition=gap"]) == 0
    assert "conditioned on gap in hartree" in " ".join(capsys.readouterr().out.split())
