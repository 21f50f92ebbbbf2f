"""Made-up images and folders of them, for the tests of the image plugin."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.repository import ROOT
from unite_mm.contract import DataRequest
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.dataset import ImageData, open_data

SHARED = Path(os.environ.get("UNITE_MM_SHARED", ROOT.parent / "shared"))
CIFAR = SHARED / "data" / "cifar10-images.zip"

needs_cifar = pytest.mark.skipif(not CIFAR.is_file(), reason="no cifar10-images.zip in ../shared/data")


class Recorder:
    """A `Progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.messages: list[str] = []
        self.advanced = 0

    @contextmanager
    def task(self, title: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        self.titles.append(f"{title} / {total}")

        def advance(count: int) -> None:
            self.advanced += count

        yield advance

    def say(self, message: str) -> None:
        self.messages.append(message)

    def note(self, message: str) -> None:
        del message


def noise(seed: int, width: int = 20, height: int = 16, mode: str = "RGB") -> Image.Image:
    """An image that no other seed gives."""
    bands = {"RGB": (3,), "L": (), "RGBA": (4,), "LA": (2,), "CMYK": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *bands), dtype=np.uint8)
    return Image.fromarray(pixels, mode) if mode == "CMYK" else Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def folder(root: Path, files: Mapping[str, bytes]) -> Path:
    """A folder of files."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def archive(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip file of files."""
    with zipfile.ZipFile(path, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def pictures(names: Callable[[int], str], count: int, first: int = 0) -> dict[str, bytes]:
    """PNG files of noise; `names` gives the name of the i-th."""
    return {names(i): encoded(noise(first + i)) for i in range(count)}


def config(**settings: Any) -> ImageConfig:
    return ImageConfig(**({"size": 8, "patch": 4, "lpips_weight": 0} | settings))


def opened(source: Path | str | None, cache: Path, **settings: Any) -> ImageData:
    """A source as data of 8 x 8 pixels; `progress` and `refresh` go to the request."""
    progress, refresh = settings.pop("progress", None) or Recorder(), settings.pop("refresh", False)
    request = DataRequest("shapes" if source is None else str(source), cache, progress, workers=2, refresh=refresh)
    return open_data(request, config(**settings))


def prepare_and_count(root: Path, cache: Path) -> tuple[int, str]:
    """How many bars the preparation of a source showed, and the hash of its splits; here so that processes find it."""
    progress = Recorder()
    data = opened(root, cache, progress=progress)
    return len(progress.titles), data.card.split_hash


def excluded(data: ImageData) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Reason -> count and examples; checks that the card adds up."""
    card = data.card
    assert card.kept + sum(entry.count for entry in card.excluded) == card.read
    assert sum(card.splits.values()) == card.kept
    assert card.splits == {split: data.size(split) for split in card.splits}
    return {entry.reason: (entry.count, entry.examples) for entry in card.excluded}
