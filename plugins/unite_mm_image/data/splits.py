"""Fixed splits: which split an image is in follows from its decoded pixels, whatever its name, file or order."""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unite_mm.contract import SPLITS

UNDECIDED = 255
"""Mark of an image that no folder puts into a split."""

LEFT_OUT = 254
"""Mark of an image that is in no split."""

MOST_HELD_OUT = 5_000
"""Images of a held-out split that is taken from the training images; a tenth of small sets."""

_STRIP = 1 << 22
"""Pixels of an image that are turned to bytes at once."""

Keys = NDArray[np.uint64]
"""(N, 2) the first 128 bits of the SHA-256 of each image's extent and RGB pixels before any resampling."""


def key_of(image: Image.Image) -> NDArray[np.uint64]:
    """The key (2,) of an image in mode RGB or L; a grey image has that of its RGB form."""
    digest = hashlib.sha256(f"{image.width} {image.height}\n".encode())
    step = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, step):  # in strips: the bytes of a large image would be another copy of it
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        digest.update((strip if strip.mode == "RGB" else strip.convert("RGB")).tobytes())
    return np.frombuffer(digest.digest()[:16], dtype=">u8").astype(np.uint64)


def complete(keys: Keys, given: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put the undecided images into splits, and take held-out splits that are missing from the training images.

    Distinct keys are ranked. In that order each goes, with all images that share it, to the test split while it has
    room for them, else to the validation split, else to the training split. One or two images are all for training;
    so are those that a given held-out split shows too.

    Args:
        keys: (N, 2).
        given: (N,) index into `SPLITS`, `UNDECIDED` or `LEFT_OUT`.

    Returns:
        (N,) index into `SPLITS` or `LEFT_OUT`.
    """
    splits = given.copy()
    train, validation, test = range(len(SPLITS))
    pool = np.flatnonzero((given == UNDECIDED) | (given == train))
    splits[pool] = train
    missing = [split for split in (test, validation) if not (given == split).any()]
    if len(pool) < 3 or not missing:
        return splits
    room = dict.fromkeys(missing, min(MOST_HELD_OUT, max(1, len(pool) // 10)))
    held = np.flatnonzero((given == validation) | (given == test))
    _, group = np.unique(keys[np.concatenate([pool, held])], axis=0, return_inverse=True)
    group = group.reshape(-1)
    counts = np.bincount(group[: len(pool)], minlength=len(group))
    shown = np.zeros(len(counts), dtype=bool)
    shown[group[len(pool) :]] = True
    split_of = np.full(len(counts), train, dtype=np.uint8)
    # np.unique sorts, which for hashes is a fixed shuffle.
    for index, count in enumerate(np.where(shown, 0, counts).tolist()):
        if not count:
            continue
        split = next((split for split in missing if room[split] >= count), None)
        if split is not None:
            room[split] -= count
            split_of[index] = split
        if not any(room.values()):
            break
    splits[pool] = split_of[group[: len(pool)]]
    return splits


def shared(keys: Keys, splits: NDArray[np.uint8]) -> int:
    """Images of the held-out splits that stand in another split too."""
    kept = np.flatnonzero(splits < len(SPLITS))
    _, group = np.unique(keys[kept], axis=0, return_inverse=True)
    group = group.reshape(-1)
    present = np.zeros((len(SPLITS), int(group.max()) + 1 if len(group) else 0), dtype=bool)
    present[splits[kept], group] = True
    twice = present.sum(axis=0) > 1
    return int((twice[group] & (splits[kept] != SPLITS.index("train"))).sum())


def split_hash(keys: Keys, splits: NDArray[np.uint8]) -> str:
    """SHA-256 over the sorted keys of each split: equal for equal splits, whatever the order and the names of files."""
    digest = hashlib.sha256()
    for index, name in enumerate(SPLITS):
        members = keys[splits == index]
        members = members[np.lexsort((members[:, 1], members[:, 0]))]
        digest.update(f"# {name} {len(members)}\n".encode())
        digest.update(members.astype(">u8").tobytes())
    return digest.hexdigest()


def count_splits(splits: NDArray[np.uint8]) -> dict[str, int]:
    """Images in each split."""
    return {name: int((splits == index).sum()) for index, name in enumerate(SPLITS)}
