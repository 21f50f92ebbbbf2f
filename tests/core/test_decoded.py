"""Decoded predictions: which draws count, what the decoder is given, and what is refused."""

import pytest
import torch
from helpers.toy_models import make_batch, make_noise, make_regime

from unite_mm.cli.main import run
from unite_mm.training.noise import FlowNoise
from unite_mm.training.recipes.additions import untrained
from unite_mm_schemas.additions import DecodedLatentGradient


def test_late_draws_count_with_the_reconstruction_loss_of_what_is_decoded_and_early_ones_not_at_all() -> None:
    recipe = make_regime("unite", latent_gradient=DecodedLatentGradient(threshold=0.6))
    (addition,) = recipe.additions
    batch, noise = make_batch(4), make_noise(recipe.network, 4)
    clean = recipe.tokenize("points", batch, noise.reconstruction(recipe.config, 3)).detach()
    time = torch.tensor([0.1, 0.6, 0.61, 0.9])
    seen = recipe.denoise("points", batch, clean, FlowNoise(time, torch.zeros_like(clean), torch.zeros(4) > 0))
    found = addition.values(recipe.network, seen, addition.draw(noise))
    output = recipe.network.decode("points", seen.predicted, batch.registers)
    term = recipe.network.modules_of("points").losses(output, batch)["distance"]
    assert torch.allclose(found, term.weight * term.values * torch.tensor([0.0, 0.0, 1.0, 1.0]))


@pytest.mark.parametrize(("regime", "stage"), [("two-stage", 2), ("unified-latents", 1)])
def test_the_decoder_is_given_what_it_knows(regime: str, stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_regime(regime, stage=stage, latent_gradient=DecodedLatentGradient(threshold=0.0))
    network = recipe.network
    if network.spaces is not None:
        network.spaces["points"].set(torch.full((4,), 2.0), torch.full((4,), 3.0))
    batch, noise = make_batch(4), make_noise(network, 4)
    clean = torch.randn(4, 3, 4) * batch.registers.mask[..., None]
    draw, (drawn,) = recipe.draw_all("points", noise, 3)
    seen = recipe.denoise("points", batch, clean, draw)
    given = []
    plain = network.decode

    def decode(name, values, registers):
        given.append(values)
        return plain(name, values, registers)

    monkeypatch.setattr(network, "decode", decode)
    recipe.additions[0].values(network, seen, drawn)
    end = network.end_time
    expected = 3 * seen.predicted + 2 if regime == "two-stage" else end * seen.predicted + (1 - end) * seen.noise
    assert torch.allclose(given[0], expected * batch.registers.mask[..., None], atol=1e-5)


def test_parameters_are_trained_again_afterwards() -> None:
    own = torch.nn.Linear(2, 2)
    own.bias.requires_grad_(False)
    with untrained(own.parameters()):
        assert not own.weight.requires_grad
    assert own.weight.requires_grad and not own.bias.requires_grad


@pytest.mark.parametrize(
    ("regime", "settings", "message"),
    [
        ("two-stage", ["latent_gradient.end_to_end=true"], "latent_gradient.end_to_end=true: the tokenizer is frozen"),
        ("frozen-features", ["latent_gradient.decoder=true"], "latent_gradient.decoder=true: the decoder is frozen"),
        ("unite", ["latent_gradient.threshold=1"], "latent_gradient.threshold: input should be less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(regime, settings, message, tmp_path, capsys) -> None:
    words = [word for setting in ("latent_gradient.kind=decoded", *settings) for word in ("--set", setting)]
    words += ["--modality", "points", "--regime", regime, "--max-steps", "1", "--out", str(tmp_path / "run")]
    assert run(["train", *words]) == 2
    assert message in capsys.readouterr().err
