"""One run on several machines, here on localhost: as torchrun and SLURM start it, restarts, hangs, mistakes."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.commands import Command
from helpers.repository import ROOT, TOY

from unite_mm.training.distribution import goes_on, is_first_process, nodes, processes_started_elsewhere

SCRIPTS = ROOT / "docs" / "examples" / "clusters"
CLEARED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
TINY = (
    "trunk.width=16", "trunk.depth=1", "trunk.heads=1", "trunk.time_features=8", "flow.draws=1", "flow.chunk=1",
    "image.size=16", "image.lpips_weight=0", "image.decoder_width=16", "image.decoder_depth=1",
    "image.decoder_heads=1", "train.batch_size=4", "train.log_every=1", "train.checkpoint_every=3",
    "train.augment=false", "train.precision=32-true", "train.threads=1", "optim.schedule=constant", "sampling.steps=2",
)  # fmt: skip
RUN = ["--modality", "image", "--data", "shapes", *(word for setting in TINY for word in ("--set", setting))]

SRUN = f"""#!{sys.executable}
import os, subprocess, sys
words = [word for word in sys.argv[1:] if not word.startswith("--kill")]
nodes, each = int(os.environ["SLURM_NNODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
started = []
for task in range(nodes * each):
    own = {{"SLURM_PROCID": task, "SLURM_LOCALID": task % each, "SLURM_NODEID": task // each}}
    started.append(subprocess.Popen(words, env=os.environ | {{name: str(value) for name, value in own.items()}}))
sys.exit(max(process.wait() for process in started))
"""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED and not name.startswith("SLURM")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | more


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def losses(run: Path) -> list[float]:
    """Reconstruction of each step, a mean over all processes."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["reconstruction"] for row in rows if row["kind"] == "train"]


def torchrun(out: Path, port: str, *more: str, nodes: int = 2) -> "subprocess.Popen[str]":
    """One machine's processes as the script starts them; two of them are on all machines together."""
    own = {"NODES": str(nodes), "PROCESSES": str(2 // nodes), "FIRST": f"127.0.0.1:{port}"}
    words = [str(SCRIPTS / "torchrun.sh"), *RUN, "--cache", str(out.parent / "cache"), "--out", str(out), *more]
    return subprocess.Popen(
        words,
        env=environment(**own),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: "subprocess.Popen[str]") -> str:
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed[-3000:]
    return printed


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of nine steps in one process."""
    out = tmp_path_factory.mktemp("single") / "run"
    words = ["train", *RUN, "--devices", "1", "--max-steps", "9", "--out", str(out), "--cache", str(out.parent)]
    Command(*words, output=out.with_suffix(".txt"), environment=environment()).end()
    return losses(out)


def test_two_machines_of_torchrun_train_as_one_process_does(tmp_path: Path, single: list[float]) -> None:
    port = free_port()
    started = [torchrun(tmp_path / "run", port, "--max-steps", "9") for _ in range(2)]
    other, told = sorted((ended(one) for one in started), key=len)
    assert losses(tmp_path / "run") == pytest.approx(single, rel=1e-5)
    assert "1 process of 1 thread on each of 2 machines" in told
    assert "Training" not in other  # only the first speaks
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()].count("step-000000009") == 1


def test_a_killed_process_is_started_again_and_the_run_ends_as_if_nothing_had_been(
    tmp_path: Path, single: list[float]
) -> None:
    """The same command, without a hand: torchrun starts both again, and they go on from the newest checkpoint."""
    out = tmp_path / "run"
    launcher = torchrun(out, free_port(), "--max-steps", "40", nodes=1)  # so many that it is killed before the end
    deadline = time.monotonic() + 120
    while not (out / "checkpoints" / "step-000000003" / "record.json").is_file():
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    workers = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True, check=True)
    os.kill(int(workers.stdout.split()[-1]), signal.SIGKILL)
    assert "resuming from step-" in ended(launcher)
    found = losses(out)
    assert len(found) == 40
    assert found[: len(single)] == pytest.approx(single, rel=1e-5)


HANGING = """
import sys, time
import torch
from unite_mm.errors import UniteError
from unite_mm.training.distribution import launch
from unite_mm.training.reduction import reduce_gradients
from unite_mm_schemas.config import TrainConfig

ranks = launch(TrainConfig(devices=2, batch_size=2, accelerator="cpu", threads=1, timeout=2, max_steps=1))
weight = torch.nn.Parameter(torch.zeros(3))
weight.grad = torch.full((3,), float(ranks.shard.rank))
ranks.reduce(lambda: reduce_gradients([weight]))
assert weight.grad.tolist() == [0.5] * 3
if ranks.shard.rank:
    time.sleep(600)
try:
    ranks.reduce(lambda: reduce_gradients([weight]))
except UniteError as error:
    print("TOLD", error.message, flush=True)
"""


def test_a_process_that_hangs_is_named_within_the_timeout(tmp_path: Path) -> None:
    """And ended, if the run has started it."""
    script = tmp_path / "hanging.py"
    script.write_text(HANGING, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], env=environment(), capture_output=True, text=True, timeout=200)
    assert "TOLD process 1 of 2 has ended, or did not come within train.timeout=2 s" in done.stdout


IN_A_BLOCK = """
import os, time
from pathlib import Path
from helpers.sharded_ranks import Job
from unite_mm.errors import UniteError
from unite_mm.model.layers import EncoderBlock as Block

forward, calls = Block.forward, 0

def late(*args, **more):
    global calls
    calls += 1
    if calls == 20 and os.environ.get("LOCAL_RANK") == "2":
        time.sleep(600)
    return forward(*args, **more)

Block.forward = late
settings = ("train.strategy=fsdp", "train.timeout=4", "train.batch_size=6")
try:
    Job(Path("run"), 20, settings).train(devices=3)
except UniteError as error:
    print("TOLD", error.message, flush=True)
"""


def test_a_process_that_hangs_where_others_gather_its_rows_is_named(tmp_path: Path) -> None:
    """Within a forward pass: the others wait in an exchange that cannot say who is missing, and then call all."""
    script = tmp_path / "hanging.py"
    script.write_text(IN_A_BLOCK, encoding="utf-8")
    own = environment(PYTHONPATH=os.pathsep.join([str(ROOT / "tests"), str(TOY)]))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=300
    )
    assert "TOLD process 2 of 3 has ended, or did not come within train.timeout=4 s" in done.stdout, done.stderr[-2000:]


def test_slurm_tasks_on_two_machines_are_one_run_and_go_on_when_queued_again(
    tmp_path: Path, single: list[float]
) -> None:
    """The batch script, with an srun of our own that starts the tasks of both machines here."""
    srun = tmp_path / "srun"
    srun.write_text(SRUN)
    srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
    job = {
        "SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "unite", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NTASKS": "2", "SLURM_NODELIST": "localhost", "MASTER_PORT": free_port(), "MASTER_ADDR": "127.0.0.1",
    }  # fmt: skip
    environ = environment(**job)
    environ["PATH"] = f"{tmp_path}{os.pathsep}{environ['PATH']}"
    words = ["bash", str(SCRIPTS / "slurm.sbatch"), *RUN, "--cache", str(tmp_path), "--out", str(tmp_path / "run")]

    def call(steps: int, **more: str) -> str:
        done = subprocess.run(
            [*words, "--max-steps", str(steps)], env=environ | more, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    told = call(4)
    assert told.count("run folder") == 1
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    saved["train"]["max_steps"] = 9  # a job that SLURM stopped before its end
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    call(9, SLURM_RESTART_COUNT="1", MASTER_PORT=free_port())
    assert losses(tmp_path / "run") == pytest.approx(single, rel=1e-5)


MISTAKES = {
    "devices": (
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"},
        ["--devices", "4"],
        "train.devices=4, but 2 processes were started on each of 2 machines",
    ),
    "batch": (
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "1"},
        [],
        "3 processes were started for the run, and train.batch_size=4 is no multiple",
    ),
    "tasks": (
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "unite", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        [],
        "this process cannot take its place among those that were started: You set `--ntasks=2`",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_environment_is_one_clear_line(name: str, tmp_path: Path) -> None:
    variables, flags, message = MISTAKES[name]
    words = ["train", *RUN, *flags, "--max-steps", "2", "--out", str(tmp_path / "run"), "--cache", str(tmp_path)]
    said = Command(*words, output=tmp_path / "said.txt", environment=environment(**variables)).end(2)
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "checkpoints").exists()


FOUR_TASKS = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "a"}


@pytest.mark.parametrize(
    ("variables", "devices", "found"),
    [
        ({}, 2, (None, 1, True, False)),
        ({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "RANK": "8", "LOCAL_RANK": "0"}, 8, (8, 2, False, False)),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "TORCHELASTIC_MAX_RESTARTS": "2"}, 1,
         (1, 2, True, True)),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 2, (2, 1, False, False)),  # a process that the run itself has started
        (FOUR_TASKS | {"SLURM_NNODES": "4"}, 1, (1, 4, False, False)),
        (FOUR_TASKS | {"SLURM_NNODES": "2"}, 1, (2, 1, True, False)),
        (FOUR_TASKS | {"SLURM_NNODES": "2", "SLURM_RESTART_COUNT": "1"}, 2, (2, 2, False, True)),
    ],
)  # fmt: skip
def test_what_launchers_say(
    variables: dict[str, str],
    devices: int,
    found: tuple[int | None, int, bool, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in list(os.environ):
        if name in CLEARED or name.startswith(("SLURM", "TORCHELASTIC")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (processes_started_elsewhere(), nodes(devices), is_first_process(devices), goes_on()) == found
