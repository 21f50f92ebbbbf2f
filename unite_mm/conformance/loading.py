"""Checks of what is imported first: the configuration model, the presets it must accept, the implementation."""

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from unite_mm.config import RunOptions, resolve
from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.contract import Modality, SweepMetric
from unite_mm.errors import UniteError, UsageError

FORBID = 'give it model_config = ConfigDict(extra="forbid"), or derive it from unite_mm_schemas.base.Schema'


def configuration(subject: Subject) -> Iterator[Finding]:
    """The configuration model can be imported, and refuses unknown keys at every level."""
    for nested in _models(subject.configuration):
        if nested.model_config.get("extra") != "forbid":
            yield Finding(f"{nested.__name__}, a section of the configuration, accepts unknown keys", FORBID)


def presets(subject: Subject) -> Iterator[Finding]:
    """Every preset is accepted by the run's configuration and by the plugin's own."""
    subject.need("configuration")
    for entry in subject.plugin.manifest.presets:
        options = RunOptions((subject.name,), preset=entry.name, assignments=("train.max_steps=1",))
        try:
            resolve(options, subject.registry)
        except UsageError as error:
            yield Finding(error.message, error.hint or f"change {entry.file}, or the configuration model")


def stored_configuration(subject: Subject) -> Iterator[Finding]:
    """The configuration survives JSON: checkpoints store it so."""
    model = subject.configuration
    own = subject.plugin.validate(subject.config.modalities[subject.name].config)
    with calling(f"{model.__name__} read back from JSON", "checkpoints store the configuration as JSON"):
        again = model.model_validate(own.model_dump(mode="json"))
    if again != own:
        yield Finding(
            f"{model.__name__} changes when it is read back from JSON",
            "checkpoints store the configuration as JSON: use fields that JSON can hold",
        )


def implementation(subject: Subject) -> Iterator[Finding]:
    """The implementation is a complete `Modality` of the manifest's name."""
    found = subject.implementation
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise UniteError(
            f"{found.__name__} lacks {', '.join(missing)}",
            "define what is missing; unite_mm.contract.Modality says what each part does",
        )
    yield from _signatures(found)
    own = subject.modality.name
    if own != subject.name:
        yield Finding(
            f"{found.__name__}().name is {own!r}, but the name it is given {subject.name!r}",
            "pass it on with super().__init__(config, name): one implementation may serve several manifests",
        )


def training_needs(subject: Subject) -> Iterator[Finding]:
    """What the losses need beyond the data is at hand."""
    modality = subject.modality
    with calling("check_training()", refused="fetch what it asks for, or switch that loss off with --set"):
        modality.check_training()
    yield from ()


def sweep_metric(subject: Subject) -> Iterator[Finding]:
    """`sweep_metric` names a metric by which settings are compared, or says that there is none."""
    modality = subject.modality
    try:
        with calling("sweep_metric()"):
            found = modality.sweep_metric()
    except UniteError as error:
        if isinstance(error.__cause__, UniteError):
            return
        raise
    if not isinstance(found, SweepMetric):
        yield Finding(f"sweep_metric() returns {type(found).__name__}", "return unite_mm.contract.SweepMetric")


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The models inside a model, at every level, wherever an annotation holds them."""
    seen: set[type[BaseModel]] = {model}
    waiting: list[Any] = [field.annotation for field in model.model_fields.values()]
    while waiting:
        annotation = waiting.pop(0)
        waiting += get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
            seen.add(annotation)
            yield annotation
            waiting += [field.annotation for field in annotation.model_fields.values()]


def _signatures(found: type[Any]) -> Iterator[Finding]:
    """Methods that cannot be called as the contract calls them."""
    for name, method in vars(Modality).items():
        own = inspect.getattr_static(found, name, None)
        if name.startswith("_") or not inspect.isfunction(method) or not inspect.isfunction(own) or own is method:
            continue
        parameters = list(inspect.signature(method).parameters.values())
        positional = [None for parameter in parameters if parameter.default is parameter.empty]
        try:
            inspect.signature(own).bind(*positional)
            inspect.signature(own).bind(*[None] * len(parameters))
        except TypeError as error:
            wanted = ", ".join(parameter.name for parameter in parameters)
            yield Finding(f"{found.__name__}.{name} cannot be called with ({wanted}): {error}", "take these arguments")
