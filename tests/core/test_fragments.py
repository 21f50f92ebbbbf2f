"""Samples that grow around a fragment: its registers stay on the path to its latents; nothing else changes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy_models import STATISTICS, make_model
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.cli.main import run
from unite_mm.contract import Fragment, Held, Modality
from unite_mm.errors import UniteError, UsageError
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.fragments import Growth
from unite_mm.sampling.generate import draw_prior, normal_noise, sample_latents
from unite_mm.sampling.latents import Latents
from unite_mm_schemas.config import SamplingConfig

PART = torch.tensor([[1.0, 0.1]])
EULER = SamplingConfig(steps=8, solver="euler", temperature=1.3)
INDICES = range(5)


@torch.no_grad()
def held_latents(model: UNITE, settings: SamplingConfig, states: list[tuple[float, Tensor]]) -> tuple[Latents, Any]:
    """Latents grown around `PART`, and what was held."""
    growth = Growth.around(PART, model.modalities["points"], STATISTICS)
    priors = draw_prior(model.modules_of("points"), len(INDICES), None, fragment=growth.fragment)
    held = growth.hold(model.network, priors, 0, INDICES, model.config.latent.tokenize_time_max)
    generators = [stream_generator(Stream.SAMPLING_NOISE, 0, index) for index in INDICES]
    view = lambda time, state: states.append((time, state.clone()))  # noqa: E731
    latents, _ = sample_latents(model.network, "points", priors, generators, settings, view, held)
    return latents, held


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance": 3.0},
        {"churn": 2.0, "churn_interval": (0.1, 0.9)},
        {"solver": "heun2"},
        {"solver": "rk4"},
        {"solver": "dopri5", "steps": 1},
    ],
    ids=str,
)
def test_held_registers_end_at_the_latents_of_the_fragment(changes: dict[str, Any]) -> None:
    latents, held = held_latents(make_model(), EULER.model_copy(update=changes), [])
    assert torch.equal(latents.values[:, :1], held.values)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun2", "rk4"])
@pytest.mark.parametrize("until", [0.4, 1.0])
def test_held_registers_are_noised_latents_at_every_step(solver: str, until: float) -> None:
    model, states = make_model(), list[tuple[float, Tensor]]()
    settings = EULER.model_copy(update={"solver": solver, "hold_until": until})
    _, held = held_latents(model, settings, states)
    generators = [stream_generator(Stream.SAMPLING_NOISE, 0, index) for index in INDICES]
    noise = normal_noise(model.modules_of("points"), generators, 1) * settings.temperature
    errors = {
        time: float((state[:, :1] - time * held.values - (1 - time) * noise).abs().max()) for time, state in states
    }
    assert len(errors) == settings.steps + 1
    held_times = [time for time in errors if time <= min(until, 1 - settings.min_remaining)]
    assert len(held_times) >= 3 and max(errors[time] for time in held_times) < 1e-5
    assert until == 1.0 or errors[1.0] > 1e-2


def test_churn_keeps_held_registers_as_noisy_as_the_time_says() -> None:
    states = list[tuple[float, Tensor]]()
    settings = EULER.model_copy(update={"churn": 3.0, "churn_interval": (0.0, 1.0), "temperature": 1.0})
    _, held = held_latents(make_model(), settings, states)
    for time, state in states:
        noise = (state[:, :1] - time * held.values)[:, 0]
        assert noise.pow(2).mean().sqrt() < 2 * (1 - time) + 1e-5


def test_nothing_held_changes_nothing() -> None:
    model = make_model(sampling=EULER)
    plain, until = model.generate(6, seed=2), model.generate(6, seed=2, hold_until=0.3)
    never = model.generate(6, seed=2, size=3)
    grown = model.generate(6, seed=2, size=3, fragment=PART, hold_until=0.0)
    assert plain.score is None
    for one, other in ((plain, until), (never, grown)):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_results_depend_on_no_batch_mate() -> None:
    model = make_model(sampling=EULER.model_copy(update={"hold_until": 0.8, "churn": 2.0}))
    whole = model.generate(7, seed=4, fragment=PART)
    assert [len(one) > 1 for one in whole] == [True] * 7
    small = model.generate(7, seed=4, fragment=PART, batch_size=2)
    late = model.generate(3, seed=4, first=4, fragment=PART)
    for one, other in (*zip(whole, small, strict=True), *zip(whole[4:], late, strict=True)):
        assert torch.allclose(one, other, atol=1e-5)
    other = model.generate(7, seed=5, fragment=PART)
    assert not all(torch.equal(a, b) for a, b in zip(whole, other, strict=True))


def test_the_fragment_decides_what_is_generated_and_how_much() -> None:
    model = make_model(sampling=EULER)
    grown = model.generate(4, fragment=PART, added=1)
    assert [len(one) for one in grown] == [2] * 4
    assert [len(one) for one in model.generate(4, fragment=torch.zeros(2, 2))] == [3] * 4
    assert grown.score is not None and grown.score.metrics[0].total == 4
    plain = model.generate(4, size=2)
    assert not any(torch.allclose(one, other) for one, other in zip(grown, plain, strict=True))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"fragment": torch.zeros(3, 2)}, "a fragment of 3 points"),
        ({"fragment": PART, "size": 1}, "size 1: the fragment alone takes 1 registers"),
        ({"fragment": PART, "size": [2, 3, 1]}, "size 1: the fragment alone"),
        ({"fragment": PART, "size": 2, "added": 1}, "size and added exclude each other"),
        ({"fragment": PART, "added": 0}, "added=0: nothing would grow"),
        ({"fragment": PART, "added": 3}, "size 4: not 1 to 3"),
        ({"added": 1}, "added=1: there is no fragment"),
        ({"fragment": PART, "hold_until": 1.5}, "hold_until"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_model(sampling=EULER).generate(3, **asked)


def test_a_modality_without_fragments_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setattr(type(model.modalities["points"]), "fragment", Modality.fragment)
    with pytest.raises(UsageError, match="modality 'points' grows no samples around a fragment"):
        model.generate(1, fragment=PART)


@pytest.mark.parametrize("wrong", ["unused", "all", "none", "shape"])
def test_a_plugin_that_holds_the_wrong_registers_is_told(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(sampling=EULER)
    modality = model.modalities["points"]
    right = type(modality).hold

    def hold(self: Any, fragment: Fragment, priors: Sequence[Any], *rest: Any) -> Held:
        held = right(self, fragment, priors, *rest)
        changed = {
            "unused": torch.zeros(len(priors), 3, dtype=torch.bool) | (torch.arange(3) == 2),
            "all": torch.ones(len(priors), 2, dtype=torch.bool),
            "none": torch.zeros_like(held.mask),
            "shape": held.mask[:, :0],
        }[wrong]
        batch = (
            held.batch
            if changed.shape == held.mask.shape
            else modality.encode_samples(
                [torch.zeros(changed.shape[1], 2)] * len(priors) if changed.shape[1] else [PART] * len(priors),
                STATISTICS,
            )
        )
        return replace(held, batch=batch, mask=changed)

    monkeypatch.setattr(type(modality), "hold", hold)
    with pytest.raises(UniteError, match="the plugin holds registers that the samples do not use"):
        model.generate(2, fragment=PART, size=2)


def test_the_command_line_grows_around_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, part, out = tmp_path / "run", tmp_path / "part.csv", tmp_path / "grown.csv"
    assert run(["train", "--modality", "points", "--max-steps", "1", "--out", str(folder)]) == 0
    part.write_text("1.0,0.1\n0.0,1.0\n")
    line = ["sample", str(folder), "-n", "4", "-o", str(out), "--steps", "3"]
    capsys.readouterr()
    assert run([*line, "--fragment", str(part), "--added", "2", "--hold-until", "0.9"]) == 0
    shown = capsys.readouterr().out
    assert "4 samples" in shown and "kept" in shown and "95 % interval" in shown
    assert [len(row.split(",")) for row in out.read_text().splitlines()] == [6] * 4
    for flags, message in (
        (["--fragment", str(tmp_path / "none.csv")], "none.csv does not exist"),
        (["--added", "1"], "there is no fragment"),
        (["--fragment", str(part), "--size", "1"], "the fragment alone takes 1"),
        (["--fragment", str(part), "--hold-until", "2"], "--hold_until"),
    ):
        assert run([*line, *flags]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("error:") == 1
