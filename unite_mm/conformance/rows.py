"""Checks of which samples the data give: those that were asked for, in that order, and none in two splits."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import alike, contents, tensors, unlike
from unite_mm.contract import SPLITS

LOOKED_AT = 400
"""Samples of each split that are compared with those of the others."""

ROUNDING = 1e-3


def order(subject: Subject) -> Iterator[Finding]:
    """Batches and native samples hold what their indices name, in that order."""
    subject.need("batch")
    data, indices, batch = subject.data, subject.indices, subject.batch
    with calling("data.samples()"):
        together = data.samples("train", indices)
        alone = [data.samples("train", row[None]) for row in indices]
    if not isinstance(together, list) or len(together) != len(indices):
        what = f"{len(together)} objects" if isinstance(together, list) else type(together).__name__
        yield Finding(f"data.samples() returns {what} for {len(indices)} indices", "return a list, one for each")
    elif any(not isinstance(own, list) or len(own) != 1 for own in alone):
        yield Finding("data.samples() does not return one object for one index", "return a list, one for each index")
    elif any(unlike(one, own[0]) for one, own in zip(together, alone, strict=True)):
        yield Finding(
            "data.samples() gives other samples for several indices than one by one",
            "give them in the order of the indices, however these are sorted",
        )
    rows = [subject.new_batch(row[None]) for row in indices]
    condition = batch.condition
    kept = [alike(condition[k : k + 1], own.condition, ROUNDING) for k, own in enumerate(rows) if condition is not None]
    fits = [[_row_fits(batch, row, own) for own in rows] for row in range(len(indices))]
    if all(any(line) for line in fits) and not all(fits[row][row] for row in range(len(indices))):
        yield Finding(
            "data.batch() gives its samples in another order than the indices",
            "row k of every tensor, of the registers and of the condition belongs to indices[k]",
        )
    elif not all(kept):
        yield Finding(
            "data.batch() gives a sample another condition in a batch than alone",
            "row k of the condition belongs to indices[k], and follows from that sample alone",
        )


def splits(subject: Subject) -> Iterator[Finding]:
    """No sample is in two splits: what is held out must not have been trained on."""
    subject.need("batch")
    seen: dict[bytes, tuple[str, int]] = {}
    for split in SPLITS:
        own: dict[bytes, tuple[str, int]] = {}
        for index, sample in _looked_at(subject, split):
            own.setdefault(fingerprint(sample), (split, index))
        shared = [(seen[key], own[key]) for key in own if key in seen]
        if shared:
            (first, where), (second, index) = shared[0]
            yield Finding(
                f"{len(shared)} of {len(own)} samples of {second!r} are in {first!r} too: {index} is its {where}",
                "split by a hash of each sample's content, and put equal samples into one split",
            )
            return
        seen |= own


def fingerprint(sample: Any) -> bytes:
    """A hash of all that a native sample holds."""
    digest = hashlib.sha256()
    for path, part in contents(sample):
        content = part.contiguous().numpy().tobytes() if isinstance(part, Tensor) else part.encode()
        digest.update(f"{path} {len(content)}\n".encode() + content)
    return digest.digest()


def _looked_at(subject: Subject, split: str) -> Iterator[tuple[int, Any]]:
    """Samples of a split with their indices: the first, the last and some between."""
    data = subject.data
    size = data.size(split)
    if not size:
        return
    ends = LOOKED_AT // 4
    chosen = torch.cat(
        (
            torch.arange(min(size, ends)),
            torch.arange(max(0, size - ends), size),
            torch.linspace(0, size - 1, min(size, LOOKED_AT - 2 * ends)).long(),
        )
    ).unique()
    with calling(f"data.samples({split!r}, ...)"):
        yield from zip(chosen.tolist(), data.samples(split, chosen), strict=True)


def _row_fits(batch: Any, row: int, alone: Any) -> bool:
    """Whether a row of a batch holds the one sample of another batch, in the extent that both have."""
    ours, theirs = dict(tensors(batch)), dict(tensors(alone))
    count = len(batch.registers.mask)
    if int(batch.registers.mask[row].sum()) != int(alone.registers.mask.sum()):
        return False
    for path, tensor in ours.items():
        other = theirs.get(path)
        if other is None or not tensor.dim() or tensor.dim() != other.dim() or len(tensor) != count or len(other) != 1:
            continue
        common = tuple(slice(min(pair)) for pair in zip(tensor.shape[1:], other.shape[1:], strict=True))
        if not alike(tensor[row][common], other[0][common], ROUNDING):
            return False
    return True
