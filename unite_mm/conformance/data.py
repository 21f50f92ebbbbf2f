"""Checks of the data: the card, splits, batches, native samples."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import check_generator, difference, left_alone, other_randomness, shape, tensors
from unite_mm.contract import SPLITS, ConditionSpec, ModalityData, Registers, Targets
from unite_mm.errors import UniteError
from unite_mm_schemas.card import DataCard

NOWHERE = "no-such-source-of-data"


def data(subject: Subject) -> Iterator[Finding]:
    """The data open, with a card whose counts add up and a training split that is not empty."""
    opened = subject.data
    if not isinstance(opened, ModalityData):
        raise UniteError(
            f"open_data() returns {type(opened).__name__}", "return a subclass of unite_mm.contract.ModalityData"
        )
    card = getattr(opened, "card", None)
    if not isinstance(card, DataCard):
        raise UniteError(f"the data's `card` is {type(card).__name__}", "set it to a DataCard of unite_mm_schemas.card")
    if card.modality != subject.name:
        yield Finding(f"card.modality is {card.modality!r}", f"write {subject.name!r}")
    for split in SPLITS:
        with calling("data.size()"):
            size = opened.size(split)
        if size != card.splits.get(split):
            yield Finding(
                f"data.size({split!r}) is {size}, but card.splits has {card.splits.get(split)}",
                "the card counts the samples of `train`, `validation` and `test`",
            )
        if split == "train" and size < 2:
            yield Finding(f"the training split holds {size} samples", "use a source with some")
        yield from _lengths(opened, split, size)
        yield from _targets(opened, split, size)
    left_out = sum(entry.count for entry in card.excluded)
    if card.kept + left_out != card.read or sum(card.splits.values()) != card.kept:
        yield Finding(
            f"the card's counts do not add up: {card.read} read, {left_out} excluded, {card.kept} kept, "
            f"{sum(card.splits.values())} in splits",
            "`kept` and the counts of `excluded` add up to `read`, and the splits to `kept`",
        )


def unknown_source(subject: Subject) -> Iterator[Finding]:
    """A source that does not exist is refused."""
    modality = subject.modality
    subject.need("data")
    try:
        with calling("open_data() of a source that does not exist"):
            modality.open_data(subject.request(NOWHERE))
    except UniteError as error:
        if isinstance(error.__cause__, UniteError):
            return
        raise
    yield Finding(
        f"open_data() accepts the source {NOWHERE!r}",
        "raise UsageError for a source you do not know: nobody should train on other data than they asked for",
    )


def batches(subject: Subject) -> Iterator[Finding]:
    """A batch has a boolean register mask inside the layout, and conditions that fit the model's."""
    batch, layout, spec = subject.batch, subject.modules.layout, subject.modules.condition
    registers = getattr(batch, "registers", None)
    if not isinstance(registers, Registers):
        raise UniteError(
            f"batch.registers is {type(registers).__name__}", "make it a Registers, as Registers.from_counts does"
        )
    count, mask = len(subject.indices), registers.mask
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise UniteError(f"batch.registers.mask is {shape(mask)}, not boolean", "compare, as in `index < counts`")
    if mask.dim() != 2 or len(mask) != count:
        raise UniteError(
            f"batch.registers.mask is {shape(mask)}, not (B, L) with B = {count}", "give each sample of the batch a row"
        )
    if mask.shape[1] > layout.registers:
        yield Finding(
            f"the batch uses {mask.shape[1]} registers, but the layout has {layout.registers}",
            "leave such samples out of the data, or make LatentLayout.registers larger",
        )
    if not bool(mask.any(1).all()):
        yield Finding("a sample of the batch uses no register", "every sample needs one; leave empty samples out")
    if registers.padded != (not bool(mask.all())):
        yield Finding(
            f"batch.registers.padded is {registers.padded}, but the mask says otherwise",
            "padded is whether any entry of the mask is False; Registers.from_counts sets it",
        )
    yield from _condition(batch.condition, spec, count)


def repeatable_batches(subject: Subject) -> Iterator[Finding]:
    """A batch depends on its indices and the generator alone."""
    subject.need("batch")
    for generator, what in ((None, "without a generator"), (7, "with a generator of the same seed")):
        made = []
        for seed in (1, 2):
            with other_randomness(seed):
                made.append(
                    subject.new_batch(subject.indices, None if generator is None else check_generator(generator))
                )
        where = difference(*made)
        if where:
            yield Finding(
                f"two batches of the same samples {what} differ in {where}",
                "draw all random numbers from the generator; without one, leave the samples as they are",
            )
            return


def devices(subject: Subject) -> Iterator[Finding]:
    """A batch is copied to another device with all that it holds."""
    subject.need("batch")
    with calling("batch.to()"):
        moved: Any = subject.batch.to(torch.device("meta"))
    left = [path for path, tensor in tensors(moved) if tensor.device.type != "meta"]
    if type(moved) is not type(subject.batch) or left:
        yield Finding(
            f"batch.to(device) leaves {left[0]} where it was" if left else f"batch.to() returns {type(moved).__name__}",
            "return a copy of the batch with every tensor, and the registers, on the device",
        )


def native_samples(subject: Subject) -> Iterator[Finding]:
    """Native samples, encoded, give what the data's own batches give."""
    samples, batch, modality = subject.samples, subject.batch, subject.modality
    if not isinstance(samples, list) or len(samples) != len(subject.indices):
        raise UniteError(
            f"data.samples() returns {len(samples)} objects for {len(subject.indices)} indices", "return one for each"
        )
    samples = copy.deepcopy(samples)  # of some data they are views: what changes them would change the data
    with left_alone("encode_samples()", samples=samples), calling("encode_samples()"):
        encoded = modality.encode_samples(samples, subject.statistics)
    if difference(encoded.registers, batch.registers):
        yield Finding(
            "encode_samples() uses other registers than data.batch() of the same samples",
            "count the registers of a sample in one function, used by both",
        )
        return
    ours, theirs = subject.tokenize_input(encoded), subject.tokens
    if difference(ours, theirs, 1e-3):
        yield Finding(
            "encode_samples() gives other input tokens than data.batch() of the same samples",
            "`reconstruct` would see something else than training did: share the code that makes the tensors",
        )
        return
    for split in SPLITS[1:]:
        rows = torch.arange(min(subject.data.size(split), 2))
        if len(rows) and _of_another_split(subject, split, rows):
            yield Finding(
                f"data.batch({split!r}, ...) holds other samples than data.samples({split!r}, ...)",
                "take both from the split that is named: what is held out must not be training samples",
            )


def _of_another_split(subject: Subject, split: str, rows: Tensor) -> bool:
    data, modality = subject.data, subject.modality
    with calling(f"data.samples({split!r}, ...)"):
        samples = data.samples(split, rows)
    with calling(f"data.batch({split!r}, ...)"):
        batch = data.batch(split, rows)
    with calling("encode_samples()"):
        encoded = modality.encode_samples(samples, subject.statistics)
    if difference(encoded.registers, batch.registers):
        return True
    return difference(subject.tokenize_input(encoded), subject.tokenize_input(batch), 1e-3) is not None


def _lengths(opened: ModalityData, split: str, size: int) -> Iterator[Finding]:
    with calling("data.lengths()"):
        lengths = opened.lengths(split)
    if lengths is not None and (not isinstance(lengths, Tensor) or lengths.shape != (size,) or lengths.is_complex()):
        yield Finding(f"data.lengths({split!r}) is {shape(lengths)}", f"return int64 ({size},), or None")
    elif lengths is not None and lengths.dtype != torch.int64:
        yield Finding(f"data.lengths({split!r}) is {shape(lengths)}", "return int64")


def _targets(opened: ModalityData, split: str, size: int) -> Iterator[Finding]:
    with calling("data.targets()"):
        found = opened.targets(split)
    if found is None:
        return
    if not isinstance(found, Targets):
        yield Finding(f"data.targets({split!r}) is {shape(found)}", "return unite_mm.contract.Targets, or None")
        return
    values, classes = found.values, found.kind == "classes"
    wanted = f"int64 ({size},)" if classes else f"float ({size}, {len(found.names)})"
    right = values.dtype == torch.int64 if classes else values.is_floating_point()
    if not right or values.shape != ((size,) if classes else (size, len(found.names))):
        yield Finding(f"data.targets({split!r}).values is {shape(values)}", f"return {wanted}")
    elif classes and len(values) and not -1 <= int(values.min()) <= int(values.max()) < len(found.names):
        yield Finding(
            f"data.targets({split!r}) names {len(found.names)} classes and holds {int(values.max())}",
            "classes count from 0; -1 stands for an unknown one",
        )


def _condition(condition: Any, spec: ConditionSpec, count: int) -> Iterator[Finding]:
    """Findings of a batch's condition against what the modules declare."""
    if spec.kind == "none":
        if condition is not None:
            yield Finding(
                "batch.condition is set, but the modules declare none", 'declare it: ConditionSpec("classes", N)'
            )
        return
    if condition is None:
        yield Finding(
            f"batch.condition is None, but the modules declare {spec.kind}: the model would never learn it",
            "set it in every batch of the data, or declare ConditionSpec()",
        )
        return
    wanted = f"int64 ({count},)" if spec.kind == "classes" else f"float ({count}, {spec.parts})"
    kind = isinstance(condition, Tensor) and (
        condition.dtype == torch.int64 if spec.kind == "classes" else condition.is_floating_point()
    )
    if not kind or condition.shape != (count, *spec.shape):
        yield Finding(f"batch.condition is {shape(condition)}, not {wanted}", "as the modules' ConditionSpec says")
        return
    classes = condition[:, 0][~condition[:, 0].isnan()] if spec.kind == "mixed" else condition
    if spec.class_count and not bool(((classes >= 0) & (classes < spec.class_count)).all()):
        yield Finding(
            f"batch.condition holds {int(classes.max())}, but there are {spec.class_count} classes",
            "classes count from 0",
        )
    elif bool(condition.double().isinf().any()):
        yield Finding("batch.condition holds numbers that are not finite", "leave such samples out")
    elif spec.left_open != "dropped" and bool(condition.double().isnan().any()):
        yield Finding(
            "batch.condition holds numbers that are not finite",
            'leave such samples out, or let the model learn to do without: left_open="dropped"',
        )
