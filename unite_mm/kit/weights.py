"""Published weights of networks: from a file, an environment variable, torch's cache of models, or a download.

torch's cache is the folder `checkpoints` of `torch.hub.get_dir()`, which the environment variable TORCH_HOME moves. A
download goes there, so that other programs find it too.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.download import Remote, fetch
from unite_mm.progress import Progress, Silent
from unite_mm.utils.files import file_sha256


@dataclass(frozen=True)
class Weights:
    """A file of published weights.

    Attributes:
        title: what messages call them, such as `weights of VGG16`.
        name: name of the published file.
        url: where it is published.
        sha256: hash of the file, or its first hex digits.
        setting: key of the configuration that names a local copy, such as `image.lpips_vgg`.
        variable: environment variable that names a local copy; empty: none.
        aliases: other names of the same file in torch's cache.
        exact: whether a file that is found must have the hash, as a downloaded one always must.
        instead: what a user can do without the weights, for messages; empty: nothing.
    """

    title: str
    name: str
    url: str
    sha256: str
    setting: str
    variable: str = ""
    aliases: tuple[str, ...] = ()
    exact: bool = False
    instead: str = ""


def find_weights(weights: Weights, file: str | None = None, progress: Progress | None = None) -> Path:
    """The file of the weights: the named one, that of the environment variable, torch's cache, or a download into it.

    Args:
        weights: which.
        file: what the configuration names; None: nothing.
        progress: where to show a download; None: nowhere.

    Raises:
        UsageError: the named file does not exist, or is another one where it must be exact.
        UniteError: there is none and it cannot be downloaded; the message says which file to put where.
    """
    variable = os.environ.get(weights.variable, "") if weights.variable else ""
    for named, origin in ((file, weights.setting), (variable, weights.variable)):
        if named:
            path = Path(named).expanduser()
            if not path.is_file():
                what = "is not a file" if path.exists() else "does not exist"
                raise UsageError(f"{origin}: {path} {what}", f"name a copy of {weights.name}")
            return _verified(path, weights)
    folder = weights_folder()
    for name in (weights.name, *weights.aliases):
        if (folder / name).is_file():
            return _verified(folder / name, weights)
    remote = Remote(weights.name, (weights.url,), sha256=weights.sha256)
    try:
        return fetch(remote, folder, Silent() if progress is None else progress)
    except UniteError as error:
        raise UniteError(f"{weights.title}: {error.message}", _alternatives(weights, folder)) from error


def weights_folder() -> Path:
    """The folder of torch's cache that holds weights; it may not exist."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a file that `torch.save` wrote, on the CPU; no code from the file ever runs.

    Raises:
        UniteError: the file cannot be read, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise UniteError(f"{path}: {'not a file' if path.exists() else 'no such file'}", "get the file again")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UniteError(f"{path}: cannot be read: {error.strerror or error}", "check the file") from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything, in words of torch's own
        message = f"{path}: cannot be read as weights: damaged, or holds more than weights; no code was run"
        raise UniteError(message, "get the file again") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UniteError(f"{path}: holds no tensors by name", "get the file again")
    return dict(content)


def _verified(path: Path, weights: Weights) -> Path:
    if not weights.exact:
        return path
    found = file_sha256(path)
    if not found.startswith(weights.sha256.lower()):
        raise UsageError(
            f"{path}: not the published {weights.title} (SHA-256 {found[:8]}..., expected {weights.sha256[:8]}...)",
            _joined(f"get {weights.name} again", weights.instead),
        )
    return path


def _alternatives(weights: Weights, folder: Path) -> str:
    names = [f"{weights.variable}=FILE"] if weights.variable else []
    names.append(f"--set {weights.setting}=FILE")
    return _joined(f"put {weights.name} into {folder}", f"name it with {' or '.join(names)}", weights.instead)


def _joined(*ways: str) -> str:
    """Alternatives as one phrase: `a, b, or c`."""
    given = [way for way in ways if way]
    return given[0] if len(given) == 1 else f"{', '.join(given[:-1])}, or {given[-1]}"
