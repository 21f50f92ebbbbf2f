"""Hostile trials of the program: killed runs, flipped bytes, senseless settings, damaged files. Prints counts.

    python scripts/trials.py kills --count 20
    python scripts/trials.py flips --count 200
    python scripts/trials.py settings --count 1000
    python scripts/trials.py files --count 500
    python scripts/trials.py runs --count 200
    python scripts/trials.py all    # 200 kills, flips and runs, 1,000 settings, 500 files

What holds: a killed run that is resumed ends with the losses and the weights of one that was never stopped; a flipped
byte of a checkpoint is noticed, or an older checkpoint is used and said to be; a senseless setting or a damaged file
ends in a message and never in an unexpected error, within a time and memory limit. Trials are seeded: `--seed` chooses
others, `--start` begins at a later one. Of a bad trial the command that makes it again is printed, what was done, and
the end of what the program said. A shortened form of settings and files is part of the test suite.
"""

import argparse
import bz2
import gzip
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trial_processes import TIMED_OUT, Child, Ended, Program

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
    "train.validation_samples=8",
    "train.precision=32-true",
    "optim.schedule=constant",
    "sampling.steps=2",
)
STEPS, VALIDATE_EVERY = 16, 3
SECONDS, MEBIBYTES, CLOCK = 20, 2048, 1200
"""No trial of settings or files may compute longer, hold more, or wait longer by the clock."""

SENSELESS = ("nan", ".inf", "-.inf", "-1", "0", "1e400", "9" * 5000, "[]", "{}", "[1, 2, 3]", "null", "true", "''", "x")
SENSELESS = (*SENSELESS, "[.nan, 1]", "[1.5, -2]", "[0.9, 0.1]", "1e308", "-0.0", "2 ** 64", str(2**64), "\\x1b[31m")
SENSELESS = (*SENSELESS, "1e-320", "0x7fffffffffffffff", "1_000", "2026-11-27", "!!binary aGk=", "&a [*a]", "[[[[1]]]]")
SENSELESS = (
    *SENSELESS,
    "{kind: x}",
    "{1: 2}",
    "65536",
    "1e6",
    "~",
    "\x1b[2J",
    "a\nb",
    "x" * 100_000,
    "[" * 600,
    "1e-7",
)

TOKENS = (b"\0", b"-1", b"nan", b"9" * 300, b"\x1b[2J", b"\n\n", b"{[", b"1e999", b"\xff\xfe", b"\r", b"999", b"M  RAD")
"""What is put into damaged files."""


class Trial:
    """A kind of trials. What a trial did stands in `made` until the next one.

    Args:
        scratch: a folder for all trials.
        program: the program.
    """

    good: tuple[str, ...] = ()
    """Outcomes that hold."""

    def __init__(self, scratch: Path, program: Program) -> None:
        self.scratch, self.program = scratch, program
        self.made = ""
        self.hit: Counter[str] = Counter()
        self.prepare()

    def prepare(self) -> None:
        """Make what all trials start from."""

    def __call__(self, draw: random.Random, folder: Path) -> str:
        """Make a trial in an empty folder; what became of it."""
        raise NotImplementedError

    def must_run(self, words: Sequence[object]) -> Ended:
        """A command that succeeds."""
        ended = self.program.run(words)
        assert ended.code == 0, ended.printed
        return ended


def train(out: Path, *words: object) -> list[object]:
    """The words of a short run on the rendered shapes."""
    settings = [word for setting in SMALL for word in ("--set", setting)]
    return ["train", "--modality", "image", "--preset", "shapes-tiny", *settings, "--out", out, *words]


class Kills(Trial):
    """A run killed at random moments and resumed, until it ends."""

    good = ("identical",)

    def prepare(self) -> None:
        """A run that is never stopped."""
        self.words = ("--max-steps", STEPS, "--set", f"train.validate_every={VALIDATE_EVERY}")
        self.whole = self.scratch / "whole"
        self.seconds = self.must_run(train(self.whole, *self.words)).clock
        self.result = self._result(self.whole)

    def __call__(self, draw: random.Random, folder: Path) -> str:
        run = folder / "run"
        words, self.made = train(run, *self.words), ""
        for _ in range(1 + (draw.random() < 0.4) + (draw.random() < 0.2)):
            child = self.program.start(words)
            self._wait_for_the_moment(draw, run, child)
            if not child.runs():
                ended = child.wait(0)
                if ended.code:
                    return self._not_resumed(ended)
                break
            child.kill()
            where = self._where(run)
            self.hit[where] += 1
            self.made += f"killed {where}; "
            if (run / "config.json").is_file():
                words = ["train", "--resume", "--out", run]
            else:
                shutil.rmtree(run, ignore_errors=True)
        if (run / "config.json").is_file():
            words = ["train", "--resume", "--out", run]
        ended = self.program.run(words)
        if ended.code:
            return self._not_resumed(ended)
        found = self._result(run)
        left = [path.name for path in (run / "checkpoints").iterdir() if not path.name.startswith("step-")]
        if left:
            return f"left behind: {left}"
        return (
            "identical"
            if found == self.result
            else "other " + ", ".join(key for key in found if found[key] != self.result[key])
        )

    @staticmethod
    def _not_resumed(ended: Ended) -> str:
        lines = ended.printed.strip().splitlines()
        return f"not resumed: {lines[-1][:100] if lines else ended.code}"

    def _wait_for_the_moment(self, draw: random.Random, run: Path, child: Child) -> None:
        """Until a random moment: of the time before the first step, after a record, or once something appears."""
        kind = draw.choices(["start", "record", "checkpoint", "pruning"], [1, 5, 3, 3])[0]
        step = self.seconds / STEPS
        if kind == "start":
            child.runs(draw.uniform(0, 0.5) * self.seconds)
            return
        last = self._records(run)
        goal = draw.randint(last + 1, max(last + 1, STEPS + STEPS // VALIDATE_EVERY))
        while child.runs(0.004):
            if self._records(run) < goal:
                continue
            if kind == "record":
                child.runs(draw.choice([1, 2]) * step * draw.random())
                return
            names = self._names(run)
            aside = [name for name in names if name.startswith(".writing-" if kind == "checkpoint" else ".removing-")]
            if aside or (kind == "pruning" and len(names) > 2):
                child.runs(0.05 * draw.random() ** 3)
                return

    @staticmethod
    def _records(run: Path) -> int:
        try:
            return (run / "metrics.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    @staticmethod
    def _names(run: Path) -> list[str]:
        try:
            return os.listdir(run / "checkpoints")
        except OSError:
            return []

    def _where(self, run: Path) -> str:
        """What a killed run was doing, by what it left."""
        names = self._names(run)
        if any(name.startswith(".writing-") for name in names):
            return "writing a checkpoint"
        if any(name.startswith(".removing-") for name in names) or len(names) > 2:
            return "pruning"
        try:
            last = json.loads((run / "metrics.jsonl").read_bytes().split(b"\n")[-2])
        except (OSError, IndexError, ValueError):
            return "before the first step"
        if last["step"] == STEPS:
            return "at the end"
        if last["kind"] == "train" and last["step"] % VALIDATE_EVERY == 0:
            return "validating"
        return "training"

    @staticmethod
    def _result(run: Path) -> dict[str, object]:
        """What two equal runs have in common: records, but for what a clock measured, and files of the last model."""
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]
        last = max(path for path in (run / "checkpoints").iterdir() if path.name.startswith("step-"))
        files = json.loads((last / "record.json").read_text())["files"]
        return {"records": records, "checkpoint": (last.name, files)}


class Flips(Trial):
    """A byte of a checkpoint flipped, then a sample asked for."""

    good = ("older checkpoint used, and said", "refused")

    def prepare(self) -> None:
        """A run."""
        self.run = self.scratch / "flipped"
        self.must_run(train(self.run, "--max-steps", 4))

    def __call__(self, draw: random.Random, folder: Path) -> str:
        run = folder / "run"
        shutil.copytree(self.run, run)
        newest = max(path for path in (run / "checkpoints").iterdir() if path.is_dir())
        path = draw.choice(sorted(path for path in newest.iterdir() if path.is_file()))
        content = bytearray(path.read_bytes())
        at, bit = draw.randrange(len(content)), draw.randrange(8)
        content[at] ^= 1 << bit
        path.write_bytes(content)
        self.made = f"bit {bit} of byte {at} of {path.name}"
        ended = self.program.run(["sample", run, "-n", 1, "-o", folder / "a.npz"])
        if "unexpected" in ended.printed:
            return f"unexpected error: {path.name}"
        if ended.code == 0:
            return "older checkpoint used, and said" if "; using step-" in ended.printed else "NOT NOTICED"
        return "refused"


class Judged(Trial):
    """Hostile inputs: whatever becomes of them, it is foreseen, quick and small."""

    good = ("refused", "accepted", "failed with a message")

    def judge(self, words: Sequence[object]) -> str:
        """Run a command; what became of it."""
        ended = self.program.run(words, CLOCK)
        self.peak, self.slowest = max(self.peak, ended.peak), max(self.slowest, ended.seconds)
        if ended.code == TIMED_OUT or ended.seconds > SECONDS:
            return "TOO SLOW"
        if ended.peak > MEBIBYTES:
            return "TOO MUCH MEMORY"
        if "unexpected error" in ended.printed or "Traceback" in ended.printed or ended.code not in (0, 1, 2):
            return "UNEXPECTED"
        if "\x1b[2J" in ended.printed or "\x1b[31m" in ended.printed:
            return "ESCAPE SEQUENCE OF THE INPUT PRINTED"
        return {0: "accepted", 1: "failed with a message", 2: "refused"}[ended.code]

    peak = slowest = 0.0


class Settings(Judged):
    """Senseless settings, and damaged files of settings, for a dry run."""

    def prepare(self) -> None:
        """Keys of both modalities, and whole configurations as files."""
        from unite_mm.registry import discover
        from unite_mm.utils.schema_tree import dotted_keys
        from unite_mm_schemas.config import RunConfig

        self.keys, self.files = {}, {}
        for name in ("image", "qm9"):
            own = discover().get(name).load_configuration()
            self.keys[name] = [*dotted_keys(RunConfig), *dotted_keys(own, f"{name}.")]
            config = RunConfig().model_dump(mode="json")
            config |= {"modalities": {name: {"config": own().model_dump(mode="json")}}}
            self.files[name] = config

    def __call__(self, draw: random.Random, folder: Path) -> str:
        name = draw.choice(["image", "qm9"])
        words = ["train", "--modality", name, "--data", "shapes" if name == "image" else "embedded", "--max-steps", "3"]
        words += ["--out", str(folder / "run"), "--dry-run"]
        if draw.random() < 0.6:
            for _ in range(draw.choice([1, 1, 2])):
                words += ["--set", f"{draw.choice(self.keys[name])}={draw.choice(SENSELESS)}"]
            self.made = " ".join(word if len(word) < 200 else f"{word[:80]}... ({len(word)})" for word in words)
            return self.judge(words)
        path = folder / "run.yaml"
        path.write_bytes(self._file(draw, name))
        self.made = f"{' '.join(words)} --config FILE: {path.read_bytes()[:20_000]!r}"
        return self.judge([*words, "--config", path])

    def _file(self, draw: random.Random, name: str) -> bytes:
        """A file of settings with a value, a key or some bytes changed."""
        import yaml

        config = json.loads(json.dumps(self.files[name]))
        kind = draw.choice(["value", "value", "key", "section", "part", "bytes"])
        places = list(_places(config))
        section, key = draw.choice(places)
        if kind == "value":
            section[key] = "HERE"
            return yaml.safe_dump(config).replace("HERE", draw.choice(SENSELESS)).encode()
        if kind == "key":
            section[draw.choice(["HERE", f"{key}x", "", "kind", "a" * 5000, "a.b"])] = section.pop(key)
            return yaml.safe_dump(config).replace("HERE", draw.choice(SENSELESS)).encode()
        if kind == "section":
            other, place = draw.choice(places)
            section[key] = json.loads(json.dumps(other[place]))
        if kind == "part":
            config = {key: section[key]}
        text = yaml.safe_dump(config, default_flow_style=draw.random() < 0.3).encode()
        return damaged(draw, text)[0] if kind == "bytes" else text


def _places(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for key, value in list(values.items()):
        yield values, key
        if isinstance(value, dict):
            yield from _places(value)


def damaged(draw: random.Random, whole: bytes) -> tuple[bytes, str]:
    """Bytes damaged at random, and how."""
    content = bytearray(whole)
    kind, where = (
        draw.choice(["flip", "flip", "cut", "repeat", "insert", "insert", "replace"]),
        draw.randrange(len(whole)),
    )
    if kind == "flip":
        count = draw.choice([1, 1, 4, 32])
        for _ in range(count):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(content), f"{count} bits flipped"
    if kind == "cut":
        return bytes(content[:where]), f"cut at byte {where}"
    if kind == "repeat":
        content[where:where] = content[where : where + draw.randrange(1, 400)]
        return bytes(content), f"bytes repeated at {where}"
    token = draw.choice(TOKENS)
    content[where : where + (len(token) if kind == "replace" else 0)] = token
    return bytes(content), f"{kind} {token[:20]!r} at byte {where}"


class Files(Judged):
    """A file of samples damaged at random, then scored, prepared or reconstructed."""

    def prepare(self) -> None:
        """Sound files of every kind that is read."""
        made = self.scratch / "sound"
        made.mkdir()
        self._molecules(made)
        self.run = self.scratch / "pictures"
        self.must_run(train(self.run, "--max-steps", 2))
        self.must_run(["sample", self.run, "-n", 4, "-o", made / "pictures.npz"])
        self._images(made)
        self.files = sorted(path for path in made.iterdir() if path.is_file())

    @staticmethod
    def _molecules(made: Path) -> None:
        """Molecules in every format, the same six."""
        import torch
        from rdkit import Chem

        from unite_mm.contract import DataRequest
        from unite_mm.registry import discover

        plugin = discover().get("qm9")
        modality = plugin.load_implementation()(plugin.validate({}), "qm9")
        data = modality.open_data(DataRequest("embedded", made.parent / "cache", workers=1))
        samples = data.samples("test", torch.arange(6))
        for suffix in (".sdf", ".xyz", ".smi", ".npz"):
            modality.write(samples, made / f"molecules{suffix}")
        molecules = [sample.to_rdkit() for sample in samples]
        v3000 = "".join(f"{Chem.MolToMolBlock(molecule, forceV3000=True)}$$$$\n" for molecule in molecules)
        (made / "extended.sdf").write_text(v3000)
        (made / "one.mol").write_text(Chem.MolToMolBlock(molecules[0]))
        rows = [f"{number},{Chem.MolToSmiles(molecule)},0.5" for number, molecule in enumerate(molecules)]
        (made / "table.csv").write_text("\n".join(["id,smiles,gap", *rows]) + "\n")
        (made / "ethanol.mol2").write_text(MOL2)
        (made / "raw.xyz").write_text(RAW_XYZ)
        (made / "columns.xyz").write_text(COLUMNS_XYZ)

    @staticmethod
    def _images(made: Path) -> None:
        """Images in common formats, drawn at random."""
        from PIL import Image

        noise = random.Random(0).randbytes(32 * 32 * 3)
        for suffix, kind in (
            (".png", "RGB"),
            (".jpg", "RGB"),
            (".gif", "P"),
            (".webp", "RGB"),
            (".tif", "L"),
            (".bmp", "1"),
        ):
            Image.frombytes("RGB", (32, 32), noise).convert(kind).save(made / f"noise{suffix}")

    def __call__(self, draw: random.Random, folder: Path) -> str:
        whole = draw.choice(self.files)
        content, how = damaged(draw, whole.read_bytes())
        modality = "image" if whole.stem in ("noise", "pictures") else "qm9"
        text = modality == "qm9" and whole.suffix != ".npz"
        inside = draw.choice(["", "", ".gz", ".bz2"]) if text else ""
        path = folder / f"damaged{whole.suffix}{inside}"
        packed = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[inside](content)
        if inside and draw.random() < 0.5:
            packed, more = damaged(draw, packed)
            how += f"; {more}"
        if draw.random() < 0.2:
            path, packed, more = self._in_zip(draw, path, packed)
            how += more
        path.write_bytes(packed)
        if modality == "image" and path.suffix not in (".npz", ".zip"):
            inner = folder / "images" / draw.choice(["a", "."])
            inner.mkdir(parents=True)
            for number in range(2):
                shutil.copy(self.scratch / "sound" / "noise.png", inner / f"sound-{number}.png")
            shutil.move(path, inner / path.name)
            path = folder / "images"
        data = "embedded" if modality == "qm9" else "shapes"
        uses: list[list[object]] = [
            ["evaluate", "--modality", modality, "--data", data, "--samples", path, "--workers", "1"],
            ["data", "info", "--modality", modality, "--data", path, "--cache", folder / "cache", "--workers", "1"],
            ["reconstruct", "qm9-tiny" if modality == "qm9" else self.run, path, "-o", folder / "out.npz"],
        ]
        if modality == "image":
            uses[1] += ["--set", "image.size=32"]
        if modality == "qm9":
            uses[0] += ["--no-pictures", "--set", "qm9.metrics.ceiling=0", "--set", "qm9.metrics.fcd=false"]
        words = draw.choices(uses, [5, 4, 2])[0]
        self.made = f"{whole.name}, {how}: {' '.join(map(str, words))}"
        return self.judge(words)

    @staticmethod
    def _in_zip(draw: random.Random, path: Path, content: bytes) -> tuple[Path, bytes, str]:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            archive.writestr(path.name, content)
        packed, how = stream.getvalue(), "; in a zip"
        if draw.random() < 0.5:
            packed, more = damaged(draw, packed)
            how += f", {more}"
        return path.with_name("damaged.zip"), packed, how


class Runs(Judged):
    """A text file of a run folder changed, then the run resumed, scored, or asked for a sample."""

    def prepare(self) -> None:
        """A run."""
        self.run = self.scratch / "changed"
        self.must_run(train(self.run, "--max-steps", 4, "--set", "train.keep_checkpoints=1"))

    def __call__(self, draw: random.Random, folder: Path) -> str:
        run = folder / "run"
        shutil.copytree(self.run, run)
        newest = max(path for path in (run / "checkpoints").iterdir() if path.is_dir())
        texts = [run / "config.json", run / "data-card-image.json", run / "metrics.jsonl", newest / "record.json"]
        path = draw.choice(texts)
        whole = path.read_bytes()
        if path.suffix == ".jsonl" or draw.random() < 0.4:
            content, how = damaged(draw, whole)
        else:
            values = json.loads(whole)
            section, key = draw.choice(list(_places(values)))
            value = draw.choice(ODD)
            if value is None and draw.random() < 0.5:
                del section[key]
            else:
                section[key] = value
            content, how = json.dumps(values).encode(), f"{key} {str(value)[:40]!r}"
            if path.name == "record.json" and draw.random() < 0.7:
                from unite_mm.storage.checkpoint import checksum

                content = json.dumps({**values, "checksum": checksum(values)}).encode()
        path.write_bytes(content)
        uses: list[list[object]] = [
            ["train", "--resume", "--out", run, "--max-steps", 6],
            ["sample", run, "-n", 1, "-o", folder / "a.npz"],
        ]
        words = draw.choice(uses)
        self.made = f"{path.name}, {how}: {' '.join(map(str, words))}"
        return self.judge(words)


ODD = (
    None,
    None,
    None,
    -1,
    0,
    2**70,
    1e308,
    "",
    "x",
    "\x1b[2J",
    [],
    {},
    [[[]]],
    True,
    float("inf"),
    float("nan"),
    [1] * 9,
)
"""Values that stand where others belong."""

MOL2 = """@<TRIPOS>MOLECULE
methanol
6 5 0 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
1 C1 0.000 0.000 0.000 C.3
2 O1 1.400 0.000 0.000 O.3
3 H1 -0.360 1.030 0.000 H
4 H2 -0.360 -0.510 0.890 H
5 H3 -0.360 -0.510 -0.890 H
6 H4 1.720 0.900 0.000 H
@<TRIPOS>BOND
1 1 2 1
2 1 3 1
3 1 4 1
4 1 5 1
5 2 6 1
"""
RAW_XYZ = """3
gdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t-76.404702\t-76.40187\t-76.400922\t-76.422349\t6.002\t
O\t-0.0343604951\t 0.9775395708\t 0.0076015923\t-0.589706
H\t 0.0647664923\t 0.0205721989\t 0.0015346341\t 0.294853
H\t 0.8717903737\t 1.3007924048\t 0.0006931336\t 0.294853
1671.4222\t3803.6305\t3907.698
O\tO\t
InChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2
"""  # noqa: E501
COLUMNS_XYZ = """3
Properties=species:S:1:pos:R:3:tags:I:1 Lattice="9 0 0 0 9 0 0 0 9" pbc="F F F"
O -0.034 0.978 0.008 1
H 0.065 0.021 0.002 0
H 0.872 1.301 0.001 0
"""

KINDS: dict[str, tuple[type[Trial], int]] = {
    "kills": (Kills, 200),
    "flips": (Flips, 200),
    "settings": (Settings, 1000),
    "files": (Files, 500),
    "runs": (Runs, 200),
}
"""Kinds of trials, and how many are made where nothing is said."""


def main() -> None:
    """Run the trials of one kind, or of all, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("--count", type=int, help="number of trials of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first trial")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())  # an object that removes it would do so at the end of every child
    os.environ["UNITE_MM_CACHE"] = str(scratch / "cache")
    bad = 0
    try:
        program = Program(scratch)
        program.import_what_it_needs(train(scratch / "first", "--max-steps", 1), ["plugins", "check", "qm9"])
        for kind in KINDS if arguments.kind == "all" else [arguments.kind]:
            make, usual = KINDS[kind]
            trial = make(scratch, program)
            bad += make_trials(
                trial, kind, arguments.seed, range(arguments.start, arguments.start + (arguments.count or usual))
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(bool(bad))


def make_trials(trial: Trial, kind: str, seed: int, numbers: range) -> int:
    """Make trials of one kind and print what became of them; returns how many were bad."""
    outcomes: Counter[str] = Counter()
    begun = time.monotonic()
    for number in numbers:
        folder = trial.scratch / f"trial-{number}"
        folder.mkdir()
        outcome = trial(random.Random(f"{seed} {kind} {number}"), folder)
        shutil.rmtree(folder, ignore_errors=True)
        outcomes[outcome] += 1
        if outcome not in trial.good:
            said = trial.program.last.printed[-600:] if trial.program.last else ""
            print(f"{kind} {number}: {outcome}\n  {trial.made}\n  again: {sys.argv[0]} {kind} --seed {seed}", end=" ")
            print(f"--start {number} --count 1\n  said: {said!r}", flush=True)
        if (number + 1) % 20 == 0:
            print(
                f"{sum(outcomes.values())} of {len(numbers)}, {time.monotonic() - begun:.0f} s: {dict(outcomes)}",
                flush=True,
            )
    print(f"{kind}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()), flush=True)
    if trial.hit:
        print(f"{sum(trial.hit.values())} kills: " + ", ".join(f"{n} {what}" for what, n in trial.hit.most_common()))
    if isinstance(trial, Judged):
        print(f"at most {trial.slowest:.1f} s and {trial.peak:.0f} MiB")
    return sum(number for outcome, number in outcomes.items() if outcome not in trial.good)


if __name__ == "__main__":
    main()
