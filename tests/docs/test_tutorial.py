"""docs/writing-a-modality.md is run block by block: files are written, commands and Python executed, in their order.

What differs from a reader's afternoon: pip installs into a folder of its own and without network, and training is cut
to a few steps.
"""

import re
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.distributions import importable, install
from helpers.repository import ROOT

from unite_mm.cli.main import run

PAGE = ROOT / "docs" / "writing-a-modality.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+/[\w.-]+\.(?:py|toml|yaml))(, continued)?\n")

CUT = ["--max-steps", "2", "--set", "sampling.steps=2"]


def write(text: str, folder: Path) -> bool:
    """Write or continue the file that the first line of a block names; whether there is one."""
    match = FILE.match(text)
    if match is None:
        return False
    path = folder / match[1]
    assert path.exists() == bool(match[2]), f"{match[1]}: is it continued?"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text if not match[2] else text.partition("\n")[2])
    return True


def execute(line: str, folder: Path, stack: ExitStack) -> None:
    """Run a command of the page."""
    program, *words = shlex.split(line, comments=True)
    if program == "pip":
        assert words[:2] == ["install", "-e"]
        install(folder / words[2], folder / "site")
        stack.enter_context(importable(folder / "site"))
        return
    assert program == "unite-mm", line
    assert run([*words, *(CUT if words[0] == "train" else [])]) == 0, line


def test_the_tutorial_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    executed = []
    with ExitStack() as stack:
        for language, text in BLOCKS:
            if write(text, tmp_path):
                continue
            if language == "python":
                exec(compile(text, PAGE.name, "exec"), {})
                executed.append("python")
                continue
            assert language == "", f"what is to be done with a block of {language}?"
            for line in text.splitlines():
                execute(line, tmp_path, stack)
                executed.append(" ".join(line.split()[:2]))
        out = capsys.readouterr().out
        assert "my-melodies 0.1.0" in out
        assert "torch.Size([2, 9, 8])" in out
        compile((tmp_path / "my-melodies" / "tests" / "test_melodies.py").read_text(), "test_melodies.py", "exec")
    assert {"unite-mm train", "unite-mm evaluate", "unite-mm sample", "unite-mm reconstruct", "python"} <= set(executed)
    assert (tmp_path / "high.png").is_file() and (tmp_path / "runs" / "mine").is_dir()
    assert not [name for name in sys.modules if name.startswith("my_melodies")]
