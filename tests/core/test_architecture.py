"""The shape of the code: who imports whom, what starting up may load, and what is never done anywhere."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers.repository import ROOT

SOURCES = {"schemas": ROOT / "schemas", "core": ROOT / "unite_mm", "plugins": ROOT / "plugins"}
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").is_file())
HEAVY = {"torch", "lightning_fabric", "torchdiffeq", "rdkit", "torch_geometric", "numpy", "scipy", "matplotlib", "PIL"}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def module_name(path: Path) -> str:
    root = ROOT if path.is_relative_to(SOURCES["core"]) else ROOT / path.relative_to(ROOT).parts[0]
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that a tree imports, everywhere in it; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).strip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


class AtImport(ast.NodeTransformer):
    """Leaves only what runs when a module is imported: no function bodies, nothing under TYPE_CHECKING."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | None:
        names = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
        return None if "TYPE_CHECKING" in names else self.generic_visit(node)


def imports_of(path: Path, *, at_import: bool = False) -> set[str]:
    tree: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return set(imported(AtImport().visit(tree) if at_import else tree, package))


def tops(path: Path, *, at_import: bool = False) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path, at_import=at_import)}


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("schemas", {"unite_mm", *PLUGINS, *HEAVY}),
        (
            "core",
            {*PLUGINS, "rdkit", "torch_geometric", "lpips", "torchvision", "pymatgen", "openbabel", "posebusters"}
            | {"PIL", "torchmetrics", "torch_fidelity"},
        ),
    ],
)
def test_direction_of_imports(part: str, forbidden: set[str]) -> None:
    found = files(SOURCES[part])
    assert len(found) > 5
    assert {str(path): tops(path) & forbidden for path in found if tops(path) & forbidden} == {}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_plugins_import_no_other_plugin_and_no_command_line(plugin: str) -> None:
    others = set(PLUGINS) - {plugin}
    for path in files(ROOT / "plugins" / plugin):
        assert not tops(path) & others, path
        assert not [name for name in imports_of(path) if name.startswith("unite_mm.cli")], path


def test_the_molecule_plugin_loads_chemistry_only_when_it_is_used() -> None:
    optional = {"rdkit", "torch_geometric", "pymatgen", "openbabel", "posebusters", "matplotlib"}
    for path in files(ROOT / "plugins" / "unite_mm_molecule"):
        assert not tops(path, at_import=True) & optional, path


def test_the_image_plugin_loads_torchvision_and_metrics_only_when_they_are_used() -> None:
    optional = {"torchvision", "lpips", "torchmetrics", "torch_fidelity", "matplotlib", "scipy"}
    for path in files(ROOT / "plugins" / "unite_mm_image"):
        assert not tops(path, at_import=True) & optional, path


@pytest.mark.parametrize("plugin", PLUGINS)
def test_the_package_of_a_plugin_is_empty(plugin: str) -> None:
    assert not imports_of(ROOT / "plugins" / plugin / "__init__.py")


@pytest.mark.parametrize("part", SOURCES)
def test_no_import_cycles(part: str) -> None:
    paths = {module_name(path): path for path in files(SOURCES[part])}
    graph = {}
    for name, path in paths.items():
        needed = set()
        for target in imports_of(path, at_import=True):
            module = target if target in paths else target.rpartition(".")[0]
            if module in paths and module != name:
                needed.add(module)
        graph[name] = needed
    assert any(graph.values())
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def only_weights(call: ast.Call) -> bool:
    """Whether a call is torch's reader of foreign weights, which runs no code from the file."""
    return ast.unparse(call.func) == "torch.load" and any(
        keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in call.keywords
    )


@pytest.mark.parametrize("part", SOURCES)
def test_nothing_is_pickled(part: str) -> None:
    for path in files(SOURCES[part]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not tops(path) & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}, path
        calls = [
            ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and not only_weights(node)
        ]
        assert not {"torch.load", "torch.save", "eval", "exec"} & set(calls), path


@pytest.mark.parametrize("part", SOURCES)
def test_modules_and_functions_stay_short(part: str) -> None:
    long = []
    for path in files(SOURCES[part]):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 400:
            long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 60:
                long.append(f"{path}: {node.name}")
    assert long == []


START = """
import sys
from unite_mm.cli.main import run
code = run({arguments!r})
names = {{name.partition(".")[0] for name in sys.modules}}
print("LOADED", *sorted(names & set({watched!r})))
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plugins", "list"],
        ["plugins", "check", "qm9"],
        ["plugins", "check", "--help"],
        ["plugins", "new", "--help"],
        ["train", "--help"],
        ["evaluate", "--help"],
        ["sample", "--help"],
        ["import-official", "--help"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_help_and_discovery_load_no_torch_and_no_implementation(arguments: list[str]) -> None:
    watched = sorted({*HEAVY, *PLUGINS, "unite_mm_toy", "rich"})
    code = START.format(arguments=arguments, watched=watched)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "LOADED"


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"]], ids=" ".join)
def test_help_and_discovery_take_under_half_a_second(arguments: list[str]) -> None:
    # Processor time, best of five: the figure a loaded machine does not change.
    spent = []
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-m", "unite_mm.cli.main", *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        spent.append(usage.ru_utime + usage.ru_stime)
    assert min(spent) < 0.5


def test_the_model_is_imported_from_the_package_on_first_use() -> None:
    code = "import sys, unite_mm; assert 'torch' not in sys.modules; unite_mm.UNITE; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
