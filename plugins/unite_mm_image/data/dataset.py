"""Prepared or rendered images as batches: indexed from one array of bytes, turned to tensors, flipped at random.

Dimensions: B batch, N images, C colours, S pixels of a side.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unite_mm.contract import SPLITS, DataRequest, ModalityData, Targets
from unite_mm.errors import UsageError
from unite_mm.kit.cache import PluginCache
from unite_mm_image.config import ImageConfig
from unite_mm_image.data import shapes
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.data.native import from_rows, rows_to_pictures
from unite_mm_image.data.prepare import Pixels, Prepared, open_prepared
from unite_mm_image.data.remote import shards_of
from unite_mm_image.data.sources import EXAMPLES
from unite_mm_image.data.splits import LEFT_OUT, count_splits, split_hash
from unite_mm_image.data.streamed import open_streamed
from unite_mm_schemas.card import DataCard, Exclusion

NO_CLASS = "lies in no class folder"
NO_TRAINING_IMAGES = "is of a class without training images"


class ImageData(ModalityData):
    """A set of square images, all of one size.

    Args:
        pixels: all images.
        rows: split -> its rows in `pixels`.
        labels: class of each row, index into `classes`; None where there are no classes.
        classes: names.
        card: where they came from.
        config: how they are seen.

    Attributes:
        classes: names of the classes; empty where there are none, or none are wanted.
        cache: where what is computed from them may be kept; None: nowhere.
    """

    cache: PluginCache | None = None

    def __init__(
        self,
        pixels: Pixels,
        rows: dict[str, NDArray[np.int64]],
        labels: NDArray[np.int64] | None,
        classes: tuple[str, ...],
        card: DataCard,
        config: ImageConfig,
    ) -> None:
        self.card = card
        self.config = config
        self.classes = classes if labels is not None else ()
        self._pixels = pixels
        self._rows = rows
        self._labels = labels

    def size(self, split: str) -> int:
        return len(self._rows[split])

    def blocks(self, split: str) -> Tensor | None:
        blocks = getattr(self._pixels, "blocks", None)
        return None if blocks is None else torch.from_numpy(blocks[self._rows[split]].astype(np.int64))

    def labels(self, split: str) -> Tensor | None:
        """Classes (N,) int64 of a split; None without classes."""
        return None if self._labels is None else torch.from_numpy(self._labels[self._rows[split]])

    def targets(self, split: str) -> Targets | None:
        labels = self.labels(split)
        return None if labels is None else Targets("classes", labels, self.classes)

    @property
    def statistics(self) -> dict[str, Any]:
        """`classes`, their names, and `class_counts`, how many training images each has; both empty without classes."""
        labels = self.labels("train")
        counts = [] if labels is None else torch.bincount(labels, minlength=len(self.classes)).tolist()
        return {"classes": list(self.classes), "class_counts": counts}

    def pixels(self, split: str, indices: Tensor | None = None) -> Tensor:
        """Pixels (N, C, S, S) uint8 of a split, or of the given samples only: a large set does not fit memory."""
        rows = torch.from_numpy(self._take(split, indices))
        return rows.permute(0, 3, 1, 2).contiguous()

    def batch(self, split: str, indices: Tensor, generator: torch.Generator | None = None) -> ImageBatch:
        pixels = from_rows(self._take(split, indices))
        if generator is not None and self.config.flip:
            flipped = torch.rand(len(pixels), generator=generator) < 0.5
            pixels[flipped] = pixels[flipped].flip(-1)
        labels = None if self._labels is None else torch.from_numpy(self._labels[self._rows[split][indices.numpy()]])
        return ImageBatch.of(pixels, self.config.registers, labels)

    def samples(self, split: str, indices: Tensor) -> list[Image.Image]:
        labels = None if self._labels is None else self._labels[self._rows[split][indices.numpy()]].tolist()
        return rows_to_pictures(self._take(split, indices), labels)

    def _take(self, split: str, indices: Tensor | None) -> NDArray[np.uint8]:
        rows = self._rows[split]
        return np.asarray(self._pixels[rows if indices is None else rows[indices.numpy()]])


def open_data(request: DataRequest, config: ImageConfig) -> ImageData:
    """Prepare a source, or find it prepared, and open it; `shapes` is rendered and needs no preparation.

    Raises:
        UsageError: the source does not exist, cannot be read, holds no usable image, too many unreadable ones, or a
            single class where the model is to be conditioned on classes.
        UniteError: it cannot be downloaded, or the cache cannot be written.
    """
    data = _open(request, config)
    data.cache = PluginCache(request, "image")
    return data


def _open(request: DataRequest, config: ImageConfig) -> ImageData:
    if request.source == "shapes":
        return _rendered_shapes(config)
    shards = shards_of(request)
    prepared = open_prepared(request, config) if shards is None else open_streamed(request, shards, config)
    return _classified(prepared, config) if config.condition == "class" else _plain(prepared, config)


def _rendered_shapes(config: ImageConfig) -> ImageData:
    rows, start = {}, 0
    for split in SPLITS:
        rows[split] = np.arange(start, start + shapes.SIZES[split])
        start += shapes.SIZES[split]
    labels = np.concatenate([np.arange(shapes.SIZES[split]) % len(shapes.CLASSES) for split in SPLITS])
    pixels, card = shapes.ShapePixels(config.size, config.colours), shapes.card(config.size, config.colours)
    known = labels if config.condition == "class" else None
    return ImageData(pixels, rows, known, shapes.CLASSES, card, config)


def _rows(splits: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    return {split: np.flatnonzero(splits == index) for index, split in enumerate(SPLITS)}


def _plain(prepared: Prepared, config: ImageConfig) -> ImageData:
    """All images, without classes."""
    _need_training(prepared.card)
    return ImageData(prepared.pixels, _rows(prepared.splits), None, (), prepared.card, config)


def _classified(prepared: Prepared, config: ImageConfig) -> ImageData:
    """The images of classes that have training images; all images, without classes, where no image has a class."""
    if not prepared.classes:
        return _plain(prepared, config)
    name = prepared.card.name
    unconditional = "train without classes: --set image.condition=none"
    if len(prepared.classes) == 1:
        raise UsageError(
            f"{name}: holds one class only ({prepared.classes[0]})", f"Give each class a folder, or {unconditional}"
        )
    splits, card = prepared.splits.copy(), prepared.card
    trainable_classes = np.unique(prepared.labels[(splits == SPLITS.index("train")) & (prepared.labels >= 0)])
    if len(trainable_classes) < 2:
        raise UsageError(
            f"{name}: {len(trainable_classes)} of its classes have training images",
            f"Two are needed; or {unconditional}",
        )
    for reason, wrong in (
        (NO_CLASS, prepared.labels < 0),
        (NO_TRAINING_IMAGES, (prepared.labels >= 0) & ~np.isin(prepared.labels, trainable_classes)),
    ):
        gone = wrong & (splits != LEFT_OUT)
        if gone.any():
            card = _without(prepared, card, splits, gone, reason)
    empty = [split for split in SPLITS if prepared.card.splits[split] and not card.splits[split]]
    if empty:
        raise UsageError(f"{name}: no {empty[0]} image is of a trained class", f"Sort them, or {unconditional}")
    new = np.full(len(prepared.classes), -1)
    new[trainable_classes] = np.arange(len(trainable_classes))
    classes = tuple(prepared.classes[index] for index in trainable_classes.tolist())
    labels = np.where(prepared.labels >= 0, new[prepared.labels], -1).astype(np.int64)
    _need_training(card)
    return ImageData(prepared.pixels, _rows(splits), labels, classes, card, config)


def _without(
    prepared: Prepared, card: DataCard, splits: NDArray[np.uint8], gone: NDArray[np.bool_], reason: str
) -> DataCard:
    """Take images out of their splits (in place); the card that counts them."""
    examples = tuple(prepared.names_of(np.flatnonzero(gone)[:EXAMPLES].tolist()))
    splits[gone] = LEFT_OUT
    counts = count_splits(splits)
    changed = {
        "kept": sum(counts.values()),
        "excluded": (*card.excluded, Exclusion(reason=reason, count=int(gone.sum()), examples=examples)),
        "splits": counts,
        "split_hash": split_hash(prepared.keys, splits),
    }
    return card.model_copy(update=changed)


def _need_training(card: DataCard) -> None:
    if not card.splits["train"]:
        raise UsageError(f"{card.name}: no image is left for training")
