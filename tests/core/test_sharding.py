"""Weights in rows over the ranks: the same losses and weights, a share of the memory, checkpoints for any number."""

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.commands import FORKED
from helpers.sharded_ranks import Job, one_rank
from pydantic import ValidationError
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.config import RunOptions, resolve
from unite_mm.errors import UniteError, UsageError
from unite_mm.progress import Silent
from unite_mm.registry import discover
from unite_mm.storage.checkpoint import read_tensors
from unite_mm.storage.runs import checkpoints_of, newest_checkpoint, read_checkpoint
from unite_mm.storage.shards import files_of, join
from unite_mm.training.distribution import Ranks
from unite_mm.training.dry_run import describe
from unite_mm.training.sharding import heights
from unite_mm_schemas.config import RunConfig

STEPS = 20
SETTINGS = ("optim.muon_precision=float32",)
CASES: dict[str, dict[str, Any]] = {
    "unite": {"settings": ("train.validate_every=4", "train.generate_every=5")},
    "no stop": {"regime": "unite-no-stop"},
    "two modalities": {"modalities": ("points", "image")},
    "adamw": {"settings": ("optim.optimizer=adamw",)},
    "two stages": {"regime": "two-stage"},
    "unified latents": {"regime": "unified-latents", "settings": ("recipe.second_stage=0.5",)},
}
STAGES = ("two stages", "unified latents")
PAIRS = [(case, "fsdp") for case in CASES] + [(case, "ddp") for case in CASES if case not in STAGES]

Held = dict[str, list[dict[str, int]]]
"""Bytes on each rank, by the name of a run."""


def start(ranks: int, nodes: int, jobs: list[Job]) -> list[list[dict[str, int]]]:
    """What every rank holds after every job."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = FORKED.Queue()
    workers = [FORKED.Process(target=one_rank, args=(rank, ranks, nodes, port, jobs, queue)) for rank in range(ranks)]
    for worker in workers:
        worker.start()
    found: dict[int, list[dict[str, int]]] = {}
    try:
        while len(found) < ranks:
            rank, held = queue.get(timeout=500)
            assert not isinstance(held, str), held
            found[rank] = held
        for worker in workers:
            worker.join(timeout=60)
            assert worker.exitcode == 0
    finally:
        for worker in workers:
            worker.kill()
    return [found[rank] for rank in range(ranks)]


def job(folder: Path, case: str, strategy: str = "auto", steps: int = STEPS) -> Job:
    own = CASES[case]
    return Job(
        folder, steps, **{**own, "settings": (*own.get("settings", ()), *SETTINGS, f"train.strategy={strategy}")}
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case in one process, as `<case>-one`."""
    folder = tmp_path_factory.mktemp("sharding")
    for case in CASES:
        job(folder / f"{case}-one", case).train()
    job(folder / "unite-halfway", "unite", steps=3).train()
    return folder


@pytest.fixture(scope="module")
def held(runs: Path) -> Held:
    """Every case on two ranks, as `<case>-ddp` and `<case>-fsdp`; what each rank holds."""
    names = {f"{case}-{how}": job(runs / f"{case}-{how}", case, how) for case, how in PAIRS}
    shutil.copytree(runs / "unite-halfway", runs / "unite-one to two")
    names["unite-one to two"] = job(runs / "unite-one to two", "unite", "fsdp")
    names["unite-two to one"] = job(runs / "unite-two to one", "unite", "fsdp", 3)
    ranks = start(2, 1, list(names.values()))
    job(runs / "unite-two to one", "unite", "fsdp").train()
    return {name: [rank[number] for rank in ranks] for number, name in enumerate(names)}


def losses(run: Path) -> list[dict[str, float]]:
    """The numbers of every record by its kind and their names, without those of the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {f"{row['kind']} {key}": value for key, value in row.items() if key not in ("kind", "seconds")} for row in rows
    ]


def difference(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Of all numbers together, relative."""
    assert left.keys() == right.keys()
    apart = sum(float((left[name].double() - right[name].double()).square().sum()) for name in left)
    size = sum(float(value.double().square().sum()) for value in right.values())
    return (apart / size) ** 0.5


def tensors(run: Path, stem: str) -> dict[str, Tensor]:
    return read_tensors(newest_checkpoint(run)[0], stem)


@pytest.mark.slow  # two processes of its own for all these tests
@pytest.mark.parametrize(("case", "strategy"), PAIRS)
def test_losses_and_weights_are_those_of_one_process(case: str, strategy: str, runs: Path, held: Held) -> None:
    """Up to rounding; Muon works in float32 here, for bfloat16 turns last bits of a gradient into third digits."""
    del held
    one, other = losses(runs / f"{case}-one"), losses(runs / f"{case}-{strategy}")
    for left, right in zip(other, one, strict=True):
        assert left == pytest.approx(right, rel=1e-5)
    for stem in ("weights", "ema"):
        apart = difference(tensors(runs / f"{case}-{strategy}", stem), tensors(runs / f"{case}-one", stem))
        assert apart < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("case", ["unite", "adamw"])
def test_every_rank_holds_its_share_of_weights_average_and_optimizer_state(case: str, held: Held) -> None:
    for kind in ("parameters", "average", "optimizer"):
        whole = [rank[kind] for rank in held[f"{case}-ddp"]]
        parts = [rank[kind] for rank in held[f"{case}-fsdp"]]
        assert whole[0] == whole[1] == sum(parts)
        assert parts == pytest.approx([whole[0] / 2] * 2, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unite-one to two", "unite-two to one"])
def test_a_run_goes_on_with_another_number_of_ranks(name: str, runs: Path, held: Held) -> None:
    """Weights whole or in rows: every rank takes what it needs."""
    del held
    own, uninterrupted = ([row for row in losses(runs / run) if "train step" in row] for run in (name, "unite-one"))
    assert own == [pytest.approx(row, rel=1e-5) for row in uninterrupted]
    assert difference(tensors(runs / name, "optimizer"), tensors(runs / "unite-one", "optimizer")) < 1e-5
    parts = {path.name for path in newest_checkpoint(runs / name)[0].glob("weights*")}
    expected = {"unite-one to two": {"weights-1-of-2.safetensors", "weights-2-of-2.safetensors"}}
    assert parts == expected.get(name, {"weights.safetensors"})


@pytest.mark.slow
def test_a_checkpoint_in_parts_is_a_model_like_any_other(runs: Path, held: Held, tmp_path: Path) -> None:
    del held
    model = UNITE.from_pretrained(runs / "unite-fsdp")
    model.save_pretrained(tmp_path / "export")
    again = UNITE.from_pretrained(tmp_path / "export")
    one = UNITE.from_pretrained(runs / "unite-one")
    state = one.network.state_dict()
    assert difference(again.network.state_dict(), state) < 1e-5
    assert [path.name for path in sorted((tmp_path / "export").glob("*.safetensors"))] == ["weights.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["weights", "ema", "optimizer"])
def test_damage_of_one_part_is_noticed_and_named(stem: str, runs: Path, held: Held, tmp_path: Path) -> None:
    del held
    folder = shutil.copytree(runs / "unite-fsdp", tmp_path / "run")
    path = checkpoints_of(folder)[-1] / f"{stem}-2-of-2.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UniteError, match=rf"{path.name} is missing or damaged"):
        read_checkpoint(path.parent)
    path.unlink()
    with pytest.raises(UniteError, match=rf"{path.name} is missing or damaged"):
        read_checkpoint(path.parent)


@pytest.mark.slow
def test_two_machines_share_the_rows_each_on_its_own_devices(runs: Path, tmp_path: Path) -> None:
    """`hybrid`: four ranks, of which two and two have everything; two of them write."""
    found = start(4, 2, [job(tmp_path / "hybrid", "adamw", "hybrid")])
    assert losses(tmp_path / "hybrid") == [pytest.approx(row, rel=1e-5) for row in losses(runs / "adamw-one")]
    assert difference(tensors(tmp_path / "hybrid", "weights"), tensors(runs / "adamw-one", "weights")) < 1e-6
    assert found[0] == found[2]
    assert found[0][0]["parameters"] == pytest.approx(found[0][0]["whole"] / 2, rel=0.15)
    names = [path.name for path in sorted(checkpoints_of(tmp_path / "hybrid")[-1].glob("ema*"))]
    assert names == ["ema-1-of-2.safetensors", "ema-2-of-2.safetensors"]


def test_parts_are_joined_by_their_names() -> None:
    names = ["weights-1-of-2.safetensors", "weights-2-of-2.safetensors", "ema-1-of-2.safetensors", "a.safetensors"]
    assert files_of(names, "weights") == names[:2]
    assert files_of(names, "a") == ["a.safetensors"]
    assert files_of(names, "ema") == files_of(names, "b") == []
    first, second = torch.arange(6.0).view(3, 2).split([2, 1])
    joined = join([{"a": first, "step": torch.tensor(3.0)}, {"a": second}])
    assert torch.equal(joined["a"], torch.arange(6.0).view(3, 2)) and joined["step"] == 3


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "alignment": ({"alignment": {"kind": "self"}}, "alignment.kind=self looks into whole weights"),
    "decoded": ({"latent_gradient": {"kind": "decoded"}}, "latent_gradient.kind=decoded looks into whole weights"),
    "discriminator": ({"recipe": {"kind": "decoder-gan", "init": "x"}}, "decoder-gan trains a discriminator"),
}


@pytest.mark.parametrize("strategy", ["fsdp", "hybrid"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_whole_weights_is_refused(name: str, strategy: str) -> None:
    sections, message = REFUSED[name]
    with pytest.raises(ValidationError, match=f"train.strategy={strategy}: .*{message}.*use train.strategy=ddp"):
        RunConfig.model_validate({**sections, "train": {"strategy": strategy}})
    assert RunConfig.model_validate({**sections, "train": {"strategy": "ddp"}}).train.strategy == "ddp"


def test_a_parameter_without_dimension_is_refused() -> None:
    network = torch.nn.Module()
    network.scale = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UsageError, match="scale is a number without dimension"):
        heights(network)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), True),
        (torch.distributed.DistBackendError("communicator was aborted"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_a_rank_that_ends_while_rows_are_gathered_is_said_in_one_line(error: RuntimeError, told: bool) -> None:
    strategy = SimpleNamespace(launcher=None)
    ranks = Ranks(SimpleNamespace(global_rank=0, world_size=3, strategy=strategy), 9)  # type: ignore[arg-type]
    with pytest.raises(UniteError if told else RuntimeError) as caught, ranks.computing():
        raise error
    assert str(caught.value).startswith("another process has ended") == told


def test_a_dry_run_says_what_a_device_holds_under_each_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unite_mm.training.dry_run.size_text", str)
    monkeypatch.setattr("unite_mm.training.dry_run.nodes", lambda devices: 4)
    options = RunOptions(modalities=("points",), assignments=("optim.optimizer=adamw", "train.strategy=fsdp"))
    config = resolve(replace(options, flags={"train": {"devices": 2, "max_steps": 3}}), discover())
    forecast = describe(config, tmp_path, Silent())
    shown = dict(text.split(" per device under ")[::-1] for _, text in forecast.rows if " per device under " in text)
    count = next(int(text.replace(",", "")) for title, text in forecast.rows if title == "parameters")
    assert list(shown) == ["ddp", "fsdp", "hybrid"]
    ddp, fsdp, hybrid = (int(shown[name]) for name in shown)
    assert ddp == 20 * count  # weights, gradients, average and two moments
    assert hybrid - fsdp == 16 * count // 2 - 16 * count // 8
    assert fsdp > 16 * count // 8 + 4 * count
    assert forecast.held == fsdp
