"""The definition of a study: a file or a shipped one, what the command line changes, and the words of its runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unite_mm.errors import UsageError
from unite_mm.utils.validation import did_you_mean, one_line
from unite_mm.utils.yaml_text import read_mapping
from unite_mm_schemas.study import StudyBase, StudyConfig, StudyLength

SHIPPED = Path(__file__).parent / "shipped"

DEFAULTS: Mapping[str, Any] = {"train.devices": 1, "train.threads": 1, "train.compile": False}
"""Settings of every run unless the study sets them: what several runs beside each other can rely on."""

OWN = "modality."
"""What a key of the plugin's own begins with, whatever its modality is called."""


@dataclass(frozen=True)
class Changes:
    """What the command line changes in a study.

    Attributes:
        modality: in place of the base's.
        data: likewise.
        preset: likewise.
        assignments: `key=value` pairs above the base's settings; variants count above them.
        seeds: how many seeds, from 0 on; None: the study's own.
        steps: of the first variant, in place of the study's length.
        seconds: of every run, in its place.
    """

    modality: str | None = None
    data: str | None = None
    preset: str | None = None
    assignments: tuple[str, ...] = ()
    seeds: int | None = None
    steps: int | None = None
    seconds: float | None = None


def shipped_studies() -> dict[str, Path]:
    """The studies that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def read_study(name: str) -> StudyConfig:
    """A study of a YAML file, or the shipped one of a name.

    Raises:
        UsageError: there is none, or it is wrong; the message names file and key.
    """
    path, shipped = Path(name), shipped_studies()
    if not path.exists():
        if name not in shipped:
            hint = did_you_mean(name, list(shipped)) or f"give a YAML file, or one of: {', '.join(shipped)}"
            raise UsageError(f"there is no study {name}", hint)
        path = shipped[name]
    content = read_mapping(path, example=" such as `variants:`")
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {one_line(error, StudyConfig)}") from error


def changed(study: StudyConfig, changes: Changes) -> StudyConfig:
    """A study as the command line wants it.

    Raises:
        UsageError: an assignment is not of the form key=value.
    """
    given = {key: getattr(changes, key) for key in ("modality", "data", "preset")}
    base = study.base.model_dump() | {key: value for key, value in given.items() if value is not None}
    base["settings"] = {**base["settings"], **dict(map(_assignment, changes.assignments))}
    update: dict[str, Any] = {"base": StudyBase.model_validate(base)}
    if changes.seeds is not None:
        update["seeds"] = tuple(range(changes.seeds))
    if changes.seconds is not None:
        update["length"] = StudyLength(equal="seconds", seconds=changes.seconds)
    elif changes.steps is not None:
        equal = "operations" if study.length.equal == "seconds" else study.length.equal
        update["length"] = StudyLength(equal=equal, steps=changes.steps)
    return study.model_copy(update=update)


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {text}: not of the form key=value", "for example --set trunk.width=192")
    return key, _Verbatim(value)


class _Verbatim(str):
    """A value as the command line has it, which is YAML already."""


@dataclass(frozen=True)
class Words:
    """Makes the words of commands.

    Attributes:
        study: whose runs.
        modality: the modality, for keys of the plugin's own.
    """

    study: StudyConfig
    modality: str

    def variant(self, name: str) -> tuple[str, ...]:
        """Words of `train` of a variant, without seed, length and folder."""
        base, own = self.study.base, self.study.variants[name]
        words = ["--modality", self.modality]
        words += [] if base.data is None else ["--data", base.data]
        words += [] if base.preset is None else ["--preset", base.preset]
        settings = {**DEFAULTS, **base.settings, **own.settings}
        return (*words, *self._assigned(settings), *base.flags, *own.flags)

    def train(self, name: str, seed: int, *, steps: int | None, seconds: float | None) -> tuple[str, ...]:
        """Words of `train` of one run, without its folder."""
        length = ["--max-time", f"{seconds:g}"] if steps is None else ["--max-steps", str(steps)]
        return (*self.variant(name), "--set", f"train.seed={seed}", *length)

    def evaluate(self) -> tuple[str, ...]:
        """Words of `evaluate`, without the run's folder."""
        measure = self.study.measure
        counts = ["--samples", str(measure.samples), "--reconstructions", str(measure.reconstructions)]
        words = [*counts, "--split", measure.split, "--no-pictures", "--workers", "1"]
        return (*words, *self._assigned(measure.settings))

    def _assigned(self, settings: Mapping[str, Any]) -> list[str]:
        words = []
        for key, value in settings.items():
            name = f"{self.modality}.{key.removeprefix(OWN)}" if key.startswith(OWN) else key
            words += ["--set", f"{name}={value if isinstance(value, _Verbatim) else json.dumps(value)}"]
        return words
