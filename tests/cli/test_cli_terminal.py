"""Whatever data hold, the terminal shows it on one line and obeys none of it."""

import ast
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.made_up_plugins import FakePlugin
from helpers.repository import ROOT
from rich.console import Console

from unite_mm.cli.main import explain, run
from unite_mm.cli.progress import TerminalProgress
from unite_mm.cli.tables import print_card, print_report, print_rows
from unite_mm.cli.terminal import prepare_streams, say
from unite_mm.errors import UniteError, UsageError
from unite_mm.utils.text import LONGEST_LINE, printable
from unite_mm_schemas.card import DataCard, Exclusion, SourceFile
from unite_mm_schemas.metrics import Histogram, Metric, MetricsReport, Score, Sweep, SweepPoint

CLI = ROOT / "unite_mm" / "cli"

NASTY = "a\x1b[2J\x1b]0;t\x07\nerror: forged\r\x08\x9b31m\u202eb\u2028c\udcff[bold]d[/bold]:smile:"
"""Escape sequences, line ends of several kinds, a change of direction, no text at all, and rich's markup."""

LONG = "n" * 10**6

FORBIDDEN = "\x1b\x07\r\x08\x9b\u202e\u2028\udcff"


def check_shown(text: str) -> None:
    """Nothing unprintable came through, no line was forged, and no markup was obeyed."""
    assert not set(text) & set(FORBIDDEN)
    assert not [line for line in text.splitlines() if line.startswith("error: forged")]
    assert r"\x1b[2J" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, grün, 水", "plain, grün, 水"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b", r"\x9b"),
        ("\u202e\u200b\u2028", r"\u202e\u200b\u2028"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_is_not_printable_becomes_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "error",
    [
        UsageError(NASTY),
        UsageError("x", NASTY),
        UniteError(NASTY, NASTY),
        OSError(2, "No such file", NASTY),
        ValueError(NASTY.partition("\n")[0]),
        MemoryError(NASTY.partition("\n")[0]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_one_or_two_lines(error: Exception) -> None:
    text, _ = explain(error)
    check_shown(text)
    assert len(text.split("\n")) <= 2


@pytest.mark.parametrize(
    "error", [UsageError("n" * 10**6, "h" * 10**6), OSError(36, "File name too long", "n" * 10**6)]
)
def test_a_name_of_a_megabyte_gives_a_short_message(error: Exception) -> None:
    text, _ = explain(error)
    assert len(text) < 2 * LONGEST_LINE
    assert "characters left out" in text


HOSTILE_LINES = {
    "key of --set": ["train", "--modality", "points", "--set", f"trunk.{NASTY}=3"],
    "value of --set": ["train", "--modality", "points", "--set", f"trunk.width={NASTY}"],
    "preset": ["train", "--modality", "points", "--preset", NASTY],
    "modality": ["train", "--modality", NASTY],
    "flag": ["train", f"--{NASTY}"],
    "command": [NASTY],
    "run folder": ["sample", NASTY, "-o", "x.csv"],
    "file of samples": ["evaluate", "--modality", "points", "--samples", NASTY],
    "data": ["train", "--modality", "points", "--data", NASTY, "--out", "DIR/run"],
    "configuration": ["train", "--modality", "points", "--config", NASTY],
    "schema": ["schema", NASTY],
    "name of a plugin": ["plugins", "new", NASTY],
    "plugin": ["plugins", "show", NASTY],
}


@pytest.mark.parametrize("case", HOSTILE_LINES)
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_arguments_are_shown_escaped(
    case: str, debug: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [text.replace("DIR", str(tmp_path)) for text in HOSTILE_LINES[case]]
    assert run(["--debug", *arguments] if debug else arguments) == 2
    out, err = capsys.readouterr()
    assert not set(out + err) & set(FORBIDDEN)
    assert err.count("\nerror: ") + err.startswith("error: ") == 1 or debug
    assert "unexpected" not in err


@pytest.mark.parametrize("argument", ["--set", "--data", "--config", "--preset", "--out", "--modality"])
def test_a_long_argument_gives_a_short_error(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--modality", "points", "--max-steps", "1", argument, "n" * 100_000]
    assert run(arguments) in (1, 2)
    out, err = capsys.readouterr()
    assert len(out + err) < 3 * LONGEST_LINE
    assert "unexpected" not in err


def test_keys_of_a_file_are_shown_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    for text in (r'"\e[2J\nerror: forged": 3', r'trunk: {"\e[2J\nerror: forged": 3}', r'train: {precision: "\e[2J"}'):
        file.write_text(text)
        assert run(["train", "--modality", "points", "--config", str(file)]) == 2
        err = capsys.readouterr().err
        check_shown(err)
        assert len(err.splitlines()) <= 2


def test_what_plugins_say_of_themselves_is_shown_escaped(
    fake_plugin: Callable[[], FakePlugin], capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = NASTY.replace("\udcff", "")  # no YAML has it
    good, broken = fake_plugin(), fake_plugin()
    good.files["__init__.py"] = ""
    good.manifest["description"] = nasty
    for section in ("presets", "sources", "formats"):
        good.manifest[section] = [{**entry, "description": nasty} for entry in good.manifest[section]]
    importer = {"name": "official", "function": "a.b:c", "description": nasty}
    good.manifest["importers"] = [{**importer, "options": [{"name": "odd", "description": nasty}]}]
    broken.distribution, broken.entry = "spots-plugin", ("spots", broken.entry[1])
    broken.manifest = {**broken.manifest, "name": nasty, nasty: 3}
    good.install()
    broken.install()
    for arguments in (
        *(["plugins", "list"], ["plugins", "list", "--debug"], ["plugins", "show", "dots"]),
        *(["import-official", "--help"], ["plugins", "check", "spots"], ["train", "--modality", "spots"]),
    ):
        run(arguments)
        out, err = capsys.readouterr()
        check_shown(out + err)


def test_tables_show_everything_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    metric = Metric(name=NASTY, title=NASTY, value=1.0, unit=NASTY, definition=NASTY)
    histogram = Histogram(name=NASTY, title=NASTY, samples={NASTY: 1.0}, reference={NASTY: 1.0}, total_variation=0.1)
    score = Score(kind=NASTY, metrics=(metric,), histograms=(histogram,), notes=(NASTY,))
    sweep = Sweep(setting=NASTY, metric=NASTY, title=NASTY, points=(SweepPoint(value=1.0, score=score),), best=1.0)
    report = MetricsReport(modality="m", data=NASTY, source=NASTY, scores=(score,), sweep=sweep)
    card = DataCard(
        modality=NASTY,
        name=NASTY,
        description=NASTY,
        read=2,
        kept=1,
        excluded=(Exclusion(reason=NASTY, count=1, examples=(NASTY,)),),
        splits={NASTY: 1},
        files=(SourceFile(name=NASTY, bytes=1, sha256=NASTY),),
        split_hash=NASTY,
        notes=(NASTY,),
        settings={NASTY: NASTY},
    )
    for show in (
        lambda: print_report(report),
        lambda: print_card(card),
        lambda: print_rows([(NASTY, NASTY)], (NASTY, NASTY), NASTY),
        lambda: say(NASTY),
    ):
        show()
        check_shown(capsys.readouterr().out.replace("\n ", " "))


@pytest.mark.parametrize("terminal", [False, True], ids=["log", "bars"])
def test_progress_shows_everything_escaped(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unite_mm.cli.progress.LINE_EVERY", 0)
    monkeypatch.setattr("unite_mm.cli.progress.WORTH_A_LINE", 0)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=500, color_system=None, legacy_windows=False)
    nasty = NASTY.replace("\x1b[2J", "\x1b[9999J")
    with TerminalProgress(console) as progress:
        progress.say(nasty)
        with progress.task(nasty, 2) as advance:
            progress.note(nasty)
            advance(1)
    shown = stream.getvalue()
    assert "\x1b[9999J" not in shown
    assert r"\x1b[9999J" in shown
    assert "\x07" not in shown and "\u202e" not in shown and "\nerror: forged" not in shown


def test_warnings_are_escaped_and_no_character_stops_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    original = warnings.formatwarning
    monkeypatch.setattr(warnings, "formatwarning", original)
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    prepare_streams()
    assert "\x1b" not in warnings.formatwarning(NASTY, UserWarning, "file.py", 1, "")
    narrow.write("grün 水")


def test_only_one_module_of_the_commands_prints() -> None:
    """`say` and the tables escape; what goes around them does not."""
    printing: dict[str, list[str]] = {}
    for path in sorted(CLI.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "click.echo", "click.secho"):
                printing.setdefault(path.name, []).append(ast.unparse(node))
    assert printing.keys() <= {"terminal.py", "main.py", "metadata.py"}
    for call in printing.get("main.py", []) + printing.get("metadata.py", []):
        assert "text, file" in call or "message(" in call


@pytest.mark.parametrize("module", ["unite_mm", "unite_mm.cli.main"])
def test_the_command_line_is_a_module_too(module: str) -> None:
    result = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("unite-mm ")


DAMAGED = (b"\xff\xfe", b"[torch.backends]\nx", b"[a]\n=\nb", b"garbage", b"[unite_mm.modalities]\nx", b"\0" * 50)


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_metadata_of_others_break_no_command(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "site" / "odd-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_bytes(content)
    path = os.pathsep.join([str(folder.parent), os.environ["PYTHONPATH"]])
    # This one loads torch and all that looks for extensions.
    loads_torch = content == DAMAGED[1]
    arguments = ["sample", str(tmp_path), "-o", "x.csv"] if loads_torch else ["plugins", "list"]
    command = [sys.executable, "-m", "unite_mm", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert result.returncode == 2 * loads_torch, result.stderr
    assert ("holds neither a checkpoint" in result.stderr) == loads_torch
    assert "error" not in result.stderr.partition("is left out")[0]
    if result.stderr:
        assert result.stderr.startswith(f"warning: {folder}/entry_points.txt cannot be read and is left out: ")
        assert len(result.stderr.splitlines()) == 2 + 2 * loads_torch
