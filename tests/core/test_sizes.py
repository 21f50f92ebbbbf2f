"""Sizes are counted without memory, and what no machine or no file holds is refused before it is made."""

import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from unite_mm.api import UNITE
from unite_mm.cli.main import run
from unite_mm.config import RunOptions, resolve
from unite_mm.errors import UsageError
from unite_mm.registry import Registry, discover
from unite_mm.registry.build import build_network, load_modalities, outline_network, trunk_parameters
from unite_mm.storage import pretrained
from unite_mm.storage.checkpoint import read_record
from unite_mm.utils.memory import Allowance, LargeOnMeta, machine_memory
from unite_mm_schemas.config import RunConfig, TrunkConfig

REGISTRY = discover()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sizes") / "run"
    assert run(["train", "--modality", "points", "--max-steps", "1", "--out", str(folder)]) == 0
    return folder


def built(trained: Path, *assignments: str) -> tuple[RunConfig, dict[str, Any], dict[str, Any]]:
    """A configuration, its modalities and their statistics."""
    config = resolve(RunOptions(("points",), assignments=assignments), REGISTRY)
    (checkpoint,) = (trained / "checkpoints").glob("step-*")
    statistics = {name: entry.statistics for name, entry in read_record(checkpoint).modalities.items()}
    return config, load_modalities(config), statistics


@pytest.mark.parametrize("change", ["trunk.depth=1", "trunk.depth=5", "regime.kind=separate", "points.channels=7"])
def test_the_outline_has_the_parameters_of_the_network(trained: Path, change: str) -> None:
    given = built(trained, change)
    real, outline = build_network(*given), outline_network(*given)
    shapes = {name: tuple(tensor.shape) for name, tensor in real.named_parameters()}
    assert {name: tuple(tensor.shape) for name, tensor in outline.named_parameters()} == shapes
    assert {tensor.device.type for tensor in real.parameters()} == {"cpu"}
    assert sum(p.numel() for p in real.encoder.trunk.parameters()) == trunk_parameters(given[0].trunk)


def test_a_trunk_with_context_is_counted_too() -> None:
    config = TrunkConfig(width=32, heads=2, depth=6, in_context_tokens=3, in_context_start=5)
    assert trunk_parameters(config) == trunk_parameters(config.model_copy(update={"in_context_tokens": 0})) + 3 * 32


ABSURD = (
    ("trunk.width=65536", "trunk.heads=64"),
    ("trunk.width=65536", "trunk.heads=64", "trunk.depth=1024"),
    ("trunk.width=8192", "trunk.heads=64", "trunk.depth=1024", "regime.kind=separate"),
)


@pytest.mark.parametrize("assignments", ABSURD, ids="; ".join)
def test_absurd_sizes_are_refused_before_anything_is_made(trained: Path, assignments: tuple[str, ...]) -> None:
    given = built(trained, *assignments)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UsageError, match=r"the weights alone need more than the .* of memory that there are"):
        build_network(*given)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert time.process_time() - start < 5


def test_a_dry_run_counts_what_fits_nowhere_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [part for change in ABSURD[0] for part in ("--set", change)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run(["train", "--modality", "points", "--dry-run", *flags]) == 2
    out, err = capsys.readouterr()
    assert "parameters" in out and "memory without activations" in out and "GiB per device" in out
    assert "this run needs" in err and "lower trunk.width" in err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.parametrize("change", [{"width": 4096}, {"depth": 500}, {"width": 65_536, "depth": 1024}])
def test_sizes_of_a_record_that_its_weights_do_not_have_are_refused_before_they_are_made(
    trained: Path, change: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, record, weights = pretrained.load_weights(trained)
    trunk = record.config.trunk.model_copy(update=change)
    forged = record.model_copy(update={"config": record.config.model_copy(update={"trunk": trunk})})
    monkeypatch.setattr(pretrained, "load_weights", lambda *_, **__: (where, forged, weights))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match="the sizes in the record do not fit its weights"):
        pretrained.load_model(trained)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_weights_and_samples_are_as_ever(trained: Path) -> None:
    model = UNITE.from_pretrained(trained)
    (checkpoint,) = (trained / "checkpoints").glob("step-*")
    stored = load_file(checkpoint / "weights.safetensors") | load_file(checkpoint / "ema.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.network.state_dict().items())


@pytest.mark.parametrize("path", ["", "evaluate", "sample", "reconstruct", "resume", "init"])
def test_a_model_whose_plugin_is_missing_names_its_distribution(
    trained: Path, path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for place in ("unite_mm.storage.pretrained.discover", "unite_mm.registry.discover"):
        monkeypatch.setattr(place, lambda: Registry({}))
    message = "this model needs unite-mm-toy 0.1, which provides the modality 'points' and is not installed"
    if not path:
        with pytest.raises(UsageError) as error:
            UNITE.from_pretrained(trained)
        assert str(error.value).startswith(f"{message}\n  pip install unite-mm-toy")
        return
    lines = {
        "evaluate": ["evaluate", str(trained)],
        "sample": ["sample", str(trained), "-o", str(tmp_path / "x.csv")],
        "reconstruct": ["reconstruct", str(trained), "in.csv", "-o", str(tmp_path / "x.csv")],
        "resume": ["train", "--resume", "--out", str(trained)],
        "init": ["train", "--recipe", "decoder", "--init", str(trained), "--max-steps", "1"],
    }
    assert run(lines[path]) == 2
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("needed", ["", "\x1b[2J", "a b c", "../x"])
def test_an_odd_distribution_of_a_record_is_no_trap(needed: str) -> None:
    with pytest.raises(UsageError, match=r"this model needs|unknown modality"):
        Registry({}).get("eqm", needed)


def test_an_allowance_counts_what_factories_make() -> None:
    def refused(make: Any) -> None:
        with pytest.raises(UsageError, match="too much"), Allowance(2**20, "too much", ""):
            make()

    for make in (
        lambda: torch.empty(2**19),
        lambda: torch.zeros((2**10, 2**10)),
        lambda: torch.ones(2**10, 2**10, dtype=torch.float64),
        lambda: torch.full((2**19,), 1.0),
        lambda: torch.randn(size=(2**19,)),
        lambda: torch.nn.Linear(2**15, 2**15),
        lambda: torch.nn.Embedding(2**30, 2**10),
        lambda: [torch.empty(2**17) for _ in range(3)],
    ):
        refused(make)
    with Allowance(2**20, "too much", ""):
        assert torch.empty(2**17).shape == (2**17,)
        assert torch.empty(2**40, device="meta").is_meta


def test_only_large_tensors_lose_their_values() -> None:
    with LargeOnMeta():
        assert torch.empty(10**12).is_meta
        assert torch.zeros(3).tolist() == [0, 0, 0]
        assert torch.tensor([1.0, 2.0]).mean().item() == 1.5


def test_there_is_some_memory() -> None:
    assert 2**27 < machine_memory() < 2**60
