"""Inputs and reconstructions in two folders, matched by their names."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL.Image import Image

from unite_mm.errors import UsageError
from unite_mm_image.data.listing import list_folder
from unite_mm_image.files.formats import read


def read_pairs(inputs: Path, outputs: Path) -> tuple[list[Image], list[Image]]:
    """Images of two folders by equal names, in plain order; folders in them count, suffixes do not.

    Raises:
        UsageError: an image cannot be read, has no partner, or shares its name with another one.
    """
    originals, results = _by_name(inputs), _by_name(outputs)
    for one, other, folder, elsewhere in (
        (originals, results, inputs, outputs),
        (results, originals, outputs, inputs),
    ):
        alone = sorted(one.keys() - other.keys())
        if alone:
            raise UsageError(
                f"{folder}: {len(alone)} images have no partner in {elsewhere}: {_listed(alone)}",
                "an input and its reconstruction have the same name",
            )
    names = sorted(originals)
    return [originals[name] for name in names], [results[name] for name in names]


def _by_name(folder: Path) -> dict[str, Image]:
    paths = list_folder(folder).paths
    names = [str(PurePosixPath(path).with_suffix("")) for path in paths]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UsageError(f"{folder}: several images are named {_listed(twice)}", "leave one of each")
    return dict(zip(names, read(folder), strict=True))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
