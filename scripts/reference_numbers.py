"""Record the numbers that code may not change by being moved, or compare with those recorded: bit for bit.

    python scripts/reference_numbers.py            # compare with scripts/reference_numbers.json
    python scripts/reference_numbers.py --record   # write that file anew

Thirty optimizer steps of each case on the CPU give every loss and a checksum of all weights, three of the models also
eight samples; the parity tests give their errors against the official model where its numbers are at hand. Floating
point differs between processors and versions of torch, so the file holds for the kind of machine that it names: before
a refactoring, record on the machine at hand, and compare there after every commit.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "scripts" / "reference_numbers.json"
PARITY_TESTS = next(ROOT.glob("tests/**/test_official_parity.py"))

STEPS = 30
EXPLICIT = ("--modality", "qm9", "--data", "embedded", "--preset", "tiny")
IMPLICIT = ("--modality", "qm9", "--data", "embedded", "--preset", "tiny-implicit")
SHAPES = ("--modality", "image", "--data", "shapes", "--preset", "shapes-tiny")
JOINT = ("--modality", "qm9", "--modality", "image", "--data", "qm9=embedded", "--data", "image=shapes")
FAST = ("train.precision=32-true", "train.batch_size=16", "train.log_every=1", "train.threads=1", "train.devices=1")
SEPARATE, NO_STOP = "regime.kind=separate", "regime.stop_gradient=false"

CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "molecules-explicit": (EXPLICIT, ()),
    "molecules-explicit-bf16": (EXPLICIT, ("train.precision=bf16-mixed",)),
    "molecules-implicit": (IMPLICIT, ()),
    "shapes": (SHAPES, ()),
    "joint": (JOINT, ()),
    "separate": (IMPLICIT, (SEPARATE,)),
    "no-stop": (IMPLICIT, (NO_STOP,)),
    "separate-no-stop": (SHAPES, (SEPARATE, NO_STOP)),
    "adamw": (IMPLICIT, ("optim.optimizer=adamw",)),
    "two-ranks": (EXPLICIT, ("train.devices=2",)),
    "resumed": (EXPLICIT, ("train.checkpoint_every=15",)),
}
SAMPLED = {"molecules-explicit": ".sdf", "molecules-implicit": ".sdf", "shapes": ".npz"}


def command(*words: object) -> None:
    """One command of the program; its output is shown only if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "unite_mm.cli.main", *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"unite-mm {' '.join(map(str, words))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def weights_checksum(folder: Path) -> str:
    """A checksum of all weights and averages of the newest checkpoint that does not depend on their names."""
    newest = max((folder / "checkpoints").iterdir())
    digests = []
    for file in ("weights", "ema"):
        for tensor in load_file(newest / f"{file}.safetensors").values():
            data = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
            digests.append(hashlib.sha256(f"{file} {tuple(tensor.shape)}".encode() + data).hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def losses(folder: Path) -> list[dict[str, float]]:
    """Every record of the run but what a clock measured."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def sample_checksum(path: Path) -> str:
    """A checksum of what a file of samples says."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_case(name: str, scratch: Path) -> dict[str, Any]:
    """Train one case and sample from it."""
    source, settings = CASES[name]
    folder = scratch / name
    assignments = [word for setting in (*FAST, *settings) for word in ("--set", setting)]
    command("train", *source, *assignments, "--max-steps", STEPS, "--out", folder)
    if name == "resumed":  # a run that was killed after its first checkpoint
        newest = max((folder / "checkpoints").iterdir())
        for path in newest.iterdir():
            path.unlink()
        newest.rmdir()
        command("train", "--resume", "--out", folder, "--max-steps", STEPS)
    found: dict[str, Any] = {"weights": weights_checksum(folder), "losses": losses(folder)}
    if name in SAMPLED:
        samples = scratch / f"{name}{SAMPLED[name]}"
        command("sample", folder, "-n", 8, "-o", samples, "--device", "cpu")
        found["samples"] = sample_checksum(samples)
    return found


def parity(scratch: Path) -> dict[str, float]:
    """The errors of the parity tests against the official model; empty where its numbers are not at hand."""
    errors = scratch / "parity.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "UNITE_MM_PARITY_ERRORS": str(errors)}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PARITY_TESTS)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])
    return json.loads(errors.read_text()) if errors.is_file() else {}


def measure() -> dict[str, Any]:
    """All numbers, two cases at a time."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        scratch = Path(name)
        # The first run prepares the embedded molecules, which the others then find.
        found = {"molecules-explicit": run_case("molecules-explicit", scratch)}
        started = {case: pool.submit(run_case, case, scratch) for case in CASES if case not in found}
        errors = pool.submit(parity, scratch)
        found |= {case: future.result() for case, future in started.items()}
        return {"cases": found, "parity": errors.result()}


def machine() -> str:
    """What the numbers depend on beside the code."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return f"{model.partition(':')[2].strip()}, torch {torch.__version__}, Python {platform.python_version()}"


def differences(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line for every number that is another."""
    lines = []
    for name, case in recorded["cases"].items():
        now = found["cases"].get(name, {})
        lines += [f"{name}: {key} differs" for key, value in case.items() if now.get(key) != value]
    parity_now = found["parity"]
    lines += [f"parity: {key} differs" for key, value in recorded["parity"].items() if parity_now.get(key) != value]
    return lines


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the file instead of comparing with it")
    record = parser.parse_args().record
    found = {"machine": machine(), **measure()}
    if record:
        RECORDED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"recorded {len(found['cases'])} cases and {len(found['parity'])} parity numbers: {RECORDED.name}")
        return
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    if recorded["machine"] != found["machine"]:
        print(f"recorded on another machine ({recorded['machine']}): differences say nothing about the code")
    lines = differences(recorded, found)
    print("\n".join(lines) or f"equal: {len(recorded['cases'])} cases, {len(recorded['parity'])} parity numbers")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
