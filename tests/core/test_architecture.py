"""The shape of the code: who imports whom, how large its parts are, and what is never done anywhere.

Imports count wherever they are written: inside functions and under TYPE_CHECKING as much as at the top of a module.
What starting the program loads is in test_startup.py, what the page on the architecture says in
tests/docs/test_architecture_page.py.
"""

import ast
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from string import Template

import pytest
from helpers.repository import ROOT
from helpers.source_tree import circle_in, import_graph, imports_of, imports_of_file, modules_in, package_graphs

from unite_mm import contract

SCHEMAS = ROOT / "schemas" / "unite_mm_schemas"
CORE = ROOT / "unite_mm"
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/__init__.py"))
PACKAGES = [SCHEMAS, CORE, *PLUGINS]
PLUGIN_NAMES = {path.name for path in PLUGINS}

each_package = pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
each_plugin = pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)

NUMERICS = {"torch", "lightning_fabric", "torchdiffeq", "torch_geometric", "numpy", "scipy"}
IMAGES = {"PIL", "matplotlib", "torchvision", "lpips", "torchmetrics", "torch_fidelity", "efficientnet_lite_pytorch"}
CHEMISTRY = {"rdkit", "torch_geometric", "pymatgen", "openbabel", "posebusters", "fcd", "tblite"}


def tops(path: Path, name: str, *, at_import: bool = False) -> set[str]:
    """Top-level packages that a module imports."""
    return {found.partition(".")[0] for found in imports_of_file(path, name, at_import=at_import)}


def told(found: Mapping[str, object]) -> str:
    """What was found, a line each, for the message of a failed test."""
    return "\n" + "\n".join(f"{name}: {value}" for name, value in found.items())


def importing(folder: Path, forbidden: set[str], *, at_import: bool = False) -> dict[str, set[str]]:
    """The modules of a package that import what they must not."""
    found = {name: tops(path, name, at_import=at_import) & forbidden for name, path in modules_in(folder).items()}
    return {name: wrong for name, wrong in found.items() if wrong}


# ------------------------------------------------------------------------------------------------ between the packages


def test_the_schemas_import_neither_the_core_nor_numerics() -> None:
    assert importing(SCHEMAS, {"unite_mm", *PLUGIN_NAMES} | NUMERICS | IMAGES | CHEMISTRY) == {}


def test_the_core_imports_no_plugin_and_knows_no_modality() -> None:
    drawing = {"unite_mm.analysis.figures": {"matplotlib"}}
    assert importing(CORE, PLUGIN_NAMES | IMAGES | CHEMISTRY) == drawing
    assert importing(CORE, {"matplotlib"}, at_import=True) == {}


@each_plugin
def test_plugins_import_no_other_plugin(folder: Path) -> None:
    assert importing(folder, PLUGIN_NAMES - {folder.name}) == {}


@each_plugin
def test_the_package_of_a_plugin_imports_nothing(folder: Path) -> None:
    assert not imports_of_file(folder / "__init__.py", folder.name)


def test_the_molecule_plugin_loads_chemistry_only_when_it_is_used() -> None:
    assert importing(ROOT / "plugins" / "unite_mm_molecule", CHEMISTRY | {"matplotlib"}, at_import=True) == {}


def test_the_image_plugin_loads_torchvision_and_metrics_only_when_they_are_used() -> None:
    optional = IMAGES - {"PIL"} | {"scipy"}
    assert importing(ROOT / "plugins" / "unite_mm_image", optional, at_import=True) == {}


SURFACE = {"unite_mm.contract", "unite_mm.errors", "unite_mm.kit", "unite_mm.progress"}
"""Modules of the core that plugins may import, beside the kit's own; docs/contract.md describes them."""

DOCUMENTED = {f"unite_mm.contract.{name}" for name in contract.__all__}


def beyond_the_surface(source: str, package: str, *, testing: bool = False) -> set[str]:
    """What a plugin's text imports of the core or the schemas without being allowed to."""
    found = {name for name in imports_of(source, package) if name.partition(".")[0] in ("unite_mm", "unite_mm_schemas")}
    surface = SURFACE | ({"unite_mm.testing"} if testing else set())
    return {
        name
        for name in found
        if not name.startswith(("unite_mm_schemas.", "unite_mm.kit."))
        and name not in surface | DOCUMENTED
        and name.rpartition(".")[0] not in surface - {"unite_mm.contract"}
    }


@each_plugin
def test_plugins_import_the_documented_surface_alone(folder: Path) -> None:
    found = {name: beyond_the_surface(path.read_text("utf-8"), name) for name, path in modules_in(folder).items()}
    wrong = {name: names for name, names in found.items() if names}
    assert not wrong, told(wrong)


SHOWN = [
    *sorted((ROOT / "docs" / "examples").rglob("*.py")),
    *sorted((CORE / "registry" / "templates").rglob("*.py.tmpl")),
]
"""Plugins that authors are shown: the example, and what `plugins new` writes."""


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_plugins_that_are_shown_import_the_documented_surface_alone(path: Path) -> None:
    source = Template(path.read_text(encoding="utf-8")).safe_substitute(package="unite_mm_stand_in", name="stand_in")
    assert beyond_the_surface(source, "stand_in", testing="tests" in path.parts) == set()


def test_there_are_plugins_to_show() -> None:
    assert len(SHOWN) > 5
    assert {path.suffix for path in SHOWN} == {".py", ".tmpl"}


def test_the_surface_is_narrow() -> None:
    source = """
import unite_mm
import unite_mm.contract
from unite_mm import contract, errors, kit
from unite_mm.contract import Modality, SPLITS
from unite_mm.contract.model import Tokens
from unite_mm.contract import model
from unite_mm.errors import UsageError
from unite_mm.kit.parallel import map_items
from unite_mm_schemas.base import Schema

def lazily() -> None:
    from unite_mm.registry import discover
    from unite_mm.testing import ConformanceSuite
"""
    wrong = {"unite_mm", "unite_mm.contract.model.Tokens", "unite_mm.contract.model", "unite_mm.registry.discover"}
    assert beyond_the_surface(source, "my_plugin", testing=True) == wrong
    assert beyond_the_surface(source, "my_plugin") == {*wrong, "unite_mm.testing.ConformanceSuite"}


def test_no_test_imports_another_one() -> None:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        assert not [name for name in imports_of(source, "") if re.search(r"(^|\.)test_\w+", name)], path


# ---------------------------------------------------------------------------------------------------- inside a package


@each_package
def test_no_circle_of_modules(folder: Path) -> None:
    circle = circle_in(import_graph(modules_in(folder)))
    assert not circle, " -> ".join(circle)


@each_package
def test_no_circle_of_packages(folder: Path) -> None:
    graphs = package_graphs(import_graph(modules_in(folder)))
    circles = {package: circle for package, graph in graphs.items() if (circle := circle_in(graph))}
    assert not circles, told(circles)


def test_circles_are_found_wherever_an_import_is_written(tmp_path: Path) -> None:
    texts = {
        "made/__init__.py": "",
        "made/low/__init__.py": "from made.low.one import x\n",
        "made/low/one.py": "def f():\n    from made.high import two\n",
        "made/high/__init__.py": "",
        "made/high/two.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import low\n",
        "made/high/three.py": "from made.low import one\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = import_graph(modules_in(tmp_path / "made"))
    assert graph["made.low.one"] == {"made.high", "made.high.two"}
    assert graph["made.high.two"] == {"made.low"}
    assert set(circle_in(graph)) == {"made.low.one", "made.high.two", "made.low"}
    assert set(circle_in(package_graphs(graph)["made"])) == {"made.low", "made.high"}
    assert circle_in(package_graphs(graph)["made.high"]) == []
    assert circle_in(import_graph(modules_in(tmp_path / "made"), at_import=True)) == []


LAYERS = (
    ("errors", "progress", "random_streams", "utils"),
    ("contract",),
    ("flow", "model.layers", "registry"),
    ("config", "model"),
    ("kit", "registry.build"),
    ("storage",),
    ("sampling", "training"),
    ("api", "__init__"),
    ("analysis", "evaluation"),
    ("reporting",),
    ("studies",),
    ("cli", "conformance", "testing"),
    ("__main__",),
)
"""The core from its lowest layer to its highest: a layer may import itself and what is lower, never what is higher."""

LOWEST = set(LAYERS[0])

NARROWER = {
    "registry": {"contract"} | LOWEST,
    "config": {"registry"} | LOWEST,
    "kit": {"contract", "model.layers"} | LOWEST,
}
"""Parts that may import less than their layer allows: themselves and these."""


def part_of(module: str) -> str:
    """The entry of `LAYERS` that a module of the core belongs to, the longest that fits."""
    inner = module.partition(".")[2] or "__init__"
    parts = [part for layer in LAYERS for part in layer]
    fitting = [part for part in parts if inner == part or inner.startswith(f"{part}.")]
    assert fitting, f"{module} belongs to no layer"
    return max(fitting, key=len)


def test_nothing_in_the_core_imports_upward() -> None:
    height = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    wrong = []
    for module, needed in sorted(import_graph(modules_in(CORE), around=False).items()):
        own = part_of(module)
        for other in sorted(needed):
            part = part_of(other)
            allowed = height[part] <= height[own] if own not in NARROWER else part in NARROWER[own] | {own}
            if part != own and not allowed:
                wrong.append(f"{module} -> {other}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_layer_exists() -> None:
    found = {part_of(module) for module in modules_in(CORE)}
    assert found == {part for layer in LAYERS for part in layer}


# --------------------------------------------------------------------------------------------------------------- sizes


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_modules_stay_short() -> None:
    sizes = {path: lines(path) for folder in PACKAGES for path in modules_in(folder).values()}
    own = [size for path, size in sizes.items() if path.name != "__init__.py"]
    long = {str(path.relative_to(ROOT)): size for path, size in sizes.items() if size > 350}
    assert not long, told(long)
    assert statistics.median(own) < 150


@pytest.mark.parametrize("part", ["config", "contract"])
def test_the_central_packages_have_small_files(part: str) -> None:
    sizes = {path.name: lines(path) for path in (CORE / part).glob("*.py")}
    assert len(sizes) > 3
    assert {name: size for name, size in sizes.items() if size > 250} == {}


@each_package
def test_functions_stay_short(folder: Path) -> None:
    long = []
    for path in modules_in(folder).values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                if length >= 60:
                    long.append(f"{path.relative_to(ROOT)}: {node.name}, {length} lines")
    assert not long, "\n".join(long)


# --------------------------------------------------------------------------------------------------------------- never


def only_weights(call: ast.Call) -> bool:
    """Whether a call is torch's reader of foreign weights, which runs no code from the file."""
    return ast.unparse(call.func) == "torch.load" and any(
        keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in call.keywords
    )


@each_package
def test_nothing_is_pickled(folder: Path) -> None:
    assert importing(folder, {"pickle", "dill", "cloudpickle", "joblib", "shelve"}) == {}
    for path in modules_in(folder).values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {
            ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and not only_weights(node)
        }
        assert not {"torch.load", "torch.save", "eval", "exec"} & calls, path
