"""Checks that run no code of the plugin: the manifest, what it refers to, the presets' shared sections."""

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from unite_mm.config import check_preset
from unite_mm.conformance.report import Finding, Outcome, demand_of, syntax_error
from unite_mm.errors import UsageError
from unite_mm.registry import Plugin, Registry
from unite_mm.utils.files import file_sha256
from unite_mm.utils.validation import did_you_mean
from unite_mm_schemas.base import RECORD
from unite_mm_schemas.checkpoint import CheckpointRecord

EXPORT = "write it with `unite-mm export RUN -o FOLDER`"

MANIFEST = "The manifest is found and valid, of a contract that is served, and its name belongs to it alone."


def check_statically(registry: Registry, name: str) -> list[Outcome]:
    """The outcomes of all static checks of a plugin, sound or broken.

    Raises:
        UsageError: no plugin of that name is installed.
    """
    broken = [entry for entry in registry.broken if entry.name == name]
    if broken:
        several = len(broken) > 1
        found = tuple(
            Finding(f"{entry.distribution}: {problem}" if several else problem)
            for entry in broken
            for problem in entry.problems or (entry.message,)
        )
        rest = [Outcome(check.__name__, demand_of(check), needs="manifest") for check in STATIC]
        return [Outcome("manifest", MANIFEST, found), *rest]
    plugin = registry.get(name)
    outcomes = [Outcome("manifest", MANIFEST)]
    for check in STATIC:
        outcomes.append(Outcome(check.__name__, demand_of(check), tuple(check(plugin))))
    return outcomes


def references(plugin: Plugin) -> Iterator[Finding]:
    """The modules that the manifest names exist and define what it says."""
    importlib.invalidate_caches()
    manifest = plugin.manifest
    named = {"configuration": manifest.configuration, "implementation": manifest.implementation}
    named |= {f"importer {entry.name}": entry.function for entry in manifest.importers}
    for key, reference in named.items():
        module, _, name = reference.partition(":")
        file, near = _find_module(module)
        if file is None:
            yield Finding(f"{key}: the module {module!r} does not exist", near or "name a module of the package")
            continue
        try:
            defined = _names_defined(file) if file.suffix == ".py" else None
        except SyntaxError as error:
            yield Finding(f"{key}: {syntax_error(error)}", "correct this line, or the one before it")
            continue
        if defined is not None and name not in defined:
            yield Finding(f"{key}: {module} defines no {name!r}", did_you_mean(name, defined) or f"define it in {file}")


def preset_files(plugin: Plugin) -> Iterator[Finding]:
    """The presets are YAML whose shared sections a run accepts."""
    for entry in plugin.manifest.presets:
        try:
            check_preset(plugin, entry.name)
        except UsageError as error:
            yield Finding(error.message, error.hint or f"change {entry.file}")


def models(plugin: Plugin) -> Iterator[Finding]:
    """The models that the manifest lists are whole exports, of this modality, in weights that anyone may load."""
    for entry in plugin.manifest.models:
        folder = plugin.folder / entry.folder
        try:
            record = CheckpointRecord.model_validate_json((folder / RECORD).read_bytes())
        except (OSError, ValueError) as error:
            yield Finding(
                f"the model {entry.name}: {folder / RECORD} cannot be read: {str(error).splitlines()[0]}", EXPORT
            )
            continue
        if record.kind != "export":
            yield Finding(f"the model {entry.name} is a checkpoint, several times as large as an export", EXPORT)
        if plugin.name not in record.modalities:
            known = ", ".join(record.modalities)
            yield Finding(f"the model {entry.name} has no modality {plugin.name!r}, but {known}", "list it there")
        for name, digest in record.files.items():
            path = folder / name
            if not path.is_file() or file_sha256(path) != digest:
                yield Finding(f"the model {entry.name}: {path} is missing or damaged", EXPORT)


def declared(plugin: Plugin) -> Iterator[Finding]:
    """The manifest lists nothing twice, and a format that is written and read."""
    manifest = plugin.manifest
    for title, names in (
        ("source", [entry.name for entry in manifest.sources]),
        ("format", [entry.suffix for entry in manifest.formats]),
        ("metric", [f"{entry.name} ({entry.kind})" for entry in manifest.metrics]),
        ("importer", [entry.name for entry in manifest.importers]),
    ):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Finding(f"the {title} {name} is listed twice", "keep one")
    if not any(entry.read and entry.write for entry in manifest.formats):
        yield Finding(
            "no format is both written and read: samples could not be kept",
            "list one under `formats`, such as {suffix: .csv, description: ...}",
        )


STATIC: tuple[Callable[[Plugin], Iterator[Finding]], ...] = (references, preset_files, models, declared)


def _find_module(module: str) -> tuple[Path | None, str]:
    """The file of a module, found without importing anything; or None, and which module may have been meant."""
    top, *inner = module.split(".")
    spec: ModuleSpec | None = importlib.util.find_spec(top)
    name = top
    for part in inner:
        folders = list(spec.submodule_search_locations or []) if spec else []
        parent, name = name, f"{name}.{part}"
        spec = PathFinder.find_spec(name, folders)
        if spec is None:
            siblings = [f"{parent}.{entry.name}" for entry in pkgutil.iter_modules(folders)]
            return None, did_you_mean(name, siblings)
    return (Path(spec.origin), "") if spec and spec.origin else (None, "")


def _names_defined(file: Path) -> set[str] | None:
    """Names that a module defines at its top level; None where that cannot be told without running it.

    Raises:
        SyntaxError: the file is no Python.
    """
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    except ValueError:
        return None  # importing it will say so
    names: set[str] = set()
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
        else:
            names |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            waiting += [node for node in ast.walk(statement) if isinstance(node, ast.stmt) and node is not statement]
    return None if names & {"*", "__getattr__"} else names
