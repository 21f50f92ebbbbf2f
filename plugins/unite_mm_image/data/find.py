"""What `--data` may name, and how each source is recognised."""

from pathlib import Path

from unite_mm.errors import UsageError
from unite_mm_image.data.limits import need_file
from unite_mm_image.data.sources import ArraySource, FolderSource, Source, ZipSource
from unite_mm_image.data.torchvision_sources import Cifar10Source, ImageNetSource, is_cifar10, is_imagenet

KNOWN = "shapes, cifar10, imagenet"
KINDS = (
    "a folder or zip of images (plain, a folder for each class, or train/, val/ and test/), .tar shards, .parquet "
    "files, or a .npz with arr_0"
)


def find(source: str, downloads: Path) -> Source:
    """Recognise a source other than the rendered shapes.

    Args:
        source: `cifar10`, `imagenet`, or a path.
        downloads: where downloads are kept.

    Raises:
        UsageError: the path does not exist or is nothing the plugin knows.
    """
    if source == "cifar10":
        return Cifar10Source(downloads / "cifar10", download=True)
    if source == "imagenet":
        return ImageNetSource(downloads / "imagenet")
    path = Path(source).expanduser()
    if not path.exists():
        raise UsageError(f"--data {source}: no such file or folder", f"Known names: {KNOWN}; paths: {KINDS}.")
    need_file(path, f"--data {source}")
    if path.is_dir():
        if is_cifar10(path):
            return Cifar10Source(path, download=False)
        return ImageNetSource(path) if is_imagenet(path) else FolderSource(path)
    if path.suffix.lower() == ".zip":
        return ZipSource(path)
    if path.suffix.lower() == ".npz":
        return ArraySource(path)
    raise UsageError(f"--data {source}: unknown kind of file", f"Known: {KINDS}.")
