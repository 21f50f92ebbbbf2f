"""The gallery: pictures are there and small, their commands are understood, and one of them is made for real."""

import re
import runpy
from pathlib import Path
from typing import Any

import click
import pytest
from helpers.repository import ROOT
from PIL import Image

from unite_mm.cli.main import cli

SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "gallery.py"))
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
IMAGES = ROOT / "docs" / "images"
ENTRIES = SCRIPT["entries"](PAGE)
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.picture)


def test_every_picture_of_the_page_has_commands_and_every_block_a_picture() -> None:
    assert [entry.picture for entry in ENTRIES] == re.findall(r"!\[[^\]]+\]\(images/([\w.-]+)\)", PAGE)
    assert len(re.findall(r"^```\n(?=unite-mm)", PAGE, re.MULTILINE)) == len(ENTRIES)
    assert [entry.picture for entry in ENTRIES if entry.trains] == ["shapes.png", "cifar10.png"]


@each_entry
def test_a_picture_exists_and_its_commands_are_understood(entry: Any) -> None:
    with Image.open(IMAGES / entry.picture) as picture:
        assert picture.format == "PNG" and min(picture.size) > 200
    for program, name, *arguments in entry.commands:
        if program == "unite-mm":
            command = cli.get_command(click.Context(cli), name)
            assert command is not None, name
            command.make_context(name, arguments)
            assert (name == "train") <= entry.trains
        else:
            assert program == "python" and (ROOT / name).is_file()


def test_pictures_are_small() -> None:
    assert sum((IMAGES / entry.picture).stat().st_size for entry in ENTRIES) < 600_000


def test_a_picture_is_made_anew(tmp_path: Path) -> None:
    entry = next(entry for entry in ENTRIES if entry.picture == "variations.png")
    (images := tmp_path / "images").mkdir()
    made = SCRIPT["make"](entry, tmp_path, images)
    with Image.open(made) as new, Image.open(IMAGES / entry.picture) as kept:
        assert new.size == kept.size
        assert new.convert("L").getextrema() == (0, 255)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("unite-mm models list", "its commands do not write it"),
        ("unite-mm models show nothing", "exit code 2 of: unite-mm models show nothing"),
        ("python scripts/no-such-script.py a.png", "a.png: exit code 2 of: python scripts/no-such-script.py a.png"),
    ],
)
def test_what_goes_wrong_is_said(block: str, message: str, tmp_path: Path) -> None:
    (entry,) = SCRIPT["entries"](f"# A page\n\n```\n{block}\n```\n\n![A picture](images/a.png)\n")
    with pytest.raises(RuntimeError, match=re.escape(message)):
        SCRIPT["make"](entry, tmp_path, tmp_path)
