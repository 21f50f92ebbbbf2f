"""CIFAR-10 and ImageNet through torchvision's data-set classes, which check what they read."""

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unite_mm.contract import SPLITS
from unite_mm.errors import UniteError
from unite_mm.kit.cache import locked
from unite_mm.kit.messages import first_line
from unite_mm.progress import Progress
from unite_mm_image.data.image_files import decode
from unite_mm_image.data.listing import Layout
from unite_mm_image.data.sources import Items, Source, array_items, raw_file
from unite_mm_image.torchvision_import import import_torchvision

_CIFAR10 = "cifar-10-python.tar.gz"
_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_ARCHIVES = f"{_DEVKIT}, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar"
_INSTEAD = "or train on other images: --data FOLDER or ZIP, or --data shapes, which needs nothing."


def is_cifar10(folder: Path) -> bool:
    """Whether a folder holds CIFAR-10 as its authors pack it."""
    return (folder / "cifar-10-batches-py").is_dir() or (folder / _CIFAR10).is_file()


def is_imagenet(folder: Path) -> bool:
    """Whether a folder holds ImageNet's development kit, packed, or unpacked by torchvision."""
    return (folder / _DEVKIT).is_file() or ((folder / "meta.bin").is_file() and (folder / "train").is_dir())


class Cifar10Source(Source):
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 in ten classes.

    Args:
        root: folder of the archive or of what was unpacked from it.
        download: whether torchvision may fetch it.
    """

    name = "cifar10"
    title = "CIFAR-10"

    def __init__(self, root: Path, download: bool) -> None:
        self.root = root
        self.download = download

    def fingerprint(self) -> str:
        return "cifar10"  # one set of images, whose hashes torchvision checks

    def items(self, progress: Progress) -> Items:
        if self.download and not is_cifar10(self.root):
            progress.say(f"Downloading CIFAR-10 to {self.root}")
        parts = [self._part(train, progress) for train in (True, False)]
        rows = np.concatenate([part.data for part in parts])
        labels = np.concatenate([np.asarray(part.targets) for part in parts])
        sizes = [len(part.data) for part in parts]
        splits = np.repeat([SPLITS.index("train"), SPLITS.index("test")], sizes).astype(np.uint8)
        return array_items(rows, labels, splits, tuple(parts[0].classes))

    def _part(self, train: bool, progress: Progress) -> Any:
        try:
            datasets = import_torchvision().datasets
            self.root.mkdir(parents=True, exist_ok=True)
            with locked(self.root / "download.lock", progress) if self.download else nullcontext():
                return datasets.CIFAR10(str(self.root), train=train, download=self.download)
        except (OSError, RuntimeError, EOFError, ImportError) as error:
            raise UniteError(
                f"CIFAR-10 is unavailable: {first_line(error)}",
                f"Put {_CIFAR10} (cs.toronto.edu/~kriz) into {self.root}, {_INSTEAD}",
            ) from error


class ImageNetSource(Source):
    """ImageNet 2012: 1.28 million training and 50,000 validation images in a thousand classes.

    torchvision unpacks the archives the first time; they must be fetched by hand, after registration.

    Args:
        root: folder of the archives, or of what torchvision unpacked from them.
    """

    name = "imagenet"
    title = "ImageNet 2012"

    def __init__(self, root: Path) -> None:
        self.root = root

    def fingerprint(self) -> str:
        # A published set does not change: a prepared one is opened without reading a million names, or without the
        # originals.
        return f"imagenet {self.root.resolve()}"

    def _part(self, split: str, progress: Progress) -> Any:
        unpacked = is_imagenet(self.root) and all((self.root / name).is_dir() for name in ("train", "val"))
        try:
            datasets = import_torchvision().datasets
            self.root.mkdir(parents=True, exist_ok=True)
            # Unpacked data may lie where nothing can be written.
            with nullcontext() if unpacked else locked(self.root / "unpack.lock", progress):
                return datasets.ImageNet(str(self.root), split=split)
        except (OSError, RuntimeError, EOFError, ImportError) as error:
            raise UniteError(
                f"ImageNet is not in {self.root}: {first_line(error)}",
                f"Put {_ARCHIVES} (image-net.org, after registration) there, {_INSTEAD}",
            ) from error

    def items(self, progress: Progress) -> Items:
        progress.say("Reading the names of ImageNet's files; unpacks the archives if that was not done yet")
        parts = {"train": self._part("train", progress), "validation": self._part("val", progress)}
        paths = [path for part in parts.values() for path, _ in part.samples]
        labels = np.array([label for part in parts.values() for _, label in part.samples], dtype=np.int32)
        sizes = [len(part.samples) for part in parts.values()]
        splits = np.repeat([SPLITS.index(split) for split in parts], sizes).astype(np.uint8)
        names = [str(Path(path).relative_to(self.root)) for path in paths]

        def open_image(index: int, held: ExitStack) -> Image.Image:
            return decode(Path(paths[index]), held=held)

        def raw(index: int) -> tuple[str, bytes]:
            return raw_file(Path(paths[index]))

        return Items(names, Layout(labels, splits, class_names(parts["train"])), open_image, raw=raw)


def class_names(part: Any) -> tuple[str, ...]:
    """One name for each class of ImageNet: its first synonym, with the WordNet id where two classes share it."""
    first = [synonyms[0] for synonyms in part.classes]
    return tuple(
        name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(first, part.wnids, strict=True)
    )
