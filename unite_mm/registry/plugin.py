"""A plugin that was found: usable, with its code on request, or broken, with the reason."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from unite_mm.errors import UniteError, UsageError
from unite_mm.utils.validation import did_you_mean, one_line
from unite_mm_schemas.manifest import ImporterEntry, ModalityManifest

if TYPE_CHECKING:
    from unite_mm.contract import Modality


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
            raise UniteError(
                f"{self._what}: {self.manifest.implementation} is not a subclass of unite_mm.contract.Modality"
            )
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
        """Import the function of an importer, `(path, options) -> unite_mm.contract.Imported`.

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
        except (Exception, SystemExit) as error:  # third-party code may raise anything while it is imported
            raise UniteError(
                f"{self._what} cannot be loaded: {reference}: {type(error).__name__}: {error}",
                "install what is missing, or report this to its author; --debug shows the traceback",
            ) from error
