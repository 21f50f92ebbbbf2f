"""How a run uses the machine it finds: processes, threads, compiled blocks."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from unite_mm.errors import UsageError
from unite_mm.training.parallel import (
    DECIDED,
    PROCESSES_PAY_AFTER,
    Machine,
    decide,
    differences,
    expected_seconds,
    handed,
    handed_on,
    observe,
    settle,
)
from unite_mm.utils import cores as allotted
from unite_mm.utils.compilers import find_compiler
from unite_mm_schemas.config import ModalityRun, RunConfig, TrainConfig

LONG: dict[str, Any] = {"max_time": 3600}
SHORT: dict[str, Any] = {"max_steps": 3}
GIB = 2**30


def run_of(**train: Any) -> RunConfig:
    return RunConfig(modalities={"points": ModalityRun()}, train=TrainConfig(**train))


TWO_CORES = Machine(cores=2, compiler="g++")

MACHINES: dict[str, tuple[dict[str, Any], Machine, str]] = {
    "two cores": (LONG, TWO_CORES, "2 processes of 1 thread, ddp, compiled blocks (2 cores, g++)"),
    "a GPU whose steps are recorded": (
        LONG | {"cuda_graphs": True},
        Machine("cuda", cores=8, gpus=1, compiler="Triton"),
        "1 GPU of 8 threads, compiled blocks, recorded steps (8 cores, Triton)",
    ),
    "recorded steps are for GPUs": (
        LONG | {"cuda_graphs": True},
        TWO_CORES,
        "2 processes of 1 thread, ddp, compiled blocks (2 cores, g++)",
    ),
    "one core": (LONG, Machine(compiler="g++"), "1 process of 1 thread, compiled blocks (1 core, g++)"),
    "no compiler": (LONG, Machine(cores=2), "2 processes of 1 thread, ddp, blocks not compiled (2 cores)"),
    "a few steps": (SHORT, TWO_CORES, "1 process of 2 threads, blocks not compiled (2 cores)"),
    "some minutes": (
        {"max_time": 180},
        TWO_CORES,
        "2 processes of 1 thread, ddp, blocks not compiled (2 cores)",
    ),
    "a few seconds": ({"max_time": 20}, TWO_CORES, "1 process of 2 threads, blocks not compiled (2 cores)"),
    "three cores, which do not divide a batch of 64": (
        LONG,
        Machine(cores=3, compiler="g++"),
        "2 processes of 1 thread, ddp, compiled blocks (3 cores, g++)",
    ),
    "many cores for a small batch": (
        LONG | {"batch_size": 32},
        Machine(cores=16, compiler="clang++", memory=64 * GIB),
        "4 processes of 4 threads, ddp, compiled blocks (16 cores, clang++)",
    ),
    "a batch of one": (
        LONG | {"batch_size": 1},
        TWO_CORES,
        "1 process of 2 threads, compiled blocks (2 cores, g++)",
    ),
    "a prime batch": (LONG | {"batch_size": 31}, TWO_CORES, "1 process of 2 threads, compiled blocks (2 cores, g++)"),
    "little memory": (
        LONG,
        Machine(cores=4, compiler="g++", memory=5 * GIB),
        "2 processes of 2 threads, ddp, compiled blocks (4 cores, g++)",
    ),
    "less memory": (
        LONG,
        Machine(cores=2, compiler="g++", memory=GIB),
        "1 process of 2 threads, compiled blocks (2 cores, g++)",
    ),
    "OMP_NUM_THREADS": (
        SHORT,
        Machine(cores=8, thread_limit=3),
        "1 process of 3 threads, blocks not compiled (8 cores)",
    ),
    "a library call": (
        LONG,
        Machine(cores=2, compiler="g++", may_start=False),
        "1 process of 2 threads, compiled blocks (2 cores, g++)",
    ),
    "torchrun": (
        SHORT,
        Machine(cores=8, started=4, may_start=False),
        "4 processes of 2 threads, ddp, blocks not compiled (8 cores)",
    ),
    "one process of torchrun": (
        LONG,
        Machine(cores=2, started=1, compiler="g++"),
        "1 process of 2 threads, compiled blocks (2 cores, g++)",
    ),
    "a GPU": (
        LONG,
        Machine("cuda", cores=16, gpus=1, compiler="gcc"),
        "1 GPU of 16 threads, compiled blocks (16 cores, gcc)",
    ),
    "a GPU for some minutes": (
        {"max_time": 300},
        Machine("cuda", cores=16, gpus=1),
        "1 GPU of 16 threads, blocks not compiled (16 cores)",
    ),
    "Apple's GPU": (LONG, Machine("mps", cores=8, gpus=1), "1 GPU of 8 threads, blocks not compiled (8 cores)"),
    "processes named": (
        LONG | {"devices": 1},
        TWO_CORES,
        "1 process of 2 threads, compiled blocks (2 cores, g++)",
    ),
    "threads named": (LONG | {"threads": 2}, TWO_CORES, "1 process of 2 threads, compiled blocks (2 cores, g++)"),
    "not to compile": (
        LONG | {"compile": False},
        TWO_CORES,
        "2 processes of 1 thread, ddp, blocks not compiled (2 cores)",
    ),
    "to compile a short run": (
        SHORT | {"compile": True},
        Machine(cores=2),
        "1 process of 2 threads, compiled blocks (2 cores)",
    ),
    "all named": (
        SHORT | {"devices": 4, "threads": 3, "compile": True},
        TWO_CORES,
        "4 processes of 3 threads, ddp, compiled blocks (2 cores, g++)",
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_what_a_machine_is_used_for(name: str) -> None:
    train, machine, expected = MACHINES[name]
    decision = decide(run_of(**train), machine)
    assert decision.text == expected
    settings = decision.config.train
    assert None not in (settings.devices, settings.threads, settings.compile)
    assert settings.batch_size % (settings.devices or 1) == 0
    assert decide(decision.config, Machine(cores=64, compiler="g++")).config == decision.config  # what is said stays
    assert RunConfig.model_validate_json(decision.config.model_dump_json()) == decision.config


def test_the_kind_of_device_is_kept_with_their_number() -> None:
    assert decide(run_of(**LONG), TWO_CORES).config.train.accelerator == "cpu"
    assert decide(run_of(**LONG), Machine("cuda", gpus=1)).config.train.accelerator == "cuda"
    assert decide(run_of(**LONG, devices=1), TWO_CORES).config.train.accelerator == "auto"


def test_what_is_missing_or_left_over_is_said() -> None:
    assert decide(run_of(**LONG), TWO_CORES).notes == ()
    (missing,) = decide(run_of(**LONG), Machine(cores=2)).notes
    assert missing.startswith("note: no working C++ compiler was found, so the blocks are not compiled")
    assert decide(run_of(**SHORT), Machine(cores=2)).notes == ()
    assert decide(run_of(**LONG, compile=False), Machine(cores=2)).notes == ()
    (more,) = decide(run_of(**SHORT), Machine("cuda", gpus=4)).notes
    assert more == "note: one of 4 GPUs is used; --devices 4 takes all of them"


EIGHT = {"started": 8, "cores": 64, "memory": 1024 * GIB}
STRATEGIES: dict[str, tuple[dict[str, Any], Machine, str | None]] = {
    "one process": ({}, Machine(device_memory=1), None),
    "room": ({}, Machine("cuda", device_memory=141 * GIB, **EIGHT), "ddp"),
    "none": ({}, Machine("cuda", device_memory=8 * GIB, **EIGHT), "fsdp"),
    "none, and two machines": ({}, Machine("cuda", device_memory=30 * GIB, nodes=2, **EIGHT), "hybrid"),
    "not for that either": ({}, Machine("cuda", device_memory=8 * GIB, nodes=2, **EIGHT), "fsdp"),
    "one process on each of two machines": (
        {}, Machine("cuda", device_memory=30 * GIB, nodes=2, started=1, memory=64 * GIB), "fsdp",
    ),
    "shared by processes": ({}, Machine(started=8, memory=64 * GIB), "fsdp"),
    "whole weights needed": ({"alignment": {"kind": "self"}}, Machine("cuda", device_memory=GIB, **EIGHT), "ddp"),
    "as asked": ({"train": {"strategy": "ddp"}}, Machine("cuda", device_memory=GIB, **EIGHT), "ddp"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRATEGIES)
def test_weights_lie_in_rows_where_a_device_has_no_room_for_them(name: str) -> None:
    sections, machine, expected = STRATEGIES[name]
    train = {"max_steps": 3, **sections.get("train", {})}
    large = {"trunk": {"width": 2048, "depth": 24, "heads": 16}, "modalities": {"points": {}}}
    config = RunConfig.model_validate({**large, **sections, "train": train})
    decision = decide(config, machine)
    assert decision.config.train.strategy == expected
    assert (f", {expected}," in decision.text) == (expected is not None)
    assert decide(decision.config, machine).config == decision.config


@pytest.mark.parametrize(
    ("train", "machine", "message"),
    [
        (
            {"strategy": "hybrid"},
            Machine(started=1, nodes=2),
            "train.strategy=hybrid: weights lie in rows over the processes of a machine, and each has one",
        ),
        (
            {"accelerator": "cuda"},
            Machine("cuda"),
            "train.accelerator=cuda: the run asks for a GPU, and there are none",
        ),
        (
            {"devices": 8},
            Machine("cuda", gpus=1),
            "train.accelerator=auto: the run asks for 8 GPUs, and there is 1 here",
        ),
        ({}, Machine(started=3), "3 processes were started for the run, and train.batch_size=64 is no multiple"),
    ],
)
def test_what_cannot_run_here_is_refused(train: dict[str, Any], machine: Machine, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        decide(run_of(**SHORT, **train), machine)
    assert caught.value.message.startswith(message)
    assert caught.value.hint


def test_a_resumed_run_says_what_this_machine_would_do_otherwise() -> None:
    kept = decide(run_of(**LONG), TWO_CORES).config
    assert differences(kept, TWO_CORES) == ()
    (fewer,) = differences(kept, Machine(compiler="g++"))
    assert fewer == "note: the run goes on as it began, as 2 processes of 1 thread, ddp, compiled blocks (1 core, g++)"
    begun_short = decide(run_of(**SHORT), TWO_CORES).config
    longer = begun_short.model_copy(update={"train": begun_short.train.model_copy(update={"max_steps": 10**6})})
    (slow,) = differences(longer, TWO_CORES)
    assert (
        "a new one would be 2 processes of 1 thread, ddp, compiled blocks (2 cores, g++) here, which --devices auto"
        in slow
    )


def test_the_length_of_a_run_is_its_time_or_a_guess_that_grows_with_its_work() -> None:
    assert expected_seconds(run_of(max_time=90), TWO_CORES) == 90
    guesses = [
        expected_seconds(run_of(max_steps=steps, batch_size=batch), TWO_CORES)
        for steps, batch in ((100, 8), (200, 8), (200, 16))
    ]
    assert guesses[1] == pytest.approx(2 * guesses[0])
    assert guesses[2] == pytest.approx(4 * guesses[0])
    assert expected_seconds(run_of(max_steps=3), Machine()) < PROCESSES_PAY_AFTER


def test_auto_is_read_wherever_a_number_is() -> None:
    words = TrainConfig.model_validate({"devices": "auto", "threads": "auto", "compile": "auto", "strategy": "auto"})
    assert words == TrainConfig() == TrainConfig(devices=None, threads=None, compile=None)


def test_the_processes_of_a_run_do_what_the_first_one_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {key: value for key, value in os.environ.items() if key != DECIDED})
    config = run_of(**LONG)
    assert handed_on(config) is None
    decided = decide(config, TWO_CORES).config
    with handed(decided):
        assert handed_on(config) == decided
    assert handed_on(config) is None  # a later run of this process, or one that torchrun starts, decides for itself


@pytest.mark.parametrize(
    ("environment", "started"),
    [
        ({}, None),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, 2),
        ({"WORLD_SIZE": "4"}, 4),
        ({"WORLD_SIZE": "x"}, None),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"}, 2),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NAME": "train"}, 4),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}, None),
    ],
)
def test_processes_that_others_have_started_count(
    environment: dict[str, str], started: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = observe(run_of(**SHORT, accelerator="cpu"), may_start=True)
    assert (found.started, found.kind) == (started, "cpu")


def test_a_compiler_is_tried_and_only_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr("unite_mm.training.parallel.find_compiler", lambda kind: tried.append(kind) or "g++")
    for train in (SHORT, LONG | {"compile": False}, LONG | {"compile": True}):
        settle(run_of(**train, accelerator="cpu"), may_start=False)
    assert tried == []
    assert settle(run_of(**LONG, accelerator="cpu"), may_start=False).config.train.compile is True
    assert tried == ["cpu"]


def test_what_is_no_compiler_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    assert find_compiler("cpu") is None
    broken = tmp_path / "g++"  # as one without Python's headers or a linker
    broken.write_text(f"#!{sys.executable}\nraise SystemExit(1)\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert find_compiler("cpu") is None
    broken.write_text(f"#!{sys.executable}\n")
    assert find_compiler("cpu") == "g++"
    assert find_compiler("mps") is None
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert find_compiler("cpu") is None


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("odd", 8), (None, 8)],
)
def test_a_container_has_the_cores_it_is_given(
    quota: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(f"{quota}\n")
    monkeypatch.setattr(allotted, "QUOTA", file)
    monkeypatch.setattr(allotted, "_bound_to", lambda: 8)
    assert allotted.cores() == expected
