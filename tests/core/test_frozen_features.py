"""Frozen features: a teacher's vectors as latents, what the decoder sees of them, and the shift of the timesteps."""

from pathlib import Path

import pytest
import torch
from helpers.toy_models import make_batch, make_model, make_noise, make_regime
from unite_mm_toy.points import Points, PointTeacher

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.contract import Registers
from unite_mm.errors import UsageError
from unite_mm.model.latents import FeatureLatents
from unite_mm.storage.pretrained import find_record
from unite_mm.training.shift import with_shift
from unite_mm_schemas.config import FlowConfig, SamplingConfig

WORDS = ["train", "--modality", "points", "--regime", "frozen-features", "--max-steps", "4"]
WORDS += [
    word for setting in ("trunk.width=16", "points.samples=100", "sampling.steps=2") for word in ("--set", setting)
]
USED = Registers(torch.tensor([[True, True, False]]), True)


def test_latents_are_normalised_features_under_a_fixed_orthogonal_projection() -> None:
    features = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(0))
    first, second = FeatureLatents(4), FeatureLatents(4)
    latents = first(features, USED)
    assert torch.allclose(latents, second(5 * features + 1, USED), atol=1e-4)
    assert torch.allclose(first.matrix.T @ first.matrix, torch.eye(4), atol=1e-5)
    plain = torch.nn.functional.layer_norm(features, (6,))
    assert torch.allclose(latents[0, :2], (plain @ first.matrix)[0, :2], atol=1e-6)
    assert not latents[0, 2].any()


def test_features_of_the_right_width_are_the_latents_themselves() -> None:
    features = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    own = FeatureLatents(4)
    assert torch.allclose(own(features, USED)[0, :2].mean(-1), torch.zeros(2), atol=1e-6)
    assert len(own.matrix) == 0


def test_a_stored_projection_is_kept_and_another_teacher_is_refused() -> None:
    trained, loaded = FeatureLatents(4), FeatureLatents(4)
    trained.fit(6)
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded.matrix, trained.matrix)
    with pytest.raises(UsageError, match="the teacher gives 7 features, and the model was trained on 6"):
        loaded(torch.randn(1, 3, 7), USED)
    with pytest.raises(UsageError, match="the teacher has 3 features, and the latents have 4 channels"):
        FeatureLatents(4).fit(3)


def test_there_is_one_transformer_and_no_tokenizer_to_train() -> None:
    recipe = make_regime("frozen-features")
    names = [name for name, _ in recipe.network.named_parameters()]
    assert not [name for name in names if "tokenizer" in name or "separate" in name]
    batch = make_batch(8)
    noises = [make_noise(recipe.network, 8, step=step).reconstruction(recipe.config, 3) for step in (0, 1)]
    first, second = (recipe.tokenize("points", batch, noise) for noise in noises)
    assert torch.equal(first, second) and not first.requires_grad
    assert torch.allclose(first, recipe.network.features["points"](PointTeacher()(batch), batch.registers))


def test_the_decoder_sees_features_with_noise_of_many_strengths_in_training_and_clean_ones_later() -> None:
    recipe = make_regime("frozen-features")
    noise = make_noise(recipe.network, 20_000)
    view = noise.reconstruction(recipe.config, 3).view
    assert torch.equal(view.scale, torch.ones(20_000)) and bool((view.spread >= 0).all())
    assert float(view.spread.square().mean().sqrt()) == pytest.approx(0.8, rel=0.02)
    assert noise.lasting_view(recipe.config, 3) is None


def test_the_shift_follows_the_size_of_the_latents_where_it_is_left_open() -> None:
    model = make_model(flow=FlowConfig(shift="auto"), sampling=SamplingConfig(shift=None))
    decided = with_shift(model.config, model.network)
    assert decided.flow.shift == decided.sampling.shift == pytest.approx((4096 / (3 * 4)) ** 0.5)
    model = make_model(flow=FlowConfig(shift=0.3), sampling=SamplingConfig(shift=None))
    assert with_shift(model.config, model.network).sampling.shift == 0.3
    with pytest.raises(UsageError, match=r"sampling\.shift=auto is decided when training begins"):
        model.generate(1, shift="auto", steps=2)


def test_a_trained_model_generates_without_its_teacher_and_tokenizes_with_it(tmp_path: Path, monkeypatch) -> None:
    folder, export = tmp_path / "run", tmp_path / "export"
    assert run([*WORDS, "--out", str(folder)]) == 0
    config = find_record(folder)[1].config
    assert config.flow.shift == config.sampling.shift == pytest.approx((4096 / (3 * 4)) ** 0.5)
    assert run(["export", str(folder), "-o", str(export)]) == 0
    points = [torch.zeros(2, 2)]
    expected = UNITE.from_pretrained(export).reconstruct(points)
    assert torch.equal(expected[0], UNITE.from_pretrained(folder).reconstruct(points)[0])
    monkeypatch.delattr(Points, "teacher")
    model = UNITE.from_pretrained(export)
    assert len(model.generate(2)) == 2
    with pytest.raises(UsageError, match="has no teacher"):
        model.reconstruct(points)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["alignment.kind=teacher"], "the latents are the teacher's features already"),
        (["points.channels=9"], "the teacher has 6 features, and the latents have 9 channels"),
        (["alignment.kind=self", "alignment.end_to_end=true"], "the tokenizer is frozen"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: list[str], message: str, tmp_path: Path, capsys) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    assert run([*WORDS, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()
