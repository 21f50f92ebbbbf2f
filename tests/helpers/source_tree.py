"""Who imports whom: the modules of a package, what each imports, and circles among them."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = dict[str, set[str]]
"""What each module needs."""


def modules_in(folder: Path) -> dict[str, Path]:
    """The files of a top-level package by their dotted names; a package's name is that of its `__init__.py`."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, package: str, *, at_import: bool = False) -> set[str]:
    """Dotted names that a text imports; `from a import b` gives a.b.

    Args:
        source: the text.
        package: what relative imports start from.
        at_import: only what runs when the module is imported: no function bodies, nothing under TYPE_CHECKING.
    """
    tree: ast.AST = ast.parse(source)
    if at_import:
        tree = _AtImport().visit(tree)
    return set(_imported(tree, package))


def imports_of_file(path: Path, name: str, *, at_import: bool = False) -> set[str]:
    """What `imports_of` finds in the file of a module."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports_of(path.read_text(encoding="utf-8"), package, at_import=at_import)


def import_graph(modules: Mapping[str, Path], *, at_import: bool = False, around: bool = True) -> Graph:
    """Which of the modules each of them needs.

    Args:
        modules: files by dotted name.
        at_import: see `imports_of`; by default imports inside functions and under TYPE_CHECKING count as well.
        around: also the packages around a needed module, which Python imports first.
    """
    graph: Graph = {}
    for name, path in modules.items():
        needed: set[str] = set()
        for target in imports_of_file(path, name, at_import=at_import):
            module = target if target in modules else target.rpartition(".")[0]
            if module in modules:
                needed.add(module)
                if around:  # those around the importing module are there already
                    needed |= {parent for parent in _parents(module) if parent in modules} - set(_parents(name))
        graph[name] = needed - {name}
    return graph


def package_graphs(graph: Graph) -> dict[str, Graph]:
    """For every package the graph of what is directly inside it: modules, and packages as a whole."""
    packages = {parent for name in graph for parent in _parents(name)}
    found = {}
    for package in sorted(packages):
        inside: Graph = {}
        for name, needed in graph.items():
            child = _child(package, name)
            if child is None:
                continue
            others = {_child(package, other) for other in needed} - {None, child}
            inside.setdefault(child, set()).update(other for other in others if other is not None)
        found[package] = inside
    return found


def circle_in(graph: Graph) -> list[str]:
    """The first circle of a graph, beginning and ending with the same module; empty: there is none."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(map(str, error.args[1]))
    return []


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _child(package: str, name: str) -> str | None:
    """What of a package's direct content a module belongs to; None: it lies outside."""
    if name == package:
        return f"{package}.__init__"
    if not name.startswith(f"{package}."):
        return None
    return f"{package}.{name.removeprefix(f'{package}.').partition('.')[0]}"


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], base]).strip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


class _AtImport(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | None:
        names = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
        return None if "TYPE_CHECKING" in names else self.generic_visit(node)
