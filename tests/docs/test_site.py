"""The documentation site builds strictly, without a network, and its pages lead nowhere that does not exist."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from helpers.repository import ROOT

PACKAGES = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python")
CONFIG = ROOT / "mkdocs.yml"


def installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class _Page(HTMLParser):
    """Anchors of a page, its links, and what a browser fetches to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if "src" in found:
            self.fetched.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.fetched.append(found.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    if not all(map(installed, PACKAGES)):
        pytest.skip("the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(CONFIG), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow  # building the site takes half a minute
def test_every_link_inside_the_site_leads_somewhere(pages: dict[Path, _Page]) -> None:
    wrong = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links hold wherever it is shown: they begin with /
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            named, _, anchor = unquote(link).partition("#")
            target = (path.parent / named).resolve() if named else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                wrong.append(f"{path.name}: {link}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_no_page_fetches_anything_from_elsewhere(pages: dict[Path, _Page]) -> None:
    assert [one for page in pages.values() for one in page.fetched if re.match(r"(https?:)?//", one)] == []


@pytest.mark.slow
def test_the_site_holds_every_page_and_the_python_reference(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / page.with_suffix(".html").name).is_file(), page.name
    text = (site / "python.html").read_text(encoding="utf-8")
    for name in ("from_pretrained", "generate", "encode", "decode", "variations", "interpolate", "write_latents"):
        assert name in text, name


def test_the_menu_names_every_page_but_the_experiments() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    menu = yaml.safe_load(text)["nav"]
    named = set(re.findall(r"[\w/-]+\.md", str(menu)))
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")} | {"experiments/README.md"}
