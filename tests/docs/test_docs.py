"""What the documentation tells readers to type is accepted by the program."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from helpers.repository import ROOT

from unite_mm.cli.main import cli
from unite_mm.cli.study import resolve_words
from unite_mm.config import RunOptions, resolve
from unite_mm.registry import discover
from unite_mm.studies.definition import Words
from unite_mm_schemas.manifest import ModalityManifest
from unite_mm_schemas.study import StudyConfig

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES, *sorted((ROOT / "docs").glob("*/**/*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> list[tuple[str, str]]:
    """(page, text) of the fenced blocks in these languages."""
    return [
        (page.name, text)
        for page in PAGES
        for language, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def command_lines() -> list[str]:
    lines = [
        line.strip()
        for _, text in blocks("", "sh", "bash", "console")
        for line in text.replace("\\\n", " ").splitlines()
    ]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)/", "").replace("$(QUICKSTART)", "runs/q")
    lines += [line.strip() for line in makefile.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("unite-mm ")]


def test_there_are_command_lines_to_check() -> None:
    assert len(command_lines()) > 10


@pytest.mark.parametrize("line", command_lines())
def test_a_documented_command_line_is_understood(line: str) -> None:
    arguments = shlex.split(line, comments=True)[1:]
    group, name = cli, "unite-mm"
    while isinstance(group, click.Group):
        name = arguments.pop(0)
        found = group.get_command(click.Context(group), name)
        assert found is not None, name
        group = found
    group.make_context(name, arguments)


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_a_documented_yaml_file_is_valid(page: str, text: str, tmp_path: Path) -> None:
    content = yaml.safe_load(text)
    if "contract" in content:
        ModalityManifest.model_validate(content)
        return
    if "variants" in content:
        study = StudyConfig.model_validate(content)
        for variant in study.variants:
            resolve_words(Words(study, study.base.modality or "qm9").train(variant, 0, steps=1, seconds=None))
        return
    file = tmp_path / "documented.yaml"
    file.write_text(text, encoding="utf-8")
    names = tuple(content.get("modalities", ())) or ("qm9",)
    resolve(RunOptions(modalities=names, file=file), discover())


def anchors(page: Path) -> set[str]:
    """What a link may name after `#`: the headings, as GitHub turns them into anchors."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    unnamed = [page.name for page in PAGES if page.name != "README.md" and page.name not in readme]
    assert not unnamed
