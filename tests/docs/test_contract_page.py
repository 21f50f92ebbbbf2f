"""docs/contract.md is in step with the code, and names all that the plugins shown to authors need of the core."""

import ast
import importlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import click
import pytest
from helpers.repository import ROOT, load_script

from unite_mm import contract
from unite_mm.cli.main import cli
from unite_mm_schemas.config import RunConfig

FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("scripts/contract_reference.py")


def test_the_page_is_in_step(script: ModuleType) -> None:
    stored = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    assert stored == script.reference(), "run: python scripts/contract_reference.py > docs/contract.md"


def test_the_page_holds_every_class_and_method_of_the_contract(script: ModuleType) -> None:
    page = script.reference()
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "unite_mm" / "contract").glob("*.py")]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) > 10
    for node in classes:
        assert f"\n### {node.name}\n" in page
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                required = any(ast.unparse(entry) == "abstractmethod" for entry in method.decorator_list)
                heading = re.search(rf"\n#### {node.name}\.{method.name}( \(\w+\))?\n", page)
                assert heading is not None
                assert (heading[1] == " (required)") == required


def test_the_page_holds_everything_that_the_contract_exports(script: ModuleType) -> None:
    assert {entry.name for entry in script.contract_entries()} | {"CONTRACT_VERSION"} == set(contract.__all__)


def test_the_page_holds_every_public_name_of_the_kit_with_its_text(script: ModuleType) -> None:
    page = script.reference()
    modules = script.kit_modules()
    assert {path.stem for path in (ROOT / "unite_mm" / "kit").glob("*.py")} == {
        "__init__",
        *(module.rpartition(".")[2] for module in modules),
    }
    for module in (*modules, *script.ALSO):
        assert f"\n### {module}\n" in page
        found = script.public_entries(module)
        assert found
        for entry in found:
            assert entry.text, f"{module}.{entry.name}"
            assert f"\n#### {entry.name}\n" in page
        loaded = importlib.import_module(module)
        own = {name for name, value in vars(loaded).items() if getattr(value, "__module__", "") == module}
        assert {name for name in own if not name.startswith("_")} - {"Content", "Item", "Result"} <= {
            entry.name for entry in found
        }


def test_the_name_of_a_page_section_is_a_link_that_works(script: ModuleType) -> None:
    page = script.reference()
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("#")
    }
    links = re.findall(r"\]\(#([\w-]+)\)", page)
    assert len(links) > 5
    assert set(links) <= headings


def find(name: str) -> Any:
    """What a dotted name stands for: a module, or something in one."""
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(parts[:number]))
    return found


def test_new_names_of_contract_2_exist_and_old_ones_do_not(script: ModuleType) -> None:
    for old, new in script.RENAMED.items():
        assert find(new) is not None
        with pytest.raises((ImportError, AttributeError)):
            find(old)


def test_the_other_changes_to_contract_2_are_those_of_the_code(script: ModuleType) -> None:
    assert contract.CONTRACT_VERSION == 2
    commands = [cli.get_command(click.Context(cli), name) for name in ("train", "evaluate")]
    flags = {flag for command in commands if command for parameter in command.params for flag in parameter.opts}
    assert flags >= {"--pictures", "--init-trunk", "--freeze-trunk", "--recipe"}
    assert "--drawings" not in flags
    config = RunConfig.model_validate({"schema_version": 2, "regime": {"kind": "separate"}})
    assert config.regime.kind == "separate" and not config.regime.shared_weights
    assert {"init_trunk", "freeze_trunk"} <= set(config.recipe.model_dump())
    assert not {"init_trunk", "freeze_trunk"} & set(config.train.model_dump())
    for word in (
        "default_source",
        "`(config, name)`",
        "`recipe`",
        "modality_modules.NAME",
        "`evaluations`",
        "--pictures",
    ):
        assert word in script.CHANGES


def imports(source: str) -> Iterator[tuple[str, str]]:
    """(module, name) of all that a text imports from the core or the schemas."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (
            "unite_mm",
            "unite_mm_schemas",
        ):
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("unite_mm")], ast.unparse(node)


def sources() -> dict[str, str]:
    found = {str(path): path.read_text() for path in (ROOT / "docs" / "examples").rglob("*.py")}
    templates = ROOT / "unite_mm" / "registry" / "templates"
    found |= {str(path): path.read_text() for path in templates.rglob("*.py.tmpl")}
    tutorial = (ROOT / "docs" / "writing-a-modality.md").read_text()
    return found | {f"tutorial {number}": text for number, text in enumerate(FENCE.findall(tutorial))}


def test_plugins_that_are_shown_need_nothing_that_is_not_on_the_page(script: ModuleType) -> None:
    documented = {("unite_mm.contract", name) for name in contract.__all__}
    for module in (*script.kit_modules(), *script.ALSO):
        documented |= {(module, entry.name) for entry in script.public_entries(module)}
    documented |= {(module, name) for module, names in script.SCHEMAS.items() for name in names}
    # A module may be imported as a whole: `from unite_mm import contract`, `from unite_mm.kit import defaults`.
    documented |= {tuple(module.rsplit(".", 1)) for module, _ in documented if module.startswith("unite_mm.")}
    documented |= {("unite_mm", "UNITE"), ("unite_mm.testing", "ConformanceSuite"), ("unite_mm.cli.main", "run")}
    used = 0
    assert any(where.endswith(".tmpl") for where in sources())
    for where, source in sources().items():
        text = re.sub(r"\$(name|package)\b", "stand_in", source)
        # A part of a class stands in the middle of one; only whole files and first parts import anything.
        if re.match(r"# \S+, continued", text):
            continue
        for entry in imports(text):
            used += 1
            own = entry[0].startswith(("unite_mm_signals", "unite_mm_stand_in"))
            assert own or entry in documented, f"{where}: {entry}"
    assert used > 20
