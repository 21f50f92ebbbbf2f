"""Fixed splits: which split a molecule is in follows from its canonical SMILES, whatever the order of the file."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import SPLITS

TEST, VALIDATION = 10_000, 5_000
"""Molecules of the held-out splits."""

SMALL = 50_000
"""Sets with fewer molecules hold out a tenth for each of the two instead."""


def assign(keys: Sequence[str]) -> NDArray[np.uint8]:
    """The split of each molecule, as an index into `SPLITS`.

    Distinct keys are ranked by their SHA-256. In that order each goes, with all molecules that share it, to the test
    split while it has room for them, else to the validation split, else to the training split. One or two molecules
    are all for training. Where a few molecules have so many conformers each that none fits a held-out split, but there
    are at least three, such a split gets the molecule of the fewest.

    Args:
        keys: (N,) canonical SMILES.
    """
    tenth = max(1, len(keys) // 10) if len(keys) > 2 else 0
    room = {"test": TEST, "validation": VALIDATION} if len(keys) >= SMALL else {"test": tenth, "validation": tenth}
    counts = Counter(keys)
    split_of: dict[str, int] = {}
    for key in sorted(counts, key=lambda key: hashlib.sha256(key.encode()).digest()):
        split = next((name for name in ("test", "validation") if room[name] >= counts[key]), "train")
        if split != "train":
            room[split] -= counts[key]
        split_of[key] = SPLITS.index(split)
    if len(counts) > 2:
        _fill_empty(split_of, counts)
    return np.array([split_of[key] for key in keys], dtype=np.uint8)


def _fill_empty(split_of: dict[str, int], counts: Counter[str]) -> None:
    """Give each held-out split that is empty one of the training molecules: that of the fewest, the first of equals."""
    train = SPLITS.index("train")
    for name in ("test", "validation"):
        if SPLITS.index(name) not in split_of.values():
            rest = [key for key, split in split_of.items() if split == train]
            if len(rest) > 1:
                split_of[min(rest, key=counts.__getitem__)] = SPLITS.index(name)


def split_hash(keys: Sequence[str], splits: NDArray[np.uint8]) -> str:
    """SHA-256 over the sorted keys of each split: equal for equal splits, whatever the file order.

    Args:
        keys: (N,) canonical SMILES.
        splits: (N,) index into `SPLITS`.
    """
    digest = hashlib.sha256()
    for index, name in enumerate(SPLITS):
        members = sorted(key for key, split in zip(keys, splits.tolist(), strict=True) if split == index)
        digest.update("\n".join([f"# {name} {len(members)}", *members, ""]).encode())
    return digest.hexdigest()
