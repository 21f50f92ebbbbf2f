"""Regimes by name: what `--regime` sets, above presets and below what a user sets, and what it is refused with."""

from pathlib import Path

import pytest
from helpers.repository import ROOT

from unite_mm.cli.main import run
from unite_mm.config import REGIMES, RunOptions, regime_layer, resolve
from unite_mm.registry import discover
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
    shown = " ".join(capsys.readouterr().out.split()).replace("- ", "-")
    page = (ROOT / "docs" / "regimes.md").read_text(encoding="utf-8")
    for name in REGIMES:
        assert name in shown.partition("--regime NAME")[2].partition("--config")[0], name
        assert f"`{name}`" in page and f"--regime {name}" in page, name
    assert regime_layer("separate").origin == "--regime separate"


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
