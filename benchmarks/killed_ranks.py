"""A run of two processes whose processes are killed again and again, against the same run left alone.

    python benchmarks/killed_ranks.py [--kills 20] [--steps 600] [--strategy ddp fsdp] [--seed 0] [--folder DIR]

torchrun starts a small image run (`docs/examples/clusters/torchrun.sh`). SIGKILL then ends one of its two processes at
random, at a random moment from the start of an attempt on (while it starts, resumes, trains, writes a checkpoint);
torchrun starts both again without a hand, until as many kills have been made; then the run is left to its end. Its
losses must be those of a run that was left alone, to the last digit that `metrics.jsonl` has.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (
    "trunk.width=32", "trunk.depth=2", "trunk.heads=2", "trunk.time_features=8", "flow.draws=2", "flow.chunk=1",
    "image.size=16", "image.lpips_weight=0", "image.decoder_width=32", "image.decoder_depth=1",
    "image.decoder_heads=2", "train.batch_size=8", "train.log_every=1", "train.checkpoint_every=5",
    "train.threads=1", "train.compile=false", "optim.schedule=constant", "sampling.steps=2",
)  # fmt: skip
START = 12.0
"""Seconds after which most attempts are killed at the latest; they start, resume and train in them."""


def start(out: Path, steps: int, strategy: str, restarts: int) -> "subprocess.Popen[bytes]":
    """The launcher of a run; what it and its processes print goes into a file beside the run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [str(ROOT / "docs" / "examples" / "clusters" / "torchrun.sh"), "--modality", "image", "--data", "shapes"]
    words += ["--cache", str(out.parent / "cache"), "--out", str(out), "--max-steps", str(steps)]
    words += [word for one in (*SETTINGS, f"train.strategy={strategy}") for word in ("--set", one)]
    own = {"PROCESSES": "2", "RESTARTS": str(restarts), "FIRST": f"127.0.0.1:{port}", "OMP_NUM_THREADS": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with out.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(words, env={**os.environ, **own, "PATH": path}, stdout=log, stderr=subprocess.STDOUT)


def workers(launcher: "subprocess.Popen[bytes]") -> list[int]:
    """The processes that a launcher has started."""
    found = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def records(out: Path) -> dict[int, dict[str, float]]:
    """The numbers of every step, without the clock."""
    try:
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    rows = [json.loads(line) for line in lines]
    kept = [row for row in rows if row["kind"] == "train"]
    return {row["step"]: {key: row[key] for key in row if key not in ("kind", "seconds")} for row in kept}


def wait_for_new_pair(launcher: "subprocess.Popen[bytes]", before: set[int]) -> list[int]:
    """The two processes of the next attempt."""
    while launcher.poll() is None:
        pair = workers(launcher)
        if len(pair) == 2 and not before.intersection(pair):
            return pair
        time.sleep(0.01)
    raise SystemExit("the launcher ended before the last kill: give more --steps")


def kill_again_and_again(
    launcher: "subprocess.Popen[bytes]", out: Path, steps: int, kills: int, draw: random.Random
) -> None:
    """Kill a process of as many attempts as there are to be kills, and print when."""
    pair: list[int] = []
    for number in range(kills):
        pair = wait_for_new_pair(launcher, set(pair))
        began = time.monotonic()
        if number % 3 == 2:  # the run must come to an end
            wanted = max(records(out), default=0) + draw.randint(1, 2 * steps // kills)
            while max(records(out), default=0) < wanted and launcher.poll() is None:
                time.sleep(0.02)
        else:
            time.sleep(draw.uniform(0.0, START))
        rank = draw.randrange(2)
        if launcher.poll() is not None:
            raise SystemExit("the run ended before the last kill: give more --steps")
        try:
            os.kill(pair[rank], signal.SIGKILL)
        except ProcessLookupError:
            raise SystemExit(f"process {rank} had ended by itself; see {out.with_suffix('.log')}") from None
        done = max(records(out), default=0)
        print(f"kill {number + 1:2}: process {rank}, {time.monotonic() - began:4.1f} s after its start, step {done}")


def compare(folder: Path, strategy: str, args: argparse.Namespace) -> bool:
    """Make both runs; whether their losses are equal."""
    whole, killed = folder / f"{strategy}-whole", folder / f"{strategy}-killed"
    if start(whole, args.steps, strategy, 0).wait():
        raise SystemExit(f"the run that was left alone failed; see {whole.with_suffix('.log')}")
    launcher = start(killed, args.steps, strategy, args.kills)
    try:
        kill_again_and_again(launcher, killed, args.steps, args.kills, random.Random(args.seed))
        code = launcher.wait()
    finally:
        launcher.terminate()
    left, right = records(whole), records(killed)
    same = code == 0 and len(left) == args.steps and left == right
    print(f"{strategy}: {args.kills} kills, exit {code}, {len(right)} steps, losses {'equal' if same else 'DIFFERENT'}")
    return same


def main() -> int:
    """The command; 1 where losses differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--strategy", nargs="+", default=["ddp", "fsdp"], choices=["ddp", "fsdp"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="keep the runs there")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        same = [compare(folder, strategy, args) for strategy in args.strategy]
    finally:
        if args.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
