"""Features of reference images, kept in the cache: the next evaluation against the same data does not compute them."""

from pathlib import Path

import numpy as np
import torch

from unite_mm.kit.arrays import ArraySpec, read_npz
from unite_mm.progress import Progress
from unite_mm_image.metrics.features import Extractor, Features
from unite_mm_image.metrics.image_sets import ImageSet, SplitSet

VERSION = 1
"""Of what is kept; another one computes anew."""

MOST_KEPT = 1 << 17
"""Images whose features are kept at most: those by Inception take 1 GiB."""

_FILE = "features.npz"
_ARRAYS = {
    "pool": ArraySpec(np.float32, (("N", "D"),), finite=True, empty=False),
    "logits": ArraySpec(np.float32, (("N", "K"),), required=False),
}


def features_of_reference(images: ImageSet, extractor: Extractor, progress: Progress) -> Features:
    """Features of images that others are compared with; those of prepared data from the cache, if they are there.

    Raises:
        UsageError, UniteError: as `Extractor.features`, or the cache cannot be written.
    """

    def compute() -> Features:
        return extractor.features(images, progress, "Features of the reference")

    if not isinstance(images, SplitSet) or extractor.identity is None or len(images) > MOST_KEPT:
        return compute()
    data = images.data
    if data.cache is None:
        return compute()
    facts = [
        VERSION, data.card.model_dump(mode="json"), images.split, list(data.classes), data.config.size,
        data.config.colours, extractor.identity, torch.device(extractor.device).type, torch.__version__,
    ]  # fmt: skip
    folder = data.cache.folder("features", facts)
    return data.cache.open(folder, lambda aside: _write(compute(), aside / _FILE), lambda there: _read(there / _FILE))


def _write(features: Features, path: Path) -> None:
    arrays = {"pool": features.pool.numpy()}
    if features.logits is not None:
        arrays["logits"] = features.logits.numpy()
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's signature takes names for flags


def _read(path: Path) -> Features:
    """Features of a file; raises as `PluginCache.open` asks where there are none, or damaged ones."""
    path.stat()
    found = read_npz(path, _ARRAYS)
    logits = found.get("logits")
    return Features(torch.from_numpy(found["pool"]), None if logits is None else torch.from_numpy(logits))
