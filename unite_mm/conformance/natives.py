"""Checks of native samples: what `samples` makes of a decoder output, and what else changes it."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import contents, left_alone, other_randomness, unlike
from unite_mm.contract import Registers

ROUNDING = 1e-2
"""Rounding of numbers and pixels that differs with the size of a batch, relative to the largest."""


def native_outputs(subject: Subject) -> Iterator[Finding]:
    """An output gives the same native samples every time, in their order, alone and beside longer ones."""
    subject.need("unpadded")
    wanted, values, registers = subject.outputs, subject.latents.values, subject.batch.registers
    output = subject.decode(values, subject.batch)
    made = []
    for seed in (1, 2):
        with other_randomness(seed):
            made.append(subject.natives(output, registers))
    where = next((path for path in map(_first_unlike, made, reversed(made)) if path), None)
    if where:
        yield Finding(
            f"modules.samples() gives other objects for the same output: {where} differs",
            "take the likeliest value, and draw nothing: sample k of a seed must be the same in any batch",
        )
        return
    alone = [_alone(subject, values, registers, row) for row in range(len(wanted))]
    if all(unlike(one, other, ROUNDING) is None for one, other in zip(wanted, alone, strict=True)):
        return
    if order_of(wanted, alone, ROUNDING) is not None:
        yield Finding("modules.samples() gives the samples in another order", "object k belongs to row k of the output")
        return
    yield Finding(
        "modules.samples() gives another object in a batch than alone: it lets padding or other samples in",
        "take from row k what registers.mask[k] marks, and nothing else",
    )


def parts(subject: Subject) -> Iterator[Finding]:
    """A reconstruction has as many parts as its registers, or the extent that all inputs share."""
    subject.need("unpadded", "samples")
    counts = subject.batch.registers.mask.sum(1).tolist()
    inputs, outputs = ([_extents(sample) for sample in group] for group in (subject.samples, subject.outputs))
    for path in inputs[0]:
        own = [sample.get(path) for sample in inputs]
        if None in own or len(own) < 2:
            continue
        # Only what follows the registers, or never changes, is a demand; bonds of a molecule, say, are neither.
        follows = len(set(counts)) > 1 and [extent[0] for extent in own if extent] == counts
        fixed = len(set(counts)) == 1 and len(set(own)) == 1
        for before, after in zip(own, outputs, strict=True):
            found = after.get(path)
            if before is None or found == before or not (follows or fixed):
                continue
            yield Finding(
                f"a reconstruction's {path or 'whole'} has the extent {found}, its input's {before}",
                "the decoder emits, and samples() keeps, a part for each used register",
            )
            return


def conditioned(subject: Subject) -> Iterator[Finding]:
    """Native samples that are told their condition are as many as before, in their order."""
    subject.need("outputs")
    condition, modules = subject.batch.condition, subject.modules
    if modules.condition.kind == "none" or condition is None:
        return
    plain = copy.deepcopy(subject.outputs)
    with left_alone("modules.conditioned()", condition=condition), calling("modules.conditioned()"):
        marked = modules.conditioned(copy.deepcopy(plain), condition)
        alone = [modules.conditioned([sample], condition[row : row + 1]) for row, sample in enumerate(plain)]
    if not isinstance(marked, list) or len(marked) != len(plain):
        what = f"{len(marked)} samples" if isinstance(marked, list) else type(marked).__name__
        yield Finding(
            f"modules.conditioned() returns {what} for {len(plain)}", "return a list of all samples it is given"
        )
    elif any(not isinstance(one, list) or len(one) != 1 for one in alone):
        yield Finding("modules.conditioned() does not return one sample for one", "return a list of them all")
    elif any(unlike(one, other[0]) for one, other in zip(marked, alone, strict=True)):
        yield Finding(
            "modules.conditioned() gives a sample another condition, or another place, than alone",
            "sample k gets condition[k], and stays where it is",
        )


def order_of(wanted: Sequence[Any], found: Sequence[Any], tolerance: float) -> list[int] | None:
    """Where each wanted object stands among those found; None: one is not there, or each is in its own place."""
    places: list[int] = []
    for one in wanted:
        free = (k for k, other in enumerate(found) if k not in places and unlike(one, other, tolerance) is None)
        place = next(free, None)
        if place is None:
            return None
        places.append(place)
    return None if places == sorted(places) else places


def _first_unlike(left: Sequence[Any], right: Sequence[Any]) -> str | None:
    return unlike(list(left), list(right))


def _alone(subject: Subject, values: Tensor, registers: Registers, row: int) -> Any:
    """The native object of a row that is decoded without its neighbours and its padding."""
    length = int(registers.mask[row].nonzero().max()) + 1
    mask = registers.mask[row : row + 1, :length]
    own = Registers(mask, padded=not bool(mask.all()))
    model = subject.model
    with calling("decoder() and modules.samples() of one sample"):
        output = model.network.decode(subject.name, values[row : row + 1, :length], own)
        return subject.natives(output, own)[0]


def _extents(sample: Any) -> dict[str, tuple[int, ...]]:
    """The extent of every array of an object, and the length of an object that is a text or a list itself."""
    found = {path: tuple(part.shape) for path, part in contents(sample) if isinstance(part, Tensor) and part.dim()}
    if isinstance(sample, str | bytes | list | tuple):
        found[""] = (len(sample),)
    return found
