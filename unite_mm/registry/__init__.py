"""Finds modality plugins by their manifests, without importing any of their code.

A plugin declares an entry point `name = "package:manifest.yaml"` in the group `unite_mm.modalities`; the manifest lies
inside that top-level package. Discovery reads manifests only and never raises: what is wrong with a plugin is kept
beside it and raised when somebody selects it.
"""

import importlib
import importlib.util
import re
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import importlib_metadata
import yaml
from pydantic import BaseModel, ValidationError

from unite_mm.errors import UniteError, UsageError
from unite_mm.utils.validation import all_errors, did_you_mean, one_line
from unite_mm_schemas.manifest import CONTRACT_VERSION, OLDEST_CONTRACT_VERSION, ImporterEntry, ModalityManifest

if TYPE_CHECKING:
    from unite_mm.contract import Modality

GROUP = "unite_mm.modalities"


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


@dataclass(frozen=True)
class BrokenPlugin:
    """A declared plugin that cannot be used.

    Attributes:
        name: name of the entry point.
        distribution: `name version` of the distribution that declares it.
        message: what is wrong, in one line.
        traceback: the traceback of the error that was met.
        contract: version of the contract it says it was written for; None: it does not say.
        problems: everything that is wrong with the manifest, a line each; at least `message`.
    """

    name: str
    distribution: str
    message: str
    traceback: str
    contract: int | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plugin:
    """A usable plugin: its manifest, and on request its code.

    Attributes:
        name: the modality's name.
        distribution: `name version` of the distribution.
        manifest: the content of its manifest.
        folder: folder of the manifest; presets are relative to it.
        entry: value of the entry point, `package:manifest.yaml`.
    """

    name: str
    distribution: str
    manifest: ModalityManifest
    folder: Path
    entry: str = ""

    def load_configuration(self) -> type[BaseModel]:
        """Import the configuration model.

        Raises:
            UniteError: it cannot be imported, or is no Pydantic model that refuses unknown keys.
        """
        model = self._load(self.manifest.configuration)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise UniteError(f"{self._what}: {self.manifest.configuration} is not a Pydantic model")
        if model.model_config.get("extra") != "forbid":
            raise UniteError(
                f"{self._what}: {self.manifest.configuration} accepts unknown keys",
                'give it model_config = ConfigDict(extra="forbid")',
            )
        return model

    def load_implementation(self) -> type["Modality"]:
        """Import the `Modality` subclass.

        Raises:
            UniteError: it cannot be imported, or is no subclass of `Modality`.
        """
        from unite_mm.contract import Modality

        implementation = self._load(self.manifest.implementation)
        if not (isinstance(implementation, type) and issubclass(implementation, Modality)):
            raise UniteError(f"{self._what}: {self.manifest.implementation} is no Modality of unite_mm.contract")
        return implementation

    def validate(self, config: Mapping[str, Any]) -> BaseModel:
        """An instance of the plugin's configuration model.

        Raises:
            UsageError: a key is unknown or a value is refused; the message holds the full dotted path.
            UniteError: the configuration model cannot be imported.
        """
        model = self.load_configuration()
        try:
            return model.model_validate(dict(config))
        except ValidationError as error:
            raise UsageError(one_line(error, model, f"modalities.{self.name}.config.")) from error

    def presets(self) -> dict[str, Path]:
        """The preset files by name."""
        return {entry.name: self.folder / entry.file for entry in self.manifest.presets}

    def preset(self, name: str) -> Path:
        """The file of a preset.

        Raises:
            UsageError: there is no such preset.
        """
        presets = self.presets()
        if name not in presets:
            known = f"it has: {', '.join(presets)}" if presets else "it has none"
            raise UsageError(
                f"modality {self.name!r} has no preset {name!r}",
                " ".join(filter(None, [did_you_mean(name, presets), known])),
            )
        return presets[name]

    def source(self, named: str | None) -> str:
        """The data source meant: the named one, or the default of the manifest.

        Raises:
            UsageError: none is named, and the modality has no default.
        """
        source = named or self.manifest.default_source
        if source is None:
            known = ", ".join(entry.name for entry in self.manifest.sources)
            raise UsageError(
                f"modality {self.name!r} has no data set of its own",
                f"name the data with --data: {known}" if known else "name the data with --data",
            )
        return source

    def importer(self, name: str) -> ImporterEntry | None:
        """The importer of a name; None where the plugin has none."""
        return next((entry for entry in self.manifest.importers if entry.name == name), None)

    def load_importer(self, name: str) -> Any:
        """Import the function of an importer, `(path, options) -> unite_mm.storage.importing.Imported`.

        Raises:
            UsageError: there is no such importer.
            UniteError: it cannot be imported.
        """
        entry = self.importer(name)
        if entry is None:
            raise UsageError(f"modality {self.name!r} imports no {name} checkpoints")
        return self._load(entry.function)

    def suffixes(self, direction: str) -> list[str]:
        """Suffixes of the formats the plugin can `read` or `write`, the preferred one first."""
        return [entry.suffix for entry in self.manifest.formats if getattr(entry, direction)]

    @property
    def _what(self) -> str:
        return f"modality {self.name!r} of {self.distribution}"

    def _load(self, reference: str) -> Any:
        module, _, name = reference.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything while it is imported
            raise UniteError(
                f"{self._what} cannot be loaded: {reference}: {type(error).__name__}: {error}",
                "install what it misses, or report this to its author; --debug shows the traceback",
            ) from error


@dataclass(frozen=True)
class Registry:
    """What discovery found.

    Attributes:
        plugins: usable plugins by name, sorted.
        broken: the others, sorted by name.
    """

    plugins: dict[str, Plugin]
    broken: tuple[BrokenPlugin, ...] = ()

    def get(self, name: str) -> Plugin:
        """The plugin of a modality.

        Raises:
            UsageError: there is none of that name, or it is broken; the message names the distribution and the cause.
        """
        if name in self.plugins:
            return self.plugins[name]
        for entry in self.broken:
            if entry.name == name:
                raise UsageError(
                    f"modality {name!r} of {entry.distribution} is broken: {entry.message}",
                    f"mend or uninstall it; `unite-mm plugins check {name}` says more",
                )
        known = f"installed: {', '.join(self.plugins)}" if self.plugins else "no modality is installed"
        raise UsageError(
            f"unknown modality {name!r}", " ".join(filter(None, [did_you_mean(name, self.plugins), known]))
        )


def discover(path: Sequence[str] | None = None) -> Registry:
    """Read the manifests of all installed plugins; imports none of them and never raises.

    Args:
        path: folders to search for distributions; None: `sys.path`.
    """
    # name -> distribution -> its declarations: more than one where metadata of an older state are left over
    claims: dict[str, dict[str, list[Declaration]]] = defaultdict(lambda: defaultdict(list))
    for declaration in declarations(path):
        claims[declaration.name][_normalised(declaration.distribution)].append(declaration)
    plugins: dict[str, Plugin] = {}
    broken: list[BrokenPlugin] = []
    for name in sorted(claims):
        owners = list(claims[name].values())
        for own in owners:
            try:
                if len(owners) > 1:
                    others = " and ".join(sorted(entries[0].distribution for entries in owners))
                    raise UsageError(f"the name {name!r} is claimed by {others}: uninstall all but one")
                plugins[name] = _first_sound(own)
            except Exception as error:
                broken.append(_broken(own[0], error))
    return Registry(plugins, tuple(broken))


def declarations(path: Sequence[str] | None = None) -> Iterator[Declaration]:
    """The entry points of the group, each once, however often its distribution stands on the path."""
    arguments = {} if path is None else {"path": list(path)}
    seen: set[tuple[str, str, str]] = set()
    for found in importlib_metadata.distributions(**arguments):
        try:
            # Parsing the metadata of every installed distribution takes longer than all the rest: look first.
            if GROUP not in (found.read_text("entry_points.txt") or ""):
                continue
            points = list(found.entry_points.select(group=GROUP))
        except Exception:  # unreadable metadata of a stranger's distribution is none of our business
            continue
        distribution = _distribution_name(found)
        for point in points:
            # An editable install shows twice: as metadata in site-packages and as egg-info in its source folder.
            key = (_normalised(distribution), point.name, "".join(point.value.split()))
            if key not in seen:
                seen.add(key)
                yield Declaration(point.name, point.value, distribution)


def _normalised(distribution: str) -> str:
    """The name of a distribution as all tools spell it."""
    return re.sub(r"[-_.]+", "-", distribution.partition(" ")[0]).lower()


def _first_sound(declared: Sequence[Declaration]) -> Plugin:
    """The plugin of the first declaration that holds: metadata of an older state of the same distribution do not count.

    Raises:
        Exception: whatever is wrong with the first one, where all are.
    """
    first: Exception | None = None
    for declaration in declared:
        try:
            return _read_plugin(declaration)
        except Exception as error:
            first = first or error
    assert first is not None
    raise first


def _broken(declared: Declaration, error: Exception) -> BrokenPlugin:
    text = "".join(traceback.format_exception(error))
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
        text,
        contract if isinstance(contract, int) else None,
        tuple(problems) or (message,),
    )


def _distribution_name(distribution: Any) -> str:
    try:
        return f"{distribution.name} {distribution.version}"
    except Exception:  # without metadata the folder's name is all there is
        return str(distribution)


def _as_line(error: BaseException) -> str:
    message = error.message if isinstance(error, UniteError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split())


def _read_plugin(declared: Declaration) -> Plugin:
    """The plugin of a declaration.

    Raises:
        Exception: whatever is wrong with it; `UniteError` where the message needs no type.
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
    if manifest.default_source not in (None, *(entry.name for entry in manifest.sources)):
        raise UsageError(f"{where.name}: default_source {manifest.default_source!r} is not among its sources")
    return Plugin(declared.name, declared.distribution, manifest, where.parent, declared.value)


def _read_manifest(where: Path) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(where.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{where.name} is not valid YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{where.name} is not UTF-8 text: {error}") from error
    if not isinstance(content, dict):
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
