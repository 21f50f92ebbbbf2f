"""`train --dry-run --nodes`: what a run would need of a cluster, counted without computing; its flags and errors."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from unite_mm.cli.main import run
from unite_mm.config import RunOptions, resolve
from unite_mm.progress import Silent
from unite_mm.registry import discover
from unite_mm.registry.build import build_network, open_modalities, outline_network
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.operations import counter
from unite_mm.training.outline import _batch, count_samples
from unite_mm.training.recipes import make_recipe

SMALL = ["train.max_steps=10", "trunk.width=32", "trunk.depth=2", "trunk.heads=2", "train.batch_size=16"]
PLAN = ["train", "--modality", "points", *(word for one in SMALL for word in ("--set", one)), "--dry-run"]


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("flow.draws=5", "flow.chunk=2"),
        ("regime.stop_gradient=false", "flow.draws=3"),
        ("train.precision=bf16-mixed",),
    ],
    ids=" ".join,
)
def test_counting_without_values_finds_what_a_step_computes(more: tuple[str, ...], tmp_path: Path) -> None:
    """Exactly, for the same samples; with one of its batches of 16 it need not agree, whose lengths are others."""
    config = resolve(RunOptions(modalities=("points",), assignments=(*SMALL, *more)), discover())
    opened = open_modalities(config, tmp_path, Silent())
    modalities = {name: entry.modality for name, entry in opened.items()}
    statistics = {name: entry.statistics for name, entry in opened.items()}
    (cost,) = count_samples(config, outline_network(config, modalities, statistics), opened).values()

    network = build_network(config, modalities, statistics).train()
    recipe, batch = make_recipe(config, network), _batch(opened["points"].data, 1)
    noise = StepNoise(torch.Generator(), 8, network.modules_of("points").layout, Shard())
    mixed = config.train.precision == "bf16-mixed"
    with counter() as counted:
        recipe.backward(
            "points", batch, noise, lambda: torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext()
        )
    assert cost.operations * 8 == pytest.approx(counted.get_total_flops(), rel=1e-9)
    assert 0 < config.flow.draws * cost.minibatch < cost.operations
    assert cost.tokens == 2 + 2  # points of middle length, and as many registers
    assert cost.activations > 0 and cost.batch_bytes > 0


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run([*PLAN, *words]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_plan_states_memory_operations_time_and_rates(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "--nodes", "4", "--devices", "2", "--tflops", "100", "--share", "0.25")
    assert "planned for 4 machines of 2 GPUs, compiled blocks" in out
    assert "batch 16, 2 on each GPU" in out
    for strategy in ("ddp", "fsdp", "hybrid"):
        assert re.search(rf"memory with {strategy} +[\d,]+ MiB per GPU", out)
    assert re.search(r"operations per step +[\d.e-]+ T", out)
    assert "100 Tflop/s, of which 0.25 is reached" in out
    assert re.search(r"expected time +\S+ s a step, \S+ s for 10 steps", out)
    assert re.search(r"points per second +\S+ samples, \S+ tokens", out)
    assert re.search(r"points data per machine +\S+ samples/s, \S+ MB/s to the GPUs", out)
    assert "run as" not in out  # nothing is decided for this machine


def test_one_gpu_has_nothing_to_share(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "--nodes", "1", "--set", "train.compile=false")
    assert "planned for 1 machine of 1 GPU, blocks not compiled" in out
    assert "67 Tflop/s, of which 0.11 is reached" in out  # 32-true
    assert "memory with ddp" in out and "fsdp" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--dry-run --nodes 3", "train.batch_size=16 is no multiple of the 3 GPUs of --nodes 3 --devices 1"),
        ("--nodes 2", "--nodes plans a new run and trains nothing"),
        ("--tflops 900", "--tflops plans a new run and trains nothing"),
        ("--dry-run --share 0.3", "--share belongs to a plan"),
        ("--dry-run --resume --out x --nodes 2", "--nodes plans a new run and trains nothing"),
        ("--dry-run --nodes 0", "0 is not in the range"),
        ("--dry-run --nodes 2 --share 1.5", "--share is 1.5 give a number above 0, at most 1"),
        ("--dry-run --nodes 2 --tflops 0", "--tflops is 0 give a number above 0, at most 1,000,000"),
    ],
)
def test_wrong_plans_are_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*PLAN[:-1], *words.split()]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_counted_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(*_: object) -> None:
        raise RuntimeError("values are asked for")

    monkeypatch.setattr("unite_mm_toy.points.PointModules.losses", asks)
    assert run([*PLAN, "--nodes", "2"]) == 2
    assert "cannot be counted without computing it: values are asked for" in " ".join(capsys.readouterr().err.split())
