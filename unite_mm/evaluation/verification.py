"""Checks of a prepared data set that need no knowledge of its modality."""

from dataclasses import dataclass
from pathlib import Path

import torch

from unite_mm.contract import SPLITS, ModalityData
from unite_mm.progress import Progress
from unite_mm.utils.files import file_sha256, folder_sha256
from unite_mm_schemas.card import DataCard, SourceFile

BATCH = 1024


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        title: what was checked.
        passed: whether it holds.
        detail: what was found.
    """

    title: str
    passed: bool
    detail: str


def verify_data(data: ModalityData, source: Path | None, progress: Progress) -> list[Check]:
    """Check a data set against its card.

    Args:
        data: the opened data.
        source: the file or folder it was prepared from, if it is at hand: its hashes are compared.
        progress: where to show progress.
    """
    checks = [_sums(data.card), *(_split(data, split, progress) for split in SPLITS)]
    if source is not None and source.exists():
        checks += [_source_file(source, file) for file in data.card.files]
    return checks


def _sums(card: DataCard) -> Check:
    left_out = sum(entry.count for entry in card.excluded)
    in_splits = sum(card.splits.values())
    passed = card.kept + left_out == card.read and in_splits == card.kept
    detail = f"{card.kept:,} kept + {left_out:,} left out of {card.read:,} read; {in_splits:,} in splits"
    return Check("counts of the card", passed, detail)


def _split(data: ModalityData, split: str, progress: Progress) -> Check:
    """Every sample of a split can be made into a batch, and uses at least one register."""
    size, expected = data.size(split), data.card.splits.get(split, 0)
    empty = 0
    with progress.task(f"Reading {split}", size) as advance:
        for start in range(0, size, BATCH):
            indices = torch.arange(start, min(start + BATCH, size))
            batch = data.batch(split, indices)
            empty += int((~batch.registers.mask.any(1)).sum())
            advance(len(indices))
    return Check(f"split {split}", size == expected and not empty, f"{size:,} of {expected:,} samples, {empty} empty")


def _source_file(source: Path, file: SourceFile) -> Check:
    path = source if source.is_file() else source / file.name
    title = f"file {file.name}"
    whole = file.name.endswith("/")  # a folder that counts as one file
    if whole and source.is_dir():
        digest = folder_sha256(source)
    elif not whole and path.is_file():
        digest = file_sha256(path)
    else:
        return Check(title, False, "is missing")
    return Check(title, digest == file.sha256, f"sha256 {digest}")
