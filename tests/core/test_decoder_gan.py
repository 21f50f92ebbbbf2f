"""The decoder fine-tune against a discriminator: what it reaches, how the losses are weighed, what is kept of it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.toy_models import gradients, make_batch, make_model, make_noise, make_regime
from unite_mm_toy.points import PointModules

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.storage.checkpoint import read_record, read_tensors
from unite_mm.storage.pretrained import find_record, read_weights
from unite_mm.storage.runs import checkpoint_folder
from unite_mm.training.recipes.decoder import DecoderRecipe
from unite_mm.training.recipes.decoder_gan import DecoderGanRecipe, adaptive_scale, last_matrix
from unite_mm_schemas.recipe import DecoderGanRecipeConfig, DecoderRecipeConfig

DECODER = "modality_modules.points.decoder."
SHORT = ("trunk.width=16", "trunk.depth=2", "points.samples=100", "train.batch_size=16", "sampling.steps=2")
SETTINGS = [word for setting in SHORT for word in ("--set", setting)]


def make_gan(**own) -> DecoderGanRecipe:
    recipe = make_regime("unite", recipe=DecoderGanRecipeConfig(init="there", **({"warmup_steps": 0} | own)))
    assert isinstance(recipe, DecoderGanRecipe)
    return recipe


def test_a_step_reaches_the_decoder_and_the_discriminator_alone() -> None:
    recipe = make_gan()
    found = recipe.backward("points", make_batch(8), make_noise(recipe.network, 8))
    assert {"reconstruction", "distance", "adversarial", "adversarial_scale", "discriminator"} == set(found)
    for name, gradient in gradients(recipe.network).items():
        assert bool(gradient.any()) == name.startswith(DECODER) or name.endswith("qkv.bias"), name
    groups = recipe.groups()
    names = {name for name, _ in (*groups.muon, *groups.adamw)}
    assert all(name.startswith((DECODER, "training.discriminator.")) for name in names)
    of_it = gradients(recipe.discriminator)
    assert sum(bool(gradient.any()) for gradient in of_it.values()) > 0.8 * len(of_it)


def test_before_the_warm_up_ends_a_step_is_that_of_the_plain_fine_tune() -> None:
    plain_model = make_model()
    config = plain_model.config.model_copy(update={"recipe": DecoderRecipeConfig(init="there")})
    plain, gan = DecoderRecipe(config, plain_model.network), make_gan(warmup_steps=5)
    for recipe in (plain, gan):
        recipe.step = 4
        recipe.backward("points", make_batch(8), make_noise(recipe.network, 8))
    expected = gradients(plain.network)
    assert all(torch.equal(value, expected[name]) for name, value in gradients(gan.network).items())
    assert not any(value.any() for value in gradients(gan.discriminator).values())


def test_the_decoder_descends_both_losses_weighed_by_their_gradients_at_its_last_layer() -> None:
    recipe, other = make_gan(weight=0.7), make_gan()
    batch = make_batch(8)
    found = recipe.backward("points", batch, make_noise(recipe.network, 8))

    drawn = make_noise(other.network, 8).reconstruction(other.config, 3)
    latents = other.tokenize("points", batch, drawn).detach()
    output = other.decode("points", batch, latents, drawn.view)
    reconstruction, _ = other.compare("points", batch, output)
    modules, mask = other.network.modules_of("points"), batch.registers.mask
    scores = other.discriminator("points", modules.as_batch(output, batch))
    assert not scores[~mask].any()
    adversarial = -(scores.sum(1) / mask.sum(1)).mean()
    last = last_matrix(modules.decoder)
    assert last is modules.decoder.out.weight
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)]
    scale = norms[0] / (norms[1] + 1e-4)
    assert float(found["adversarial_scale"]) == pytest.approx(float(scale), rel=1e-4)
    assert float(adaptive_scale(reconstruction, adversarial, last)) == pytest.approx(float(scale), rel=1e-4)
    expected = torch.autograd.grad(reconstruction + 0.7 * scale * adversarial, last, retain_graph=True)[0]
    assert torch.allclose(gradients(recipe.network)[f"{DECODER}out.weight"], expected, rtol=1e-3, atol=1e-6)

    real = other.discriminator("points", batch)
    hinge = 0.5 * ((F.relu(1 - real) + F.relu(1 + scores)) * mask).sum(1) / mask.sum(1)
    assert float(found["discriminator"]) == pytest.approx(float(hinge.mean().detach()), rel=1e-4)


def test_the_discriminator_starts_as_the_trained_tokenizer() -> None:
    recipe = make_gan()
    with torch.no_grad():
        for parameter in recipe.network.parameters():
            parameter.add_(0.5)
    recipe.discriminator.take(recipe.network)
    theirs, own = recipe.network.state_dict(), recipe.discriminator.state_dict()
    for name, value in own.items():
        if name.startswith("encoder."):
            assert torch.equal(value, theirs[name]), name
        elif name.startswith("tokenizers.points."):
            assert torch.equal(value, theirs[name.replace("tokenizers.points.", "modality_modules.points.tokenizer.")])
    assert not [name for name in own if "project_out" in name]
    assert all(parameter.requires_grad for parameter in recipe.discriminator.parameters())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "joint"
    words = ["--set", "alignment.kind=self"]  # of which a fine-tune knows nothing
    assert run(["train", "--modality", "points", *SETTINGS, *words, "--max-steps", "10", "--out", str(folder)]) == 0
    return folder


def test_a_fine_tune_changes_the_decoder_alone_resumes_exactly_and_exports_no_discriminator(
    trained: Path, tmp_path: Path
) -> None:
    tuned, export = tmp_path / "tuned", tmp_path / "export"
    words = ["--set", "recipe.warmup_steps=2", "--set", "train.checkpoint_every=3", "--max-steps", "6"]
    assert run(["train", "--recipe", "decoder-gan", "--init", str(trained), *words, "--out", str(tuned)]) == 0
    before, after = (read_weights(*find_record(folder)) for folder in (trained, tuned))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(DECODER) for name in changed)

    last = checkpoint_folder(tuned, 6)
    stored = {stem: read_tensors(last, stem) for stem in ("weights", "ema", "optimizer", "training")}
    assert all(name.startswith("discriminator.") for name in stored["training"])
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    assert run(["train", "--resume", "--out", str(tuned)]) == 0
    for stem, expected in stored.items():
        found = read_tensors(last, stem)
        assert all(torch.equal(found[name], expected[name]) for name in expected), stem

    assert run(["export", str(tuned), "-o", str(export)]) == 0
    assert sorted(read_record(export).files) == ["weights.safetensors"]
    assert not [name for name in read_tensors(export, "weights") if "discriminator" in name]
    assert len(UNITE.from_pretrained(export).generate(2)) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "decoder-gan"], "--recipe decoder-gan needs a trained model"),
        (["--recipe", "decoder-gan", "--init", "RUN", "--set", "trunk.depth=5"], "trunk cannot change"),
        (["--recipe", "decoder-gan", "--init", "RUN", "--set", "alignment.kind=self"], "trains no denoiser"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(trained: Path, tmp_path: Path, capsys, words, message) -> None:
    given = [str(trained) if word == "RUN" else word for word in words]
    assert run(["train", *given, "--max-steps", "1", "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_outputs_that_are_no_batches_are_refused(trained: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.delattr(PointModules, "as_batch")
    words = ["--recipe", "decoder-gan", "--init", str(trained), "--max-steps", "1", "--out", str(tmp_path / "run")]
    assert run(["train", *words]) == 2
    assert "what modality 'points' decodes cannot be turned back into a batch" in capsys.readouterr().err
