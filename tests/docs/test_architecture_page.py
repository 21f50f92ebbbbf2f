"""docs/architecture.md is in step with the tree: what it names exists, and no package of the core is left out."""

import re
from collections.abc import Iterator
from pathlib import Path

from helpers.repository import ROOT

PAGE = ROOT / "docs" / "architecture.md"
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
ENTRY = re.compile(r"^(\s*)([\w.-]+(?:/[\w.-]+)*(?:/|\.\w+))((?:, [\w.-]+\.\w+)*)(?:\s|$)")
"""A line of a tree: a folder or file, and further files of the same folder after commas."""


def paths_in_text(text: str) -> Iterator[str]:
    """Paths of the repository in backticks: those that begin with a folder or file of its root."""
    for quoted in INLINE.findall(FENCE.sub("", text)):
        for word in re.findall(r"[\w./-]+", quoted):
            if "/" in word and (ROOT / word.partition("/")[0]).is_dir():
                yield word.rstrip(".")


def paths_in_trees(text: str) -> Iterator[str]:
    """Paths of the trees drawn in code blocks, each line inside the folder that is indented less."""
    for block in FENCE.findall(text):
        around: list[tuple[int, Path]] = []
        for line in block.splitlines():
            found = ENTRY.match(line)
            if not found:
                continue
            indent, name = len(found[1]), found[2]
            around = [entry for entry in around if entry[0] < indent]
            folder = around[-1][1] if around else Path()
            if not around and not (ROOT / name.partition("/")[0]).exists():
                continue  # a word of a drawing
            yield (folder / name).as_posix()
            yield from ((folder / name).with_name(other).as_posix() for other in re.findall(r"[\w.-]+\.\w+", found[3]))
            if name.endswith("/"):
                around.append((indent, folder / name))


def named() -> set[str]:
    text = PAGE.read_text(encoding="utf-8")
    return {path.strip("/") for path in (*paths_in_text(text), *paths_in_trees(text))}


def test_every_path_it_names_exists() -> None:
    assert len(named()) > 10
    assert not [path for path in sorted(named()) if not (ROOT / path).exists()]


def test_every_package_of_the_core_is_named() -> None:
    packages = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "unite_mm").rglob("__init__.py")}
    around = {parent.as_posix() for path in named() for parent in (Path(path), *Path(path).parents)}
    assert not sorted(packages - around)


def test_paths_are_found_in_backticks_and_in_trees() -> None:
    text = """
Calls go from `unite_mm/cli/main.py: run` to `docs/absent.md`; a run writes `checkpoints/step-1/` and `record.json`.

```
unite_mm/            the core
  config/              a package
    options.py, resolve.py  two files
  absent.py            another
plugins/unite_mm_image/data/  of a plugin
loss --> [ trunk.py ] --> 3
```
"""
    assert sorted(paths_in_text(text)) == ["docs/absent.md", "unite_mm/cli/main.py"]
    assert list(paths_in_trees(text)) == [
        "unite_mm",
        "unite_mm/config",
        "unite_mm/config/options.py",
        "unite_mm/config/resolve.py",
        "unite_mm/absent.py",
        "plugins/unite_mm_image/data",
    ]
