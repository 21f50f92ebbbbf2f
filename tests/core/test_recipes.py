"""Recipes: what a step trains and saves; the decoder fine-tune leaves everything but the decoder as it was."""

import json
from pathlib import Path

import pytest
import torch
from helpers.toy_models import gradients, make_batch, make_model, make_noise

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.storage.checkpoint import read_tensors
from unite_mm.storage.pretrained import find_record, read_weights
from unite_mm.storage.runs import newest_checkpoint
from unite_mm.training.recipes import make_recipe
from unite_mm.training.recipes.decoder import DecoderRecipe
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm_schemas.recipe import DecoderRecipeConfig, JointRecipeConfig

DECODER = "modality_modules.points.decoder."
TRAIN = ["train", "--modality", "points", "--set", "train.batch_size=16", "--set", "train.log_every=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A joint run whose tokenizer has learned something."""
    folder = tmp_path_factory.mktemp("runs") / "joint"
    assert run([*TRAIN, "--max-steps", "200", "--set", "train.log_every=100", "--out", str(folder)]) == 0
    return folder


def fine_tune(trained: Path, folder: Path, steps: int, *words: str) -> int:
    return run(
        [
            "train",
            "--recipe",
            "decoder",
            "--init",
            str(trained),
            "--max-steps",
            str(steps),
            "--out",
            str(folder),
            *words,
        ]
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The averaged weights, as `from_pretrained` loads them."""
    return read_weights(*find_record(folder))


def losses(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_the_configuration_chooses_the_recipe_and_what_is_trained() -> None:
    model = make_model()
    everything = {name for name, _ in model.network.named_parameters()}
    for recipe, kind in ((JointRecipeConfig(), JointRecipe), (DecoderRecipeConfig(init="there"), DecoderRecipe)):
        made = make_recipe(model.config.model_copy(update={"recipe": recipe}), model.network)
        assert type(made) is kind
        groups = made.groups()
        names = {name for name, _ in (*groups.muon, *groups.adamw)}
        assert names == {name for name, p in model.network.named_parameters() if p.requires_grad}
        expected = everything if kind is JointRecipe else {name for name in everything if name.startswith(DECODER)}
        assert names == expected


def test_a_frozen_trunk_is_no_part_of_the_joint_step() -> None:
    model = make_model()
    recipe = JointRecipeConfig(init_trunk="there", freeze_trunk=True)
    make_recipe(model.config.model_copy(update={"recipe": recipe}), model.network)
    frozen = {name for name, p in model.network.named_parameters() if not p.requires_grad}
    assert frozen and all(name.startswith("encoder.trunk.") for name in frozen)


def test_a_step_of_the_decoder_recipe_has_the_decoder_gradients_of_the_joint_one() -> None:
    """Reconstruction is all that reaches the decoder in the joint step, and all there is in the fine-tune."""
    joint, alone = make_model(), make_model()
    config = alone.config.model_copy(update={"recipe": DecoderRecipeConfig(init="there")})
    batch = make_batch(8)
    first = JointRecipe(joint.config, joint.network).backward("points", batch, make_noise(joint.network, 8))
    second = DecoderRecipe(config, alone.network).backward("points", batch, make_noise(alone.network, 8))
    assert float(first["reconstruction"]) == float(second["reconstruction"]) and "flow" not in second
    expected = gradients(joint.network)
    for name, found in gradients(alone.network).items():
        if name.startswith(DECODER):
            assert torch.equal(found, expected[name]) and bool(found.any()), name
        else:
            assert not found.any(), name


def test_a_fine_tune_changes_the_decoder_alone_and_improves_it(trained: Path, tmp_path: Path) -> None:
    assert fine_tune(trained, tmp_path / "tuned", 100, "--set", "train.validate_every=1000") == 0
    before, after = weights(trained), weights(tmp_path / "tuned")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(DECODER) for name in changed)
    assert any(name.startswith(DECODER) for name in changed)

    points = [torch.randn(3, 2, generator=torch.Generator().manual_seed(0))]
    joint, tuned = UNITE.from_pretrained(trained), UNITE.from_pretrained(tmp_path / "tuned")
    assert torch.equal(joint.tokenize(points).values, tuned.tokenize(points).values)

    state = read_tensors(newest_checkpoint(tmp_path / "tuned")[0], "optimizer")
    assert state and all(name.startswith(DECODER) for name in state)
    validated = {folder: losses(folder)[-1] for folder in (trained, tmp_path / "tuned")}
    assert all(record["kind"] == "validation" for record in validated.values())
    assert validated[tmp_path / "tuned"]["reconstruction"] < validated[trained]["reconstruction"]
    assert "flow" not in validated[tmp_path / "tuned"]
    assert run(["sample", str(tmp_path / "tuned"), "-n", "2", "-o", str(tmp_path / "samples.csv")]) == 0


def test_a_fine_tune_resumes_exactly_without_the_model_it_came_from(trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    trained_copy = UNITE.from_pretrained(trained)
    trained_copy.save_pretrained(moved)
    for name in ("whole", "stopped"):
        steps = 6 if name == "whole" else 3
        assert fine_tune(moved, tmp_path / name, steps, "--set", "optim.schedule=constant") == 0
    for path in moved.iterdir():
        path.unlink()
    assert run(["train", "--resume", "--max-steps", "6", "--out", str(tmp_path / "stopped")]) == 0
    found = {name: read_tensors(newest_checkpoint(tmp_path / name)[0], "weights") for name in ("whole", "stopped")}
    assert all(torch.equal(found["whole"][name], found["stopped"][name]) for name in found["whole"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "decoder"], "--recipe decoder needs a trained model"),
        (["--init", "RUN"], "--init goes with --recipe decoder"),
        (["--recipe", "decoder", "--init", "nowhere"], "does not exist"),
        (
            ["--recipe", "decoder", "--init", "RUN", "--set", "trunk.depth=7"],
            "trunk cannot change in a decoder fine-tune",
        ),
        (["--recipe", "decoder", "--init", "RUN", "--set", "points.channels=6"], "does not fit points.channels"),
        (["--recipe", "decoder", "--init", "RUN", "--set", "points.samples=100"], "have other statistics"),
        (["--recipe", "decoder", "--init", "RUN", "--preset", "toy"], "--preset"),
        (["--recipe", "decoders", "--init", "RUN"], "decoders"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    given = [str(trained) if word == "RUN" else word for word in words]
    assert run(["train", *given, "--max-steps", "1", "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
