"""From an entry point to the manifest it names, read and checked without importing any of the plugin's code."""

import importlib.util
import re
import traceback
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from unite_mm.errors import UniteError, UsageError
from unite_mm.registry.plugin import BrokenPlugin, Plugin
from unite_mm.utils.validation import all_errors, one_line
from unite_mm.utils.yaml_text import read_mapping
from unite_mm_schemas.base import RECORD
from unite_mm_schemas.manifest import CONTRACT_VERSION, OLDEST_CONTRACT_VERSION, ModalityManifest


@dataclass(frozen=True)
class Declaration:
    """An entry point as a distribution declares it.

    Attributes:
        name: name of the entry point, and so of the modality.
        value: `package:manifest.yaml`.
        distribution: `name version` of the distribution.
    """

    name: str
    value: str
    distribution: str


def read_plugin(declared: Declaration) -> Plugin:
    """The plugin of a declaration.

    Raises:
        UsageError: the manifest cannot be found or read, is invalid, or was written for a contract that is not served.
    """
    where = _manifest_path(declared.value)
    content = _read_manifest(where)
    _check_contract(content.get("contract"))
    try:
        manifest = ModalityManifest.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{where.name}: {one_line(error, ModalityManifest)}") from error
    if manifest.name != declared.name:
        raise UsageError(f"{where.name} has the name {manifest.name!r}, but its entry point {declared.name!r}")
    _check_presets(manifest, where)
    _check_models(manifest, where)
    if manifest.default_source not in (None, *(entry.name for entry in manifest.sources)):
        raise UsageError(f"{where.name}: default_source {manifest.default_source!r} is not among its sources")
    return Plugin(declared.name, declared.distribution, manifest, where.parent, declared.value)


def describe_failure(declared: Declaration, error: Exception) -> BrokenPlugin:
    """The broken plugin of a declaration that could not be read.

    Args:
        declared: the declaration.
        error: what was raised.
    """
    message, problems = _as_line(error), []
    if isinstance(error.__cause__, ValidationError):
        problems = [f"{place}: {words}" for place, words in all_errors(error.__cause__, ModalityManifest)]
    try:
        contract = _read_manifest(_manifest_path(declared.value)).get("contract")
    except Exception:  # there is none to be read
        contract = None
    return BrokenPlugin(
        declared.name,
        declared.distribution,
        message,
        traceback="".join(traceback.format_exception(error)),
        contract=contract if isinstance(contract, int) else None,
        problems=tuple(problems) or (message,),
    )


def _read_manifest(where: Path) -> dict[str, Any]:
    content = read_mapping(where, name=where.name)
    if not content:
        raise UsageError(f"{where.name} must hold a mapping of keys")
    return content


def _manifest_path(value: str) -> Path:
    """The manifest that an entry point's value names; the package is located, not imported."""
    match = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*:\s*([\w-][\w.-]*\.ya?ml)\s*", value)
    if not match:
        raise UsageError(f"entry point value {value!r} is not of the form top_level_package:manifest.yaml")
    package, file = match.groups()
    # Only a top-level name can be located without importing anything: the parents of a dotted one are imported.
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise UsageError(
            f"the package {package!r} does not exist: its folder was moved or removed after the installation, or the "
            "entry point misspells it"
        )
    if not spec.submodule_search_locations:
        raise UsageError(f"the package {package!r} is a single module: make it a folder with an __init__.py")
    for folder in spec.submodule_search_locations:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise UsageError(f"the package {package!r} holds no file {file!r}")


def _check_contract(version: Any) -> None:
    """Refuse foreign contract versions before anything else: another version's manifest may look different."""
    if not isinstance(version, int) or isinstance(version, bool):
        return  # the manifest's own validation says so
    if version > CONTRACT_VERSION:
        remedy = f"serves contracts up to {CONTRACT_VERSION}: upgrade unite-mm"
    elif version < OLDEST_CONTRACT_VERSION:
        remedy = (
            f"serves contract {OLDEST_CONTRACT_VERSION} and newer: upgrade the plugin; docs/contract.md lists what its "
            "author has to rename"
        )
    else:
        return
    raise UsageError(f"written for contract {version}, but this unite-mm {remedy}")


def _check_presets(manifest: ModalityManifest, where: Path) -> None:
    names = [entry.name for entry in manifest.presets]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"{where.name} lists the preset {repeated[0]!r} twice")
    if names and manifest.default_preset not in names:
        raise UsageError(f"{where.name}: default_preset {manifest.default_preset!r} is not among its presets")
    for entry in manifest.presets:
        if not (where.parent / entry.file).is_file():
            raise UsageError(f"{where.name}: the preset {entry.name!r} has no file {entry.file!r}")


def _check_models(manifest: ModalityManifest, where: Path) -> None:
    """Refuse models that are listed twice or are not where they should be; what lies there is not read."""
    names = [entry.name for entry in manifest.models]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"{where.name} lists the model {repeated[0]!r} twice")
    for entry in manifest.models:
        folder = PurePosixPath(entry.folder)
        if folder.is_absolute() or ".." in folder.parts:
            raise UsageError(f"{where.name}: the model {entry.name!r} lies outside the package: {entry.folder!r}")
        if not (where.parent / folder / RECORD).is_file():
            raise UsageError(f"{where.name}: the model {entry.name!r} has no file {str(folder / RECORD)!r}")


def _as_line(error: BaseException) -> str:
    message = error.message if isinstance(error, UniteError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split())
