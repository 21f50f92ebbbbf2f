"""Hostile trials of the program: killed runs, flipped bytes, senseless settings, damaged files. Prints counts.

    python scripts/trials.py kills --count 20
    python scripts/trials.py flips --count 200
    python scripts/trials.py settings --count 1000
    python scripts/trials.py files --count 500
    python scripts/trials.py all

What holds: a killed run that is resumed ends with the losses of one that was never stopped; a flipped byte of a
checkpoint is noticed, or an older checkpoint is used and said to be; a senseless setting or a damaged file ends in a
message and never in an unexpected error, within a time and memory limit. Trials are seeded: `--seed` chooses others.
A shortened form of settings and files is part of the test suite.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

SMALL = (
    "trunk.width=32",
    "trunk.depth=2",
    "trunk.heads=2",
    "trunk.time_features=16",
    "flow.draws=1",
    "flow.chunk=1",
    "image.decoder_width=16",
    "image.decoder_depth=1",
    "image.decoder_heads=2",
    "train.batch_size=4",
    "train.threads=1",
    "train.log_every=1",
    "train.checkpoint_every=2",
    "train.precision=32-true",
    "optim.schedule=constant",
    "sampling.steps=2",
)
STEPS = 30
SECONDS, MEBIBYTES = 20, 2048
"""No trial of settings or files may take longer, or hold more."""

SENSELESS = ("nan", ".inf", "-.inf", "-1", "0", "1e400", "9" * 5000, "[]", "{}", "[1, 2, 3]", "null", "true", "''", "x")
SENSELESS = (*SENSELESS, "[.nan, 1]", "[1.5, -2]", "[0.9, 0.1]", "1e308", "-0.0", "2 ** 64", str(2**64), "\\x1b[31m")

Trial = Callable[[random.Random, Path], str]


def program(words: Sequence[object], limit: float = 300) -> tuple[int, str, float]:
    """Exit code, everything printed, and the peak memory in MiB of one command; 124 past the time limit."""
    started = subprocess.Popen(
        [sys.executable, "-m", "unite_mm.cli.main", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        printed, _ = started.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        started.kill()
        started.communicate()
        return 124, "", 0.0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return started.returncode, printed.decode(errors="replace"), peak


def train(out: Path, *words: object) -> list[object]:
    """The words of a short run on the rendered shapes."""
    settings = [word for setting in SMALL for word in ("--set", setting)]
    return ["train", "--modality", "image", "--preset", "shapes-tiny", *settings, "--out", out, *words]


def losses(run: Path) -> list[dict[str, float]]:
    """The records of a run but for what a clock measured."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


class Kills:
    """A run killed at a random moment and resumed, until it ends."""

    def __init__(self, scratch: Path) -> None:
        self.whole = scratch / "whole"
        start = time.monotonic()
        code, printed, _ = program(train(self.whole, "--max-steps", STEPS))
        assert code == 0, printed
        self.seconds = time.monotonic() - start

    def __call__(self, draw: random.Random, folder: Path) -> str:
        run, words = folder / "run", train(folder / "run", "--max-steps", STEPS)
        for _ in range(50):
            started = subprocess.Popen(
                [sys.executable, "-m", "unite_mm.cli.main", *map(str, words)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            try:
                _, errors = started.communicate(timeout=self.seconds * draw.uniform(0.3, 1.3))
            except subprocess.TimeoutExpired:
                started.kill()
                started.communicate()
                if (run / "config.json").is_file():
                    words = ["train", "--resume", "--out", run]
                else:  # killed before it had begun
                    shutil.rmtree(run, ignore_errors=True)
                continue
            if started.returncode:
                return f"not resumed: {errors.decode(errors='replace').strip().splitlines()[-1][:100]}"
            return "identical" if losses(run) == losses(self.whole) else "other losses"
        return "never ended"


class Flips:
    """A byte of a checkpoint flipped, then a sample asked for."""

    def __init__(self, scratch: Path) -> None:
        self.run = scratch / "flipped"
        code, printed, _ = program(train(self.run, "--max-steps", 4))
        assert code == 0, printed

    def __call__(self, draw: random.Random, folder: Path) -> str:
        run = folder / "run"
        shutil.copytree(self.run, run)
        newest = max(path for path in (run / "checkpoints").iterdir() if path.is_dir())
        path = draw.choice(sorted(path for path in newest.iterdir() if path.is_file()))
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        code, printed, _ = program(["sample", run, "-n", 1, "-o", folder / "a.npz"])
        if "unexpected" in printed:
            return f"unexpected error: {path.name}"
        if code == 0:
            return "older checkpoint used, and said" if "; using step-" in printed else "NOT NOTICED"
        return "refused"


def judged(code: int, printed: str, peak: float, seconds: float) -> str:
    """What became of a hostile input."""
    if code == 124 or seconds > SECONDS:
        return "TOO SLOW"
    if peak > MEBIBYTES:
        return "TOO MUCH MEMORY"
    if "unexpected error" in printed or "Traceback" in printed or code not in (0, 1, 2):
        return "UNEXPECTED"
    return {0: "accepted", 1: "failed with a message", 2: "refused"}[code]


def settings(draw: random.Random, folder: Path) -> str:
    """A random key of the configuration set to something senseless, for a dry run."""
    from unite_mm.registry import discover
    from unite_mm.utils.schema_tree import dotted_keys
    from unite_mm_schemas.config import RunConfig

    modality = draw.choice(["image", "qm9"])
    own = discover().get(modality).load_configuration()
    key = draw.choice([*dotted_keys(RunConfig), *dotted_keys(own, f"{modality}.")])
    words = ["train", "--modality", modality, "--data", "shapes" if modality == "image" else "embedded"]
    words += ["--set", f"{key}={draw.choice(SENSELESS)}", "--max-steps", "3", "--out", str(folder / "run"), "--dry-run"]
    start = time.monotonic()
    return judged(*program(words, SECONDS + 10), time.monotonic() - start)


class Files:
    """A file of samples damaged at random, then scored."""

    def __init__(self, scratch: Path) -> None:
        self.files = []
        for suffix in (".sdf", ".xyz", ".smi", ".npz"):
            path = scratch / f"molecules{suffix}"
            self._molecules(path)
            self.files.append(("qm9", path))
        run = scratch / "pictures"
        code, printed, _ = program(train(run, "--max-steps", 2))
        assert code == 0, printed
        program(["sample", run, "-n", 4, "-o", scratch / "pictures.npz"])
        self.files.append(("image", scratch / "pictures.npz"))

    @staticmethod
    def _molecules(path: Path) -> None:
        import torch

        from unite_mm.contract import DataRequest
        from unite_mm.registry import discover

        plugin = discover().get("qm9")
        modality = plugin.load_implementation()(plugin.validate({}), "qm9")
        data = modality.open_data(DataRequest("embedded", path.parent / "cache"))
        modality.write(data.samples("test", torch.arange(6)), path)

    def __call__(self, draw: random.Random, folder: Path) -> str:
        modality, whole = draw.choice(self.files)
        content = bytearray(whole.read_bytes())
        kind = draw.choice(["flip", "cut", "repeat", "insert"])
        where = draw.randrange(len(content))
        if kind == "flip":
            for _ in range(draw.choice([1, 1, 4, 32])):
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del content[where:]
        elif kind == "repeat":
            content[where:where] = content[where : where + draw.randrange(1, 400)]
        else:
            content[where:where] = draw.choice([b"\0", b"-1", b"nan", b"9" * 300, b"\x1b[2J", b"\n\n", b"{[", b"1e999"])
        path = folder / f"damaged{whole.suffix}"
        path.write_bytes(content)
        start = time.monotonic()
        words = ["evaluate", "--modality", modality, "--samples", path, "--workers", "1"]
        return judged(*program(words, SECONDS + 10), time.monotonic() - start)


KINDS: dict[str, tuple[Callable[[Path], Trial], int]] = {
    "kills": (Kills, 20),
    "flips": (Flips, 50),
    "settings": (lambda _scratch: settings, 100),
    "files": (Files, 100),
}
"""Makers of trials, and how many are made where nothing is said."""

GOOD = {"identical", "older checkpoint used, and said", "refused", "accepted", "failed with a message"}


def main() -> None:
    """Run the trials of one kind, or of all, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("--count", type=int, help="number of trials of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bad = 0
    for kind in KINDS if arguments.kind == "all" else [arguments.kind]:
        make, usual = KINDS[kind]
        outcomes: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            trial = make(scratch)
            for number in range(arguments.count or usual):
                folder = scratch / f"trial-{number}"
                folder.mkdir()
                outcome = trial(random.Random(f"{arguments.seed} {kind} {number}"), folder)
                shutil.rmtree(folder, ignore_errors=True)
                outcomes[outcome] += 1
                if outcome not in GOOD:
                    print(f"{kind} {number}: {outcome}", flush=True)
        print(f"{kind}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()), flush=True)
        bad += sum(count for outcome, count in outcomes.items() if outcome not in GOOD)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
