"""Values of flags: numbers have bounds, names are not empty, folders exist for every user."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from unite_mm.cli import types
from unite_mm.cli.main import cli, run
from unite_mm.cli.sample import parse_condition
from unite_mm.contract import ConditionSpec
from unite_mm.errors import UsageError
from unite_mm_schemas.base import LARGEST_SEED

CHECKED_LATER = {"steps", "max_steps", "devices"}
"""Integers that become part of a configuration, whose schema has their bounds."""


def parameters(command: click.Command = cli, path: str = "") -> Iterator[tuple[str, click.Parameter]]:
    """All parameters of all commands."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from parameters(inner, f"{path} {name}".strip())
    yield from ((f"{path} {parameter.name}", parameter) for parameter in command.params)


def test_every_number_of_every_flag_has_bounds() -> None:
    found = dict(parameters())
    assert len(found) > 60
    for name, parameter in found.items():
        assert not isinstance(parameter.type, click.types.FloatParamType), name
        if type(parameter.type) is click.types.IntParamType:
            assert parameter.name in CHECKED_LATER or name.startswith("import-official"), name
        if isinstance(parameter.type, click.IntRange):
            assert parameter.type.min is not None and parameter.type.max is not None, name
    assert types.LARGEST_SEED == LARGEST_SEED


def test_no_path_of_any_flag_may_be_empty() -> None:
    paths = {name: parameter for name, parameter in parameters() if isinstance(parameter.type, click.Path)}
    assert len(paths) > 20
    for name, parameter in paths.items():
        with pytest.raises(click.BadParameter, match="empty"):
            parameter.type.convert("", parameter, None)
        assert isinstance(parameter.type, types.PathName), name


LINES = {
    "negative seed": ("sample RUN -o x.csv --seed -1", "--seed"),
    "large seed": ("sample RUN -o x.csv --seed 9223372036854775808", "--seed"),
    "seed of 5,000 digits": (f"sample RUN -o x.csv --seed {'9' * 5000}", "--seed"),
    "seed of an evaluation": ("evaluate RUN --seed -1", "--seed"),
    "seed of a reconstruction": ("reconstruct RUN in.csv -o x.csv --seed -1", "--seed"),
    "no samples": ("sample RUN -o x.csv -n 0", "--number"),
    "too many samples": ("sample RUN -o x.csv -n 99999999999", "--number"),
    "samples of 5,000 digits": (f"evaluate RUN --samples {'9' * 5000}", "--samples"),
    "too many to evaluate": ("evaluate RUN --samples 999999999", "--samples"),
    "workers": ("evaluate RUN --workers 1000000", "--workers"),
    "negative workers": ("data fetch --modality points --workers -1", "--workers"),
    "infinite temperature": ("sample RUN -o x.csv --temperature inf", "--temperature"),
    "temperature that is no number": ("sample RUN -o x.csv --temperature nan", "--temperature"),
    "interval beyond 1": ("sample RUN -o x.csv --guidance-interval 0:2", "HIGH at most 1"),
    "interval that is no number": ("sample RUN -o x.csv --churn-interval nan:1", "--churn-interval"),
    "infinite interval": ("sample RUN -o x.csv --churn-interval 0:inf", "--churn-interval"),
    "steps of 5,000 digits": (f"train --modality points --max-steps {'9' * 5000}", "--max-steps"),
    "many steps": (f"train --modality points --max-steps {'9' * 40}", "train.max_steps"),
    "negative steps": ("train --modality points --max-steps -3", "train.max_steps"),
    "long time": (f"train --modality points --max-time {'9' * 400}h", "is not a duration"),
    "longer than a life": ("train --modality points --max-time 999999999d", "train.max_time"),
    "many devices": ("train --modality points --devices 1000000", "train.devices"),
    "negative seed of a run": ("train --modality points --set train.seed=-1", "train.seed"),
    "empty cache": ("data info --modality points --cache=", "--cache"),
    "empty folder": ("train --modality points --out=", "--out"),
    "empty output": ("sample RUN -o ", "--output"),
    "empty source": ("train --modality points --data=", "names no data"),
    "empty source of a modality": ("train --modality points --data points=", "names no data"),
    "empty source to evaluate": ("evaluate RUN --data=", "--data"),
    "empty source to fetch": ("data fetch --modality points --data=", "--data"),
    "empty reference": ("evaluate RUN --reference=", "--reference"),
    "somebody else's home": ("train --modality points --data ~no-such-user/x.sdf", "no such home folder"),
}


@pytest.mark.parametrize("case", LINES)
def test_senseless_values_are_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RUN exists nowhere: values are refused before anything is looked for."""
    monkeypatch.chdir(tmp_path)
    line, message = LINES[case]
    arguments = line.split(" ")
    if case in ("samples of 5,000 digits", "too many to evaluate"):
        monkeypatch.setattr("unite_mm.cli.evaluate.load_model", lambda *_: pytest.fail("looked for"))
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) <= 2 and len(err) < 3000
    assert "unexpected" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 30, "-1", "1e3", "", " ", "٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣"])
def test_classes_that_are_no_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="no such class"):
        parse_condition(text, ConditionSpec("classes", 3))


@pytest.mark.parametrize("text", ["nan,1", "1,inf", "1e400,1", "gap=nan,mass=1"])
def test_conditions_are_finite(text: str) -> None:
    with pytest.raises(UsageError, match="number"):
        parse_condition(text, ConditionSpec("numbers", 2, ("gap", "mass")))


@pytest.mark.parametrize("named", [None, "~/cache"])
def test_without_a_home_folder_the_cache_must_be_named(named: str | None) -> None:
    """As in a container that runs as a user it does not know."""
    code = (
        "import os, pwd\nfrom unite_mm.cli.main import run\n"
        "def unknown(*_):\n    raise KeyError('no such user')\n"
        "pwd.getpwuid = pwd.getpwnam = unknown\n"
        "raise SystemExit(run(['data', 'info', '--modality', 'points']))"
    )
    dropped = ("HOME", "USER", "LOGNAME", "UNITE_MM_CACHE", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {} if named is None else {"UNITE_MM_CACHE": named}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 2, result.stderr
    assert "--cache or UNITE_MM_CACHE" in result.stderr
    assert len(result.stderr.splitlines()) == 2
