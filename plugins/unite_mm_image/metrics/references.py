"""What generated images are compared with: prepared data, a folder, or an .npz file of statistics or images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from unite_mm.contract import SPLITS, DataRequest
from unite_mm.errors import UsageError
from unite_mm.kit.arrays import ArraySpec, npz_names, read_npz
from unite_mm.progress import Progress
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.array_files import array_shapes, read_arrays
from unite_mm_image.data.dataset import ImageData, open_data
from unite_mm_image.data.limits import MOST_SCORED, need_file
from unite_mm_image.data.listing import Layout, arrange, list_folder
from unite_mm_image.data.preprocessing import Colours
from unite_mm_image.metrics.distances import Moments, moments
from unite_mm_image.metrics.features import Extractor, Features
from unite_mm_image.metrics.image_sets import ArraySet, FolderSet, ImageSet, SplitSet
from unite_mm_image.metrics.kept_features import features_of_reference

STATISTICS: tuple[dict[str, ArraySpec], ...] = tuple(
    {
        mean: ArraySpec(np.floating, (("D",),), finite=True, empty=False),
        covariance: ArraySpec(np.floating, (("D", "D"),), finite=True, empty=False),
    }
    for mean, covariance in (("mu", "sigma"), ("ref_mean", "ref_cov"), ("mean", "cov"))
)
"""Mean and covariance of features in .npz files: as of pytorch-fid, ADM and clean-fid, of EDM's kin, or plain."""

FEATURES = {
    name: ArraySpec(np.floating, (("N", "D"),), finite=True, empty=False)
    for name in ("feats", "features", "activations")
}
"""Features of reference images in a .npz file, such as clean-fid's for its kernel distance."""

MOST_FEATURES = 8192
"""Features of an image in files of statistics; Inception has 2048, and the covariance grows with the square."""

_HINT = (
    "statistics are mu (D,) and sigma (D, D), or ref_mean and ref_cov, floating-point; features are feats (N, D); "
    "images are arr_0"
)
_SHOWN = 8
"""Names of arrays that a message lists."""


@dataclass(eq=False)
class ImageReference:
    """Images, statistics of their features, or both.

    Attributes:
        description: one line for tables.
        images: None where only statistics are known.
        given: statistics that were read and not computed; they take precedence for the Frechet distance.
        labels: (N,) classes of the images, where each has one.
        classes: names of the classes.
        notes: what a reader must know.
    """

    description: str
    images: ImageSet | None = None
    given: Moments | None = None
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    _known: "WeakKeyDictionary[Extractor, Features]" = field(default_factory=WeakKeyDictionary, repr=False)
    _moments: "WeakKeyDictionary[Extractor, Moments]" = field(default_factory=WeakKeyDictionary, repr=False)

    def features(self, extractor: Extractor, progress: Progress) -> Features | None:
        """Features of the images, computed once for each network, and kept for prepared data; None without images."""
        if self.images is None:
            return None
        if extractor not in self._known:
            self._known[extractor] = features_of_reference(self.images, extractor, progress)
        return self._known[extractor]

    def moments(self, extractor: Extractor, progress: Progress) -> tuple[Moments | None, str]:
        """Mean and covariance of the features, and whose they are in words; None where they cannot be computed."""
        if self.given is not None:
            return self.given, f"the statistics of {self.description}"
        features = self.features(extractor, progress)
        if features is None or len(features.pool) < 2:
            return None, "fewer than two images"
        if extractor not in self._moments:
            self._moments[extractor] = moments(features.pool)
        return self._moments[extractor], f"{len(features.pool):,} reference images ({self.description})"


def open_reference(request: DataRequest, config: ImageConfig, samples: Sequence[Image] = ()) -> ImageReference:
    """The reference that a source names.

    Images of a folder are taken as they are where they have the extent of the samples, else scaled and cut to it as
    training data are; other data are prepared at that extent.

    Args:
        request: its source is an .npz file, a folder, or anything `open_data` knows.
        config: size and colours where no samples are at hand, and the settings of the metrics.
        samples: what will be compared with it.

    Raises:
        UsageError: the source cannot be read or used.
        UniteError: as `open_data`.
    """
    path = Path(request.source).expanduser()
    need_file(path)
    if path.suffix.lower() == ".npz" and path.is_file():
        return _of_arrays(path)
    size, colours = _extent_and_colours(samples, config)
    if path.is_dir():
        return _of_folder(path, size, colours, config)
    if size is None:
        extents = sorted({sample.size for sample in samples})[:2]
        raise UsageError(
            f"samples are not squares of one size: {extents}", "prepared data are; compare with a folder of images"
        )
    return of_data(open_data(request, config.model_copy(update={"size": size, "colours": colours})), config)


def of_data(data: ImageData, config: ImageConfig) -> ImageReference:
    """One split of prepared data as a reference.

    Raises:
        UsageError: the split is empty.
    """
    split = config.metrics.reference_split
    if data.size(split) == 0:
        raise UsageError(f"the {split} split of {data.card.name} is empty", "set image.metrics.reference_split")
    return ImageReference(
        f"{data.description}, {split} split", SplitSet(data, split), labels=data.labels(split), classes=data.classes
    )


def _extent_and_colours(samples: Sequence[Image], config: ImageConfig) -> tuple[int | None, Colours]:
    """Extent and colours of the samples; the extent is None unless they are squares of one size."""
    if not samples:
        return config.size, config.colours
    extents = {sample.size for sample in samples}
    width, height = next(iter(extents))
    grey = all(sample.mode == "L" for sample in samples)
    return (width if len(extents) == 1 and width == height else None), ("grey" if grey else "rgb")


def _of_arrays(path: Path) -> ImageReference:
    """Statistics under any of the usual names, features of reference images, images `arr_0` (ADM), or several."""
    pairs = [pair for pair in STATISTICS if pair.keys() <= array_shapes(path, pair).keys()]
    given = _statistics(path, pairs[0]) if pairs else _of_features(path)
    if "arr_0" not in array_shapes(path, {"arr_0": None}):
        if given is None:
            raise UsageError(f"{path}: holds neither statistics nor images, but: {_names(path)}", _HINT)
        return ImageReference(path.name, given=given)
    pixels, labels = read_arrays(path, MOST_SCORED)
    known = None if labels is None else torch.from_numpy(labels)
    return ImageReference(path.name, ArraySet(pixels), given, known)


def _statistics(path: Path, pair: Mapping[str, ArraySpec]) -> Moments:
    """Mean and covariance, by their names in `pair`."""
    for name, shape in array_shapes(path, pair).items():
        if max(shape, default=0) > MOST_FEATURES:
            raise UsageError(f"{path}: {name} is of more than {MOST_FEATURES:,} features", _HINT)
    arrays = read_npz(path, pair, _HINT)
    mean, covariance = (arrays[name] for name in pair)
    if not np.allclose(covariance, covariance.T, rtol=1e-3, atol=1e-6) or (np.diag(covariance) < 0).any():
        raise UsageError(
            f"{path}: {tuple(pair)[1]} is no covariance: not symmetric, or with a negative diagonal", _HINT
        )
    return Moments(mean, covariance)


def _of_features(path: Path) -> Moments | None:
    """Moments of features that the file holds one row for each image of; None without them."""
    for name in array_shapes(path, FEATURES):
        features = read_npz(path, {name: FEATURES[name]}, _HINT)[name]
        if len(features) < 2 or features.shape[1] > MOST_FEATURES:
            raise UsageError(
                f"{path}: {name} is {features.shape}: two images are needed, and at most {MOST_FEATURES:,} features",
                _HINT,
            )
        return moments(torch.from_numpy(features.astype(np.float32)))
    return None


def _names(path: Path) -> str:
    found = npz_names(path)
    return ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")


def _of_folder(root: Path, size: int | None, colours: Colours, config: ImageConfig) -> ImageReference:
    listing = list_folder(root)
    try:
        layout = arrange(root, listing.paths)
    except UsageError:  # folders that say nothing clear are only a matter of training
        layout = Layout(np.full(len(listing.paths), -1, np.int32), np.full(len(listing.paths), 255, np.uint8))
    split, name = config.metrics.reference_split, root.resolve().name
    chosen = np.flatnonzero(layout.splits == SPLITS.index(split))
    description = f"{name}/, {split} split" if len(chosen) else f"{name}/"
    if not len(chosen):
        chosen = np.arange(len(listing.paths))
    paths = [listing.paths[index] for index in chosen.tolist()]
    labels = torch.from_numpy(layout.labels[chosen].astype(np.int64))
    images = FolderSet(root, paths, size, "grey" if colours == "grey" else None, config.max_unreadable)
    known = bool(len(layout.classes)) and bool((labels >= 0).all())
    return ImageReference(description, images, labels=labels if known else None, classes=layout.classes)
