"""Alignment: what is compared with what, the MLP as training state, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from helpers.toy_models import make_batch, make_noise, make_regime

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.storage.checkpoint import read_record, read_tensors
from unite_mm.storage.runs import checkpoint_folder
from unite_mm.training.noise import FlowNoise
from unite_mm.training.recipes.alignment import SelfAligned, TeacherAligned, block_at
from unite_mm.training.state import TrainState
from unite_mm_schemas.additions import SelfAlignment, TeacherAlignment
from unite_mm_schemas.config import TrunkConfig

DEEP = TrunkConfig(width=16, depth=10, heads=2, time_features=16, gate_start=0.5).model_dump()
SHORT = ["trunk.width=16", "trunk.depth=2", "points.samples=100", "train.batch_size=16", "sampling.steps=2"]


@pytest.mark.parametrize(
    ("share", "depth", "block"),
    [(1 / 3, 12, 4), (1 / 3, 4, 2), (1 / 3, 1, 1), (0.3, 10, 3), (0.7, 10, 7), (0.7, 12, 9), (0.3, 2, 1), (0.7, 2, 2)],
)
def test_blocks_lie_at_a_share_of_the_depth_rounded_up(share: float, depth: int, block: int) -> None:
    assert block_at(share, depth) == block


def pass_of(recipe, size=8):
    batch, noise = make_batch(size), make_noise(recipe.network, size)
    clean = torch.randn(*batch.registers.mask.shape, 4, generator=torch.Generator().manual_seed(0))
    draw, (drawn,) = recipe.draw_all("points", noise, clean.shape[1])
    return batch, recipe.denoise("points", batch, clean * batch.registers.mask[..., None], draw), drawn


def test_the_loss_is_one_minus_the_cosine_over_used_registers() -> None:
    recipe = make_regime("unite", alignment=TeacherAlignment(), trunk=DEEP)
    aligned = recipe.additions[0]
    assert isinstance(aligned, TeacherAligned) and aligned.block == 4
    batch, seen, _ = pass_of(recipe)
    mapped = aligned.maps["points"](seen.states[aligned.block - 1])
    odd = mapped.detach().clone()
    odd[~batch.registers.mask] = 1e3  # what unused registers hold counts for nothing
    assert torch.allclose(aligned.distance(seen, 5 * odd), torch.zeros(8), atol=1e-5)
    assert torch.allclose(aligned.distance(seen, -odd), 2 * torch.ones(8), atol=1e-5)
    aligned.prepare(recipe.network, "points", batch)
    targets = recipe.network.teacher("points")(batch)
    assert targets.shape[-1] == 6
    assert torch.equal(aligned.values(recipe.network, seen, torch.empty(8, 0)), aligned.distance(seen, targets))


def test_the_target_of_self_alignment_is_the_average_at_a_later_time_and_a_deeper_block() -> None:
    recipe = make_regime("unite", alignment=SelfAlignment(ahead=0.3), trunk=DEEP)
    state = TrainState(recipe.config, recipe.network, recipe)
    state.begin()
    aligned = recipe.additions[0]
    assert isinstance(aligned, SelfAligned) and (aligned.block, aligned.later) == (3, 7)
    batch, seen, drawn = pass_of(recipe)
    assert bool((drawn >= 0).all()) and bool((drawn <= 0.3).all())
    with torch.no_grad():
        for parameter in recipe.network.parameters():  # the average stays behind
            parameter.add_(0.1)
    found = aligned._targets(recipe.network, seen, drawn)
    later = (seen.time + drawn[:, 0]).clamp_max(1)
    with state.ema.swapped(), torch.no_grad():
        again = recipe.denoise("points", batch, seen.clean, FlowNoise(later, seen.noise, seen.dropped))
    assert torch.allclose(found, again.states[6], atol=1e-5)
    assert not found.requires_grad


def test_the_mlp_is_training_state_and_no_part_of_the_model(tmp_path: Path) -> None:
    words = ["train", "--modality", "points", "--max-steps", "4", "--set", "alignment.kind=teacher"]
    words += ["--set", "train.checkpoint_every=2", "--set", "train.log_every=1"]
    words += [word for setting in SHORT for word in ("--set", setting)]
    assert run([*words, "--out", str(tmp_path / "whole")]) == 0
    where = checkpoint_folder(tmp_path / "whole", 4)
    mlp = read_tensors(where, "training")
    assert len(mlp) == 6 and all(name.startswith("alignment.maps.points.") for name in mlp)
    assert any(name.startswith("training.alignment.") for name in read_tensors(where, "optimizer"))
    assert not [name for stem in ("weights", "ema") for name in read_tensors(where, stem) if "alignment" in name]
    assert "training.safetensors" in read_record(where).files
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["alignment"] <= 2 for line in lines if line["kind"] == "train")

    for path in checkpoint_folder(tmp_path / "whole", 4).iterdir():
        path.unlink()
    where.rmdir()
    assert run(["train", "--resume", "--out", str(tmp_path / "whole")]) == 0
    again = read_tensors(where, "training")
    assert all(torch.equal(again[name], mlp[name]) for name in mlp)

    assert run(["export", str(tmp_path / "whole"), "-o", str(tmp_path / "export")]) == 0
    assert sorted(read_record(tmp_path / "export").files) == ["weights.safetensors"]
    assert len(UNITE.from_pretrained(tmp_path / "export").generate(2)) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("regime.kind=two-stage", "recipe.kind=staged", "alignment.kind=self", "alignment.end_to_end=true"),
         "alignment.end_to_end=true: the tokenizer is frozen"),
        (("alignment.kind=teachers",), "unknown kind 'teachers'; did you mean 'teacher'?"),
        (("alignment.ahead=0.1",), "kind 'self' has it"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(settings, message, tmp_path, capsys) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    assert run(["train", "--modality", "points", "--max-steps", "1", *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_a_modality_without_a_teacher_says_so(tmp_path, capsys, monkeypatch) -> None:
    from unite_mm_toy.points import Points

    monkeypatch.delattr(Points, "teacher")
    words = ["train", "--modality", "points", "--max-steps", "1", "--set", "alignment.kind=teacher"]
    assert run([*words, "--out", str(tmp_path / "run")]) == 2
    assert "modality 'points' has no teacher" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()
