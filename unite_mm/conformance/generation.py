"""Checks of the prior and of generation."""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import alike, check_generator, other_randomness, shape
from unite_mm.contract import ConditionSpec, PriorSample, SampleRequest
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
        if own is not None and not _fits(own, spec):
            wanted = "an int64 class ()" if spec.kind == "classes" else f"float ({spec.parts},)"
            raise UniteError(f"the prior's condition is {shape(own)}, not {wanted} in range", "as ConditionSpec says")
    yield from ()


def asked_condition(subject: Subject) -> Iterator[Finding]:
    """The prior keeps the condition that a caller asks for."""
    subject.need("prior")
    if subject.modules.condition.kind == "none":
        return
    spec, asked = subject.modules.condition, subject.batch.condition[0]
    kept = [_draw(subject, seed, asked).condition for seed in range(DRAWS)]
    if not all(_keeps(condition, asked) for condition in kept):
        yield Finding(
            "the prior drops the condition it is asked for: samples would be drawn without it, or with another",
            "return it: PriorSample(mask, condition)",
        )
    if spec.left_open == "refused":
        return
    for part, name in enumerate(spec.part_names):
        alone = torch.full_like(asked, float("nan"))
        alone[part] = asked[part]
        for seed in range(DRAWS):
            found = _draw(subject, seed, alone).condition
            if not _keeps(found, alone) or not _fits(found, spec):
                yield Finding(
                    f"asked for {name!r} alone, the prior returns {shape(found)}: {found}",
                    "keep what is not NaN, and draw the rest (or, with left_open=dropped, leave it NaN)",
                )
                break


def asked_size(subject: Subject) -> Iterator[Finding]:
    """The prior gives as many registers as a caller asks for."""
    subject.need("prior")
    if subject.modules.sizes is None:
        return
    layout = subject.modules.layout.registers
    counts = [int(_draw(subject, seed).mask.sum()) for seed in range(DRAWS)]
    for size in sorted(set(counts)):
        for seed in range(4):
            found = _draw(subject, seed, size=size).mask
            if int(found.sum()) != size or found.shape != (layout,):
                yield Finding(
                    f"asked for {size} registers, the prior gives {int(found.sum())}",
                    "heed `size` in prior_for(), or leave modules.sizes None",
                )
                return
    asked = subject.batch.condition
    if subject.modules.condition.kind == "none" or asked is None:
        return
    own = int(subject.batch.registers.mask[0].sum())  # other sizes may not go together with this sample's condition
    if not all(_keeps(_draw(subject, seed, asked[0], size=own).condition, asked[0]) for seed in range(DRAWS)):
        yield Finding(
            "the prior drops the condition it is asked for where a size is asked for too",
            "pass it on in prior_for(): PriorSample(mask, request.condition)",
        )


def sampling_options(subject: Subject) -> Iterator[Finding]:
    """Options of the plugin's own for generation are a Pydantic model that refuses unknown keys, all with defaults."""
    with calling("sampling_options()"):
        options = subject.modality.sampling_options()
    if options is None:
        return
    if not isinstance(options, BaseModel) or options.model_config.get("extra") != "forbid":
        raise UniteError(
            f"sampling_options() returns {type(options).__name__}",
            'return a Pydantic model with model_config = ConfigDict(extra="forbid"), or None',
        )
    required = [name for name, field in type(options).model_fields.items() if field.is_required()]
    if required:
        yield Finding(f"options of sampling without a default: {', '.join(required)}", "give each a default")


def generation(subject: Subject) -> Iterator[Finding]:
    """Generated latents become native samples."""
    subject.need("prior", "outputs", "marked")
    generated = subject.generated
    if any(sample is None for sample in generated):
        yield Finding("modules.samples() returns None", "return a native object for every sample, sound or not")


def shipped(subject: Subject) -> Iterator[Finding]:
    """Every model that the manifest lists loads and generates."""
    subject.need("modality")
    for entry in subject.plugin.manifest.models:
        try:
            model = UNITE.from_pretrained(subject.plugin.folder / entry.folder)
            with calling(f"the model {entry.name}, generating a sample"):
                model.generate(1, modality=subject.name, steps=2)
        except UniteError as error:
            yield Finding(f"the model {entry.name}: {error.message}", error.hint or "export it anew")


def _keeps(found: Any, asked: Tensor) -> bool:
    """Whether a condition is the one asked for, wherever that is not left open."""
    if not isinstance(found, Tensor) or found.shape != asked.shape:
        return False
    wanted = ~asked.isnan() if asked.is_floating_point() else torch.ones_like(asked, dtype=torch.bool)
    return alike(found[wanted], asked[wanted])


def _draw(subject: Subject, seed: int, condition: Any = None, size: int | None = None) -> PriorSample:
    modules = subject.modules
    request = SampleRequest(condition, size, subject.modality.sampling_options())
    with calling("prior()"):
        draw = modules.prior_for(check_generator(seed), request)
    if not isinstance(draw, PriorSample):
        raise UniteError(f"prior() returns {type(draw).__name__}", "return unite_mm.contract.PriorSample")
    return draw


def _same(left: PriorSample, right: PriorSample) -> bool:
    if (left.condition is None) != (right.condition is None) or not alike(left.mask, right.mask):
        return False
    return left.condition is None or right.condition is None or alike(left.condition, right.condition)


def _fits(condition: Any, spec: ConditionSpec) -> bool:
    if not isinstance(condition, Tensor) or condition.shape != spec.shape:
        return False
    if spec.kind == "classes":
        return condition.dtype == torch.int64 and 0 <= int(condition) < spec.size
    open_parts = condition.isnan()
    if not condition.is_floating_point() or bool(condition.isinf().any()):
        return False
    if spec.kind == "mixed" and not open_parts[0] and not 0 <= int(condition[0]) < spec.class_count:
        return False
    return spec.left_open == "dropped" or not bool(open_parts.any())
