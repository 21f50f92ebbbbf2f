"""Checks of the model parts as they are built: statistics, layout, condition, start weights."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unite_mm.conformance.report import Finding
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import difference, shape
from unite_mm.contract import ConditionSpec, LatentLayout, ModalityModules
from unite_mm.errors import UniteError

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def statistics(subject: Subject) -> Iterator[Finding]:
    """The statistics are facts that JSON can hold: a checkpoint is all that sampling needs."""
    raw = subject.raw_statistics
    if not isinstance(raw, Mapping):
        raise UniteError(f"statistics() returns {type(raw).__name__}", "return a dict of numbers, texts and lists")
    try:
        again = json.loads(json.dumps(dict(raw)))
    except (TypeError, ValueError) as error:
        raise UniteError(f"statistics() cannot be written as JSON: {error}", "use .tolist() and .item()") from error
    for key, value in raw.items():
        if again.get(key) != _listed(value):
            yield Finding(
                f"statistics()[{key!r}] changes when it is read back from JSON",
                "use numbers, texts, lists, and mappings whose keys are texts",
            )


def layout(subject: Subject) -> Iterator[Finding]:
    """The modules declare a layout of registers and channels, a tokenizer and a decoder."""
    modules = subject.modules
    if not isinstance(modules, ModalityModules):
        raise UniteError(
            f"build_modules() returns {type(modules).__name__}",
            "return a subclass of unite_mm.contract.ModalityModules",
        )
    for name, kind in (
        ("layout", LatentLayout),
        ("condition", ConditionSpec),
        ("tokenizer", nn.Module),
        ("decoder", nn.Module),
    ):
        part = getattr(modules, name, None)
        if not isinstance(part, kind):
            raise UniteError(f"modules.{name} is {type(part).__name__}", f"set it to a {kind.__name__} in __init__")
    found = modules.layout
    if found.registers < 1 or found.channels < 2:
        yield Finding(
            f"the layout has {found.registers} registers of {found.channels} channels",
            "one register and two channels are the least: latents are normalised over their channels",
        )
    positions = found.positions
    if not isinstance(positions, Tensor) or positions.shape != (found.registers,) or positions.dtype not in INTEGERS:
        yield Finding(
            f"layout.positions is {shape(positions)}, not integers ({found.registers},)",
            "one rotary position for each register, such as torch.arange(registers)",
        )


def condition(subject: Subject) -> Iterator[Finding]:
    """The declared condition is complete."""
    spec = subject.modules.condition
    if spec.kind not in ("none", "classes", "numbers", "mixed"):
        yield Finding(f"ConditionSpec.kind is {spec.kind!r}", "use none, classes, numbers or mixed")
    yield from _open_parts(spec)
    if (spec.kind == "none") != (spec.size == 0):
        yield Finding(
            f"ConditionSpec({spec.kind!r}) has the size {spec.size}", "give the number of classes or of numbers"
        )
    for name in ("names", "mean", "std"):
        values = getattr(spec, name)
        if values and len(values) != spec.size:
            yield Finding(f"ConditionSpec.{name} has {len(values)} entries for {spec.size}", "give one for each")
    yield from _units_and_ranges(spec)
    for name in sorted({name for name in spec.names if spec.names.count(name) > 1}):
        yield Finding(f"ConditionSpec.names has {name!r} twice", "give each class, or each number, a name of its own")
    if not all(str(name).strip() for name in spec.names):
        yield Finding("ConditionSpec.names has an empty name", "leave `names` out where there are none")
    if not all(math.isfinite(value) and value > 0 for value in spec.std):
        yield Finding(f"ConditionSpec.std is {spec.std}", "deviations must be above 0: the core divides by them")


def _units_and_ranges(spec: ConditionSpec) -> Iterator[Finding]:
    """Units and ranges belong to named numbers, one for each."""
    for name in ("units", "ranges"):
        found = len(getattr(spec, name))
        if found and (spec.kind not in ("numbers", "mixed") or found != spec.size or len(spec.names) != spec.size):
            yield Finding(f"ConditionSpec.{name} has {found} entries", "give one for each number, and `names` too")
    for low, high in spec.ranges:
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            yield Finding(f"ConditionSpec.ranges holds {low} to {high}", "give the lowest value, then the highest")


def _open_parts(spec: ConditionSpec) -> Iterator[Finding]:
    """What classes beside numbers and parts that may be left open need."""
    if (spec.kind == "mixed") != bool(spec.classes):
        yield Finding(
            f"ConditionSpec({spec.kind!r}) has {len(spec.classes)} `classes`",
            "name the classes of a mixed condition in `classes`, and no others there",
        )
    if len(set(spec.classes)) < len(spec.classes) or not all(str(name).strip() for name in spec.classes):
        yield Finding("ConditionSpec.classes has a name twice, or an empty one", "give each class a name of its own")
    if spec.kind == "mixed" and "class" in spec.names:
        yield Finding("ConditionSpec.names has 'class', by which users ask for the class", "call the number otherwise")
    if spec.left_open not in ("refused", "drawn", "dropped"):
        yield Finding(f"ConditionSpec.left_open is {spec.left_open!r}", "use refused, drawn or dropped")
    elif spec.left_open != "refused" and not (spec.parts and len(spec.names) == spec.size):
        yield Finding(
            f"ConditionSpec({spec.kind!r}) lets callers leave parts open that have no names",
            "give `names`: those who ask for some parts name them",
        )


def sizes(subject: Subject) -> Iterator[Finding]:
    """Sizes that callers may ask for lie in the layout."""
    found, most = subject.modules.sizes, subject.modules.layout.registers
    if found is None:
        return
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(one, int) for one in found)):
        raise UniteError(f"modules.sizes is {found!r}", "set it to (fewest, most) registers, or leave it None")
    if not 1 <= found[0] <= found[1] <= most:
        yield Finding(
            f"modules.sizes is {found}, but the layout has {most} registers", "give the fewest and the most, from 1"
        )


def start_weights(subject: Subject) -> Iterator[Finding]:
    """Start weights come from torch's global generator alone, and frozen networks are no part of the model."""
    states: list[Any] = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            states.append(subject.build_modules().state_dict())
    where = difference(*states)
    if where:
        yield Finding(
            f"two models of the same seed begin with different weights: {where}",
            "draw start weights with torch.nn.init and torch.randn, with no generator of your own",
        )
    subject.need("terms")  # a network that is loaded by the first loss is there now
    frozen = [
        name
        for name, parameter in subject.model.modules_of(subject.name).named_parameters()
        if not parameter.requires_grad
    ]
    if frozen:
        yield Finding(
            f"{len(frozen)} parameters are frozen, first {frozen[0]}: every checkpoint would hold them",
            "keep a frozen network outside the module tree (in a plain object), fixed numbers in a buffer",
        )


def _listed(value: Any) -> Any:
    """A value with its tuples as lists, as JSON knows them."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value
