"""docs/contract.md is in step with the code, and names all that the plugins shown to authors need of the core."""

import ast
import re
from collections.abc import Iterator
from types import ModuleType

import pytest
from helpers.repository import ROOT, load_script

FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("scripts/contract_reference.py")


def test_the_page_is_in_step(script: ModuleType) -> None:
    stored = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    assert stored == script.reference(), "run: python scripts/contract_reference.py > docs/contract.md"


def test_the_page_holds_every_class_and_method_of_the_contract(script: ModuleType) -> None:
    page = script.reference()
    tree = ast.parse((ROOT / "unite_mm" / "contract.py").read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) > 10
    for node in classes:
        assert f"\n### {node.name}\n" in page
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                required = any(ast.unparse(entry) == "abstractmethod" for entry in method.decorator_list)
                heading = re.search(rf"\n#### {node.name}\.{method.name}( \(\w+\))?\n", page)
                assert heading is not None
                assert (heading[1] == " (required)") == required


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
    found |= {str(path): path.read_text() for path in (ROOT / "unite_mm" / "templates").rglob("*.py.tmpl")}
    tutorial = (ROOT / "docs" / "writing-a-modality.md").read_text()
    return found | {f"tutorial {number}": text for number, text in enumerate(FENCE.findall(tutorial))}


def test_plugins_that_are_shown_need_nothing_that_is_not_on_the_page(script: ModuleType) -> None:
    tree = ast.parse((ROOT / "unite_mm" / "contract.py").read_text(encoding="utf-8"))
    documented = {("unite_mm.contract", name) for name, _, _ in script.definitions(tree)}
    documented |= {(module, name) for module, names in {**script.ALSO, **script.SCHEMAS}.items() for name in names}
    documented |= {("unite_mm", module.partition(".")[2]) for module, _ in documented if module.startswith("unite_mm.")}
    documented |= {("unite_mm", "UNITE"), ("unite_mm.testing", "ConformanceSuite"), ("unite_mm.cli.main", "run")}
    used = 0
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
