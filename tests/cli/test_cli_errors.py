"""Bad input: one or two lines on standard error, exit 2 or 1, a traceback only with --debug, nothing left behind."""

import errno
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from helpers.made_up_plugins import FakePlugin

from unite_mm.cli import main as cli_main
from unite_mm.cli.main import explain, run
from unite_mm.cli.sample import parse_condition
from unite_mm.contract import ConditionSpec
from unite_mm.errors import TrainingError, UniteError, UsageError

# The command line (RUN: a folder with a model; DIR: an empty folder; FILE: a file of samples), the exit code, and what
# must be said.
CASES = {
    "unknown command": ("trian", 2, "no such command 'trian'; did you mean 'train'?"),
    "unknown flag": ("train --modalty points", 2, "'--modality'"),
    "no modality": ("train", 2, "no modality given"),
    "unknown modality": ("train --modality point", 2, "did you mean 'points'?"),
    "misspelt key": ("train --modality points --set trunk.widht=3", 2, "did you mean 'width'?"),
    "two lengths": ("train --modality points --max-steps 3 --max-time 3m", 2, "exclude each other"),
    "bad duration": ("train --modality points --max-time soon", 2, "'soon' is not a duration"),
    "bad precision": ("train --modality points --precision fp8", 2, "train.precision"),
    "missing configuration": ("train --modality points --config DIR/absent.yaml", 2, "cannot read DIR/absent.yaml"),
    "unknown source": ("train --modality points --data circle --out DIR/run", 2, "knows no data source 'circle'"),
    "folder in use": ("train --modality points --out RUN", 2, "RUN is not empty"),
    "resume of nothing": ("train --resume --out DIR", 2, "DIR holds no run"),
    "resume of nowhere": ("train --resume", 2, "--resume needs the run folder"),
    "resume of another shape": ("train --resume --out RUN --set trunk.width=64", 2, "trunk.width cannot change"),
    "evaluate nothing": ("evaluate", 2, "nothing to evaluate"),
    "evaluate no model": ("evaluate DIR", 2, "DIR holds neither a checkpoint nor an exported model"),
    "evaluate a file": ("evaluate FILE", 2, "FILE is a file, and a model is a folder"),
    "evaluate nowhere": ("evaluate DIR/absent", 2, "DIR/absent does not exist"),
    "evaluate no number": ("evaluate RUN --samples many", 2, "expected a number"),
    "evaluate no split": ("evaluate RUN --split train", 2, "'train' is not one of 'test', 'validation'"),
    "evaluate with settings": (
        "evaluate RUN --set points.channels=2",
        2,
        "the configuration of a trained model cannot change",
    ),
    "evaluate by another network": ("evaluate RUN --features FILE", 2, "--features: modality 'points' has no such"),
    "evaluate pairs by a model": (
        "evaluate RUN --reconstructions-of FILE",
        2,
        "--reconstructions-of cannot be used with",
    ),
    "sweep of no range": ("evaluate RUN --sweep 1:2", 2, "--sweep 1:2: not of the form START:STOP:STEP"),
    "sweep backwards": ("evaluate RUN --sweep 2:1:0.5", 2, "not of the form START:STOP:STEP"),
    "sweep without end": ("evaluate RUN --sweep 1:4:0.0001", 2, "30,001 points"),
    "sweep and guidance": ("evaluate RUN --sweep 1:2:1 --guidance 2", 2, "leave --guidance out"),
    "sweep of nothing": ("evaluate RUN --sweep 1:2:1 --samples 0", 2, "no samples are to be generated"),
    "guidance nowhere": ("evaluate RUN --guidance-interval 1.0:0.1", 2, "LOW must be from 0 to below HIGH"),
    "guidance in words": ("sample RUN -o DIR/x.csv --guidance-interval late", 2, "not of the form LOW:HIGH"),
    "score without modality": ("evaluate --samples FILE", 2, "nothing to evaluate"),
    "score no file": ("evaluate --modality points --samples DIR/absent.csv", 2, "DIR/absent.csv does not exist"),
    "score with labels": ("evaluate --modality points --samples FILE --labels random", 2, "--labels needs a "),
    "score with an interval": (
        "evaluate --modality points --samples FILE --guidance-interval 0:1",
        2,
        "--guidance-interval needs a ",
    ),
    "score with a reference": (
        "evaluate --modality points --samples FILE --reference ring",
        2,
        "--reference needs a ",
    ),
    "score unequal pairs": (
        "evaluate --modality points --samples FILE --reconstructions-of EMPTY",
        2,
        "as many as their inputs",
    ),
    "score with steps": ("evaluate --modality points --samples FILE --steps 3", 2, "--steps needs a "),
    "score an empty file": ("evaluate --modality points --samples EMPTY", 2, "EMPTY holds no sample"),
    "sample no model": ("sample DIR -o DIR/x.csv", 2, "holds neither"),
    "sample to no format": ("sample RUN -o DIR/x.sdf", 2, "formats: .csv"),
    "sample to a folder": ("sample RUN -o DIR", 2, "modality 'points' cannot write this format"),
    "sample none": ("sample RUN -n 0 -o DIR/x.csv", 2, "0 is not in the range"),
    "sample by no solver": ("sample RUN -o DIR/x.csv --solver magic", 2, "--solver: input should be 'euler'"),
    "sample in no step": ("sample RUN -o DIR/x.csv --steps 0", 2, "--steps: input should be greater"),
    "sample one class and all": ("sample RUN -o DIR/x.csv --condition 1 --labels random", 2, "exclude each other"),
    "sample no class": ("sample RUN -o DIR/x.csv --condition 4", 2, "give a number from 0 to 3"),
    "sample other modality": ("sample RUN -o DIR/x.csv --modality image", 2, "knows no 'image'"),
    "sample on no device": ("sample RUN -o DIR/x.csv --device abacus", 2, "cannot compute on --device abacus"),
    "reconstruct no file": ("reconstruct RUN DIR/absent.csv -o DIR/x.csv", 2, "DIR/absent.csv does not exist"),
    "reconstruct what does not fit": ("reconstruct RUN LONG -o DIR/x.csv", 2, "a sample has 4 points"),
    "reconstruct an empty file": ("reconstruct RUN EMPTY -o DIR/x.csv", 2, "EMPTY holds no sample"),
    "fetch of nothing": ("data fetch", 2, "'--modality'"),
    "fetch of another's settings": ("data fetch --modality points --set trunk.width=3", 2, "only points.KEY=VALUE"),
    "unknown schema": ("schema rnu", 2, "did you mean 'run'?"),
    "schema of two things": ("schema run --modality points", 2, "cannot be combined with"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "run"
    assert run(["train", "--modality", "points", "--max-steps", "1", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_bad_input_is_explained(case: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, code, message = CASES[case]
    folder = tmp_path / "folder"
    folder.mkdir()
    files = {"FILE": "1,0\n", "EMPTY": "", "LONG": "1,0,1,0,1,0,1,0\n"}
    places = {"RUN": model, "DIR": folder}
    for name, text in files.items():
        places[name] = tmp_path / f"{name.lower()}.csv"
        places[name].write_text(text)
    for name, place in places.items():
        line, message = line.replace(name, str(place)), message.replace(name, str(place))
    before = sorted(path.name for path in model.iterdir())
    capsys.readouterr()
    assert run(line.split()) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    said = [text for text in err.splitlines() if text.startswith(("error: ", "  "))]
    assert len(said) <= 2
    assert not list(folder.rglob("*"))
    assert sorted(path.name for path in model.iterdir()) == before


def test_a_failed_run_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--set", "points.nan_after=0", "--out", str(tmp_path / "run")]
    assert run(["train", "--modality", "points", *flags]) == 1
    assert "the loss stopped being finite at step 1" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--modality", "absent"]
    assert run(["--debug", *command] if place == "before" else [*command, "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.count("error: unknown modality") == 1


def test_selecting_a_broken_plugin_names_distribution_and_cause(
    fake_plugin: Callable[[], FakePlugin], capsys: pytest.CaptureFixture[str]
) -> None:
    broken, unimportable = fake_plugin(), fake_plugin()
    broken.manifest["contract"] = 99
    unimportable.distribution, unimportable.entry = "spots-plugin", ("spots", unimportable.entry[1])
    unimportable.manifest["name"] = "spots"
    broken.install()
    unimportable.install()
    assert run(["train", "--modality", "dots"]) == 2
    assert "modality 'dots' of dots-plugin 2.0 is broken: written for contract 99" in capsys.readouterr().err
    assert run(["train", "--modality", "spots"]) == 1
    err = capsys.readouterr().err
    assert "modality 'spots' of spots-plugin 2.0 cannot be loaded" in err
    assert "RuntimeError: discovery imported the package" in err


def test_plugins_list_shows_good_and_broken(
    fake_plugin: Callable[[], FakePlugin], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = fake_plugin()
    broken.manifest = "name: ["
    broken.install()
    assert run(["plugins", "list"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: " ".join(line.split()) for line in out.splitlines()}
    description = "Sets of one to three 2-D points on a ring of four clusters"
    assert rows["points"] == f"points ok 2 unite-mm-toy 0.1 {description}"
    assert rows["dots"].startswith("dots BROKEN ? dots-plugin 2.0 modality.yaml is not valid YAML")
    assert "Traceback" not in out
    assert run(["plugins", "list", "--debug"]) == 0
    assert "Traceback" in capsys.readouterr().out


OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("bad"), 2, "error: bad"),
        (UniteError("bad", "do good"), 1, "error: bad\n  do good"),
        (TrainingError("bad"), 1, "error: bad"),
        (click.Abort(), 130, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "x.sdf"), 1, "error: No space left on device: x.sdf"),
        (
            OutOfMemoryError("CUDA out of memory"),
            1,
            "error: out of memory: OutOfMemoryError: CUDA out of memory\n  lower",
        ),
        (ValueError("first\nsecond"), 1, "error: ValueError: first\n  unexpected error; run again with --debug"),
        (KeyError(), 1, "error: KeyError\n  unexpected error"),
    ],
)
def test_exit_codes_and_messages(error: BaseException, code: int, text: str) -> None:
    message, found = explain(error)
    assert found == code
    assert message.startswith(text)


COMPILE = """
import os, sys
import torch
import torch._inductor.compile_fx
from torch._inductor import config
from unite_mm.cli.main import explain

def compiled():
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(3))
    except Exception as error:
        print(*explain(error), sep="|")

for line in sys.stdin:  # a process for each, which has seen nothing of the others
    if not os.fork():
        config.cpp.cxx = (None, line.strip() or config.cpp.cxx[1])
        config.cpp_cache_precompile_headers = False  # for a single kernel they take longer than they save
        compiled()
        sys.stdout.flush()
        os._exit(0)
    os.wait()
    print("END", flush=True)
"""


@pytest.mark.slow
def test_a_missing_compiler_and_its_damaged_cache_are_named(tmp_path: Path) -> None:
    """As a machine without one has it, and as a run leaves it that was killed while it compiled."""
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TORCHINDUCTOR_VEC_ISA_OK": "1",  # no probes of the processor
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", COMPILE]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    told, answers = process.stdin, process.stdout
    assert told is not None and answers is not None

    def compiled(compiler: str = "") -> str:
        told.write(f"{compiler}\n")
        told.flush()
        return "".join(iter(answers.readline, "END\n"))

    missing = compiled(str(tmp_path / "no-such-compiler"))
    assert missing.startswith("error: train.compile: ") and missing.endswith("|1\n")
    assert "\n  install a C++ compiler (g++ or clang++), or --set train.compile=false|" in missing
    assert compiled() == ""
    for finished in ("fxgraph", "aotautograd"):  # a killed run never came to the entries of finished graphs
        shutil.rmtree(tmp_path / "cache" / finished)
    libraries = list((tmp_path / "cache").rglob("*.main.so"))  # the kernels; the others are probes of the processor
    assert libraries
    for library in libraries:
        library.write_bytes(library.read_bytes()[:100])
    damaged = compiled()
    assert damaged.startswith("error: train.compile: ") and damaged.endswith("|1\n")
    assert f"\n  if a run was killed while it compiled, delete {tmp_path / 'cache'}; or --set" in damaged
    process.communicate()
    assert process.returncode == 0


def test_a_full_disk_while_compiling_is_a_full_disk() -> None:
    from torch._inductor.exc import InductorError

    full = InductorError(OSError(errno.ENOSPC, "No space left on device", "kernel.so"), None)
    assert explain(full) == ("error: No space left on device: kernel.so", 1)
    missing = InductorError(RuntimeError("Failed to find C compiler. Please specify via CC"), None)
    assert "\n  install a C++ compiler" in explain(missing)[0]
    other = InductorError(ValueError("odd"), None)
    assert explain(other)[0].endswith(
        "ValueError: odd\n  run again with --debug to see more, or --set train.compile=false"
    )


def test_an_unforeseen_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def explode(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(cli_main.cli, "main", explode)
    assert run(["train"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ZeroDivisionError: division by zero\n  unexpected error")
    assert "Traceback" not in err


CLASSES = ConditionSpec("classes", 3, ("a", "b", "c"))
NUMBERS = ConditionSpec("numbers", 2, ("gap", "mass"))
MIXED = ConditionSpec("mixed", 2, ("gap", "mass"), classes=("a", "b"), left_open="dropped")
WHOLE = ConditionSpec("mixed", 2, ("gap", "mass"), classes=("a", "b"))


@pytest.mark.parametrize(
    ("text", "spec", "expected"),
    [
        (None, ConditionSpec(), None),
        ("b", CLASSES, 1),
        ("2", CLASSES, 2),
        ("1.5,-2", NUMBERS, [1.5, -2.0]),
        ("mass=3,gap=1", NUMBERS, [1.0, 3.0]),
        ("class=b,mass=3", MIXED, [1.0, math.nan, 3.0]),
        ("gap=1, mass = 3", MIXED, [math.nan, 1.0, 3.0]),
        ("a", MIXED, [0.0, math.nan, math.nan]),
        ("1,gap=2", MIXED, [1.0, 2.0, math.nan]),
    ],
)
def test_conditions(text: str | None, spec: ConditionSpec, expected: object) -> None:
    assert repr(parse_condition(text, spec)) == repr(expected)


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("1", ConditionSpec(), "takes no condition"),
        ("3", CLASSES, "no such class"),
        ("d", CLASSES, "no such class"),
        ("1", NUMBERS, "2 number"),
        ("1,x", NUMBERS, "2 number"),
        ("gap=1,size=2", NUMBERS, "2 number"),
        ("gap=1,2", NUMBERS, "2 number"),
        ("gap=1,gap=2", NUMBERS, "2 number"),
        ("d,gap=1", MIXED, "no such class"),
        ("class=2", MIXED, "no such class"),
        ("gap=nan", MIXED, "some of 3 number"),
        ("size=1", MIXED, "some of 3 number"),
        ("gap=1,a", MIXED, "some of 3 number"),
        ("", MIXED, "no such class"),
        ("b,gap=1", WHOLE, "3 number"),
    ],
)
def test_conditions_that_do_not_fit(text: str, spec: ConditionSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_condition(text, spec)
