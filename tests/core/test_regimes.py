"""Regimes by name: what `--regime` sets, above presets and below what a user sets, and what it is refused with."""

import shlex
from pathlib import Path

import pytest
from helpers.repository import ROOT

from unite_mm.cli.main import run
from unite_mm.cli.study import resolve_words
from unite_mm.config import REGIMES, RunOptions, regime_layer, resolve
from unite_mm.errors import UsageError
from unite_mm.registry import discover
from unite_mm.storage.model_card import _training, _what, nearest_preset, training_command
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import AUTO


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("modality", ["points", "image", "qm9"])
def test_every_regime_is_a_configuration_of_every_modality(name: str, modality: str) -> None:
    plain = resolve(RunOptions(modalities=(modality,), flags={"train": {"max_steps": 1}}), discover())
    config = resolve(RunOptions(modalities=(modality,), regime=name, flags={"train": {"max_steps": 1}}), discover())
    assert config.trunk == plain.trunk and config.optim == plain.optim
    for section, values in REGIMES[name].values.items():
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == (None if value == AUTO else value), (section, key)


def test_the_default_is_unite_and_settings_count_above_a_regime() -> None:
    options = {"modalities": ("points",), "flags": {"train": {"max_steps": 1}}}
    assert resolve(RunOptions(**options), discover()) == resolve(RunOptions(**options, regime="unite"), discover())
    changed = RunOptions(**options, regime="separate", assignments=("regime.stop_gradient=false",))
    assert resolve(changed, discover()) == resolve(RunOptions(**options, regime="separate-no-stop"), discover())


def test_the_help_and_the_page_name_every_regime(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.partition("\nRegimes:\n")[2].split())
    page = (ROOT / "docs" / "regimes.md").read_text(encoding="utf-8")
    for name, regime in REGIMES.items():
        assert f"{name} {regime.description}" in shown, name
        assert f"`{name}`" in page and f"--regime {name}" in page, name
    assert regime_layer("separate").origin == "--regime separate"


@pytest.mark.parametrize("name", REGIMES)
def test_the_command_of_a_card_gives_the_same_configuration(name: str) -> None:
    words = ["--modality", "image", "--preset", "shapes-tiny", "--regime", name, "--set", "flow.draws=2"]
    config = resolve_words([*words, "--max-steps", "5"])
    preset, differing = nearest_preset(config)
    assert preset == "shapes-tiny"
    command = shlex.split(training_command(config, preset, differing))
    assert command[:2] == ["unite-mm", "train"] and resolve_words(command[2:]) == config
    text = "\n".join(_training(CheckpointRecord.model_construct(config=config, step=5, seconds=61.0, changes=())))
    assert "trained further" not in text and "5 steps, 1:01 min" in text and " ".join(command[-2:]) in text
    record = CheckpointRecord.model_construct(
        config=config, step=5, seconds=61.0, modalities={"image": None}, versions={}
    )
    (what,) = _what(record, 1_000_000, "float32")
    shared = config.regime.kind == "unite"
    assert ("A UNITE model" in what) == ("one network that tokenizes and generates" in what) == shared
    assert (f"regime `{config.regime.kind}`" in what) == (not shared)


def test_a_fine_tune_has_no_command_in_its_card() -> None:
    words = ["--modality", "image", "--preset", "shapes-tiny", "--max-steps", "5"]
    config = resolve_words([*words, "--set", "recipe.kind=decoder", "--set", "recipe.init=elsewhere"])
    assert training_command(config, *nearest_preset(config)) == ""
    text = "\n".join(_training(CheckpointRecord.model_construct(config=config, step=5, seconds=0.0, changes=())))
    assert "the model was trained further from another one" in text and "Trained by" not in text


SELF, TEACHER, DECODED = "alignment.kind=self", "alignment.kind=teacher", "latent_gradient.kind=decoded"
FROZEN = "is frozen when the denoiser is trained"


@pytest.mark.parametrize(
    ("regimes", "assignments", "message"),
    [
        (set(REGIMES), (SELF,), None),
        (set(REGIMES), (DECODED,), None),
        (set(REGIMES) - {"frozen-features"}, (TEACHER,), None),
        ({"frozen-features"}, (TEACHER,), "the latents are the teacher's features already"),
        (set(REGIMES) - {"two-stage", "frozen-features"}, (SELF, "alignment.end_to_end=true"), None),
        ({"two-stage", "frozen-features"}, (SELF, "alignment.end_to_end=true"), f"tokenizer {FROZEN}"),
        (set(REGIMES) - {"two-stage", "frozen-features"}, (DECODED, "latent_gradient.end_to_end=true"), None),
        ({"two-stage", "frozen-features"}, (DECODED, "latent_gradient.end_to_end=true"), f"tokenizer {FROZEN}"),
        (set(REGIMES) - {"two-stage", "frozen-features"}, (DECODED, "latent_gradient.decoder=true"), None),
        ({"two-stage", "frozen-features"}, (DECODED, "latent_gradient.decoder=true"), f"decoder {FROZEN}"),
        (set(REGIMES) - {"unified-latents"}, (DECODED, "latent_gradient.threshold=0.95"), None),
        (
            {"unified-latents"},
            (DECODED, "latent_gradient.threshold=0.95"),
            "latent_gradient.threshold=0.95: the flow ends at t = 0.9241, no draw is above it",
        ),
    ],
)
def test_what_may_be_added_to_a_regime(regimes: set[str], assignments: tuple[str, ...], message: str | None) -> None:
    for regime in sorted(regimes):
        options = RunOptions(("points",), regime=regime, assignments=assignments, flags={"train": {"max_steps": 1}})
        if message is None:
            assert resolve(options, discover()).regime
        else:
            with pytest.raises(UsageError) as caught:
                resolve(options, discover())
            assert message in str(caught.value), regime


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--regime", "unit"], "--regime unit: there is no such regime"),
        (["--regime", "separate", "--recipe", "decoder", "--init", "RUN"], "--regime cannot be combined with --init"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    if "RUN" in words:
        assert run(["train", "--modality", "points", "--max-steps", "1", "--out", str(tmp_path / "base")]) == 0
        words = [str(tmp_path / "base") if word == "RUN" else word for word in words]
    else:
        words = ["--modality", "points", *words]
    capsys.readouterr()
    assert run(["train", *words, "--max-steps", "1", "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
