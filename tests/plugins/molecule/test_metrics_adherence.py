"""Whether molecules have the numbers of atoms that the denoiser was told: by hand, and from the command line."""

import json
from pathlib import Path

import pytest
import torch
from helpers.molecules_by_hand import from_smiles

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.contract import ConditionSpec
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.metrics.adherence import score_adherence
from unite_mm_molecule.molecule import ATOMIC_NUMBERS, Molecule

OPEN = float("nan")
FORMULA = ConditionSpec("numbers", 3, ("H", "C", "O"), (0.0,) * 3, (1.0,) * 3)
COUNTS = ConditionSpec("numbers", 2, ("heavy atoms", "hydrogens"), (0.0,) * 2, (1.0,) * 2)


@pytest.mark.parametrize(
    ("told", "heavy", "every"),
    [
        ((6, 2, 1), True, True),
        ((4, 2, 1), True, False),  # a bond too few: two hydrogens too many
        ((6, 1, 2), False, False),
        ((OPEN, 2, 1), True, True),
        ((6, OPEN, OPEN), True, True),
        ((6, OPEN, 2), False, False),
        ((5.9999995, 2.0000002, 1), True, True),  # in single precision
    ],
)
def test_ethanol_has_what_was_told_or_not(told: tuple[float, ...], heavy: bool, every: bool) -> None:
    found = score_adherence([from_smiles("CCO")], torch.tensor([told]), FORMULA, MoleculeConfig(condition="formula"))
    assert [(one.name, one.value) for one in found] == [("adherence_heavy_atoms", heavy), ("adherence_formula", every)]


def test_every_sample_counts_against_its_own_row_also_one_without_atoms() -> None:
    ethanol, ether = from_smiles("CCO"), from_smiles("COC")
    nothing = Molecule(ethanol.numbers[:0], ethanol.charges[:0], ethanol.bonds[:0], flaw="cannot be read")
    told = torch.tensor([[6.0, 2, 1], [6, 2, 1], [6, 2, 1], [4, 2, 1], [8, 3, 0]])
    samples = [ethanol, ether, nothing, from_smiles("CC=O"), ethanol]
    heavy, every = score_adherence(samples, told, FORMULA, MoleculeConfig(condition="formula"))
    assert (heavy.count, every.count, every.total) == (3, 3, 5)
    assert heavy.group == every.group and "C, O" in heavy.definition and "H, C, O" in every.definition


def test_counts_are_of_all_heavy_atoms_and_implicit_hydrogens_are_not_counted() -> None:
    told = torch.tensor([[3.0, 6], [3, 4]])
    samples = [from_smiles("CCO"), from_smiles("CCN")]
    found = score_adherence(samples, told, COUNTS, MoleculeConfig(condition="counts"))
    assert [one.count for one in found] == [2, 1]
    implicit = [from_smiles("CCO", explicit=False), from_smiles("CC", explicit=False)]
    (heavy,) = score_adherence(implicit, told, COUNTS, MoleculeConfig(condition="counts", hydrogens="implicit"))
    assert heavy.count == 1


def test_properties_are_no_counts_even_where_they_share_a_name_with_hydrogen() -> None:
    enthalpy = ConditionSpec("numbers", 1, ("H",), (0.0,), (1.0,), left_open="dropped", units=("hartree",))
    assert score_adherence([from_smiles("CCO")], torch.tensor([[6.0]]), enthalpy, MoleculeConfig(condition="H")) == ()
    beside = ConditionSpec("numbers", 4, ("H", "C", "O", "gap"), (0.0,) * 4, (1.0,) * 4, left_open="dropped")
    told, config = torch.tensor([[6.0, 2, 1, 0.25]]), MoleculeConfig(condition="formula,gap")
    assert [one.value for one in score_adherence([from_smiles("CCO")], told, beside, config)] == [1, 1]


def test_evaluate_counts_what_its_samples_were_told(tmp_path: Path, shared_cache: Path) -> None:
    command = ["evaluate", "qm9-tiny", "-o", str(tmp_path), "--reconstructions", "0", "--no-pictures", "--data",
               "embedded", "--steps", "8", "--cache", str(shared_cache), "--set", "qm9.metrics.fcd=false",
               "--set", "qm9.metrics.ceiling=0", "--set", "qm9.metrics.adit=false", "--samples", "12"]  # fmt: skip
    assert run(command) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())["scores"][0]["metrics"]
    found = {metric["name"]: metric["count"] for metric in metrics}
    model = UNITE.from_pretrained("qm9-tiny")
    samples = model.generate(12, steps=8)
    names = model.modules_of("qm9").condition.names
    assert samples.conditions is not None and set(names) >= {"H", "C", "N", "O", "F"}
    right = [
        {name: int((sample.numbers == ATOMIC_NUMBERS[name]).sum()) == round(number)
         for name, number in zip(names, row.tolist(), strict=True)}
        for sample, row in zip(samples, samples.conditions, strict=True)
    ]  # fmt: skip
    assert found["adherence_formula"] == sum(all(one.values()) for one in right)
    assert found["adherence_heavy_atoms"] == sum(all(one[name] for name in names if name != "H") for one in right) > 0
