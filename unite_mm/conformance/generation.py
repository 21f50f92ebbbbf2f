"""Checks of the prior and of generation."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import alike, check_generator, other_randomness, shape
from unite_mm.contract import PriorSample
from unite_mm.errors import UniteError

DRAWS = 64


def prior(subject: Subject) -> Iterator[Finding]:
    """The prior draws used registers of the layout, and depends on its generator alone."""
    layout, spec = subject.modules.layout, subject.modules.condition
    for seed in range(DRAWS):
        draws = []
        for other in (1, 2):
            with other_randomness(other):
                draws.append(_draw(subject, seed))
        first, second = draws
        mask, own = first.mask, first.condition
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise UniteError(f"the mask of a prior draw is {shape(mask)}, not boolean", "compare, as in `index < n`")
        if mask.shape != (layout.registers,):
            raise UniteError(
                f"the prior leaves the layout: its mask is {shape(mask)}, not (K,) = ({layout.registers},)",
                "return one entry for each register of the layout",
            )
        if not bool(mask.any()):
            raise UniteError("the prior draws a sample without registers", "draw at least one")
        if not _same(first, second):
            raise UniteError(
                "the prior draws something else from a generator of the same seed",
                "draw from the generator it is given, and from nothing else: pass generator=generator",
            )
        if spec.kind == "none" and own is not None:
            raise UniteError("the prior draws a condition, but the modules declare none", "return PriorSample(mask)")
        if own is not None and not _fits(own, spec.kind, spec.size):
            wanted = "an int64 class ()" if spec.kind == "classes" else f"float ({spec.size},)"
            raise UniteError(f"the prior's condition is {shape(own)}, not {wanted} in range", "as ConditionSpec says")
    yield from ()


def asked_condition(subject: Subject) -> Iterator[Finding]:
    """The prior keeps the condition that a caller asks for."""
    subject.need("prior")
    if subject.modules.condition.kind == "none":
        return
    asked = subject.batch.condition[0]
    kept = [_draw(subject, seed, asked).condition for seed in range(DRAWS)]
    if not all(condition is not None and alike(condition, asked) for condition in kept):
        yield Finding(
            "the prior drops the condition it is asked for: samples would be drawn without it, or with another",
            "return it: PriorSample(mask, condition)",
        )


def generation(subject: Subject) -> Iterator[Finding]:
    """Generated latents become native samples."""
    subject.need("prior", "outputs", "marked")
    generated = subject.generated
    if any(sample is None for sample in generated):
        yield Finding("modules.samples() returns None", "return a native object for every sample, sound or not")


def _draw(subject: Subject, seed: int, condition: Any = None) -> PriorSample:
    modules = subject.modules
    with calling("prior()"):
        draw = modules.prior(check_generator(seed), condition)
    if not isinstance(draw, PriorSample):
        raise UniteError(f"prior() returns {type(draw).__name__}", "return unite_mm.contract.PriorSample")
    return draw


def _same(left: PriorSample, right: PriorSample) -> bool:
    if (left.condition is None) != (right.condition is None) or not alike(left.mask, right.mask):
        return False
    return left.condition is None or right.condition is None or alike(left.condition, right.condition)


def _fits(condition: Any, kind: str, size: int) -> bool:
    if not isinstance(condition, Tensor):
        return False
    if kind == "classes":
        return condition.shape == () and condition.dtype == torch.int64 and 0 <= int(condition) < size
    return condition.shape == (size,) and condition.is_floating_point() and bool(condition.isfinite().all())
