"""Reads a checkpoint of the official UNITE image code: tensors by their official names, and nothing else of the file.

The file is a dictionary that `torch.save` wrote, with the weights under `model` and their average under `ema`, each
with the frozen network of LPIPS among them; a compiled part carries `_orig_mod.` in its names. A plain dictionary of
tensors and `.safetensors` files are read as well. Code in a file never runs: torch's reader for weights alone is used.
"""

import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unite_mm.errors import UsageError

SETS = ("ema", "model")
"""Averaged and raw weights, as the official code calls them."""

SHOWN = 8
"""Names that a message lists before it only counts."""


@dataclass(frozen=True)
class OfficialFile:
    """What was read.

    Attributes:
        tensors: by official name, without those of LPIPS.
        weights: which set they are, or `plain` where the file holds only one.
        step: optimizer steps of the training; 0 where the file does not say.
    """

    tensors: dict[str, Tensor]
    weights: str
    step: int


def read_official(path: Path, weights: str = "ema") -> OfficialFile:
    """The weights in a file.

    Args:
        path: `.pt` or `.safetensors`.
        weights: `ema` or `model`.

    Raises:
        UsageError: the file cannot be read safely, or does not hold what was asked for; the message says why.
    """
    if not path.is_file():
        raise UsageError(
            f"{path}: {'not a file' if path.exists() else 'no such file'}", "give a checkpoint, a .pt file"
        )
    _check_archive(path)
    content = _load(path)
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: holds no weights, but a {type(content).__name__}", "give a UNITE checkpoint")
    found = [name for name in SETS if isinstance(content.get(name), Mapping)]
    if weights in found:
        chosen = content[weights]
    elif found:
        raise UsageError(f"{path}: holds no {weights!r} weights", f"use --weights {found[0]}")
    elif content and all(isinstance(value, Tensor) for value in content.values()):
        weights, chosen = "plain", content
    else:
        raise UsageError(
            f"{path}: holds no weights, neither 'ema' nor 'model'", f"it holds: {listed(map(str, content))}"
        )
    step = content.get("step", 0)
    return OfficialFile(_clean(chosen, path), weights, step if isinstance(step, int) and step >= 0 else 0)


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on unusual files, which are refused if they cannot be read
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except SafetensorError as error:
        message = f"{path}: damaged, or no safetensors file; its header cannot be read"
        raise UsageError(message, "get the file again") from error
    except Exception as error:  # whatever a damaged or tampered file makes the reader raise
        asked = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        if asked is None:
            message = f"{path}: cannot be read as weights: damaged, or holds more than weights; no code was run"
            raise UsageError(
                message, "give a checkpoint as the official code writes it, or get the file again"
            ) from error
        raise UsageError(
            f"{path}: unsafe file: it asks for {asked[1]}; no code was run",
            "do not trust this file; get it again from where it was published",
        ) from error


def _check_archive(path: Path) -> None:
    """Refuse what torch did not save, and archives that are larger inside than outside: torch compresses nothing.

    Raises:
        UsageError: it is such a file.
    """
    if path.suffix == ".safetensors":
        return
    try:
        with path.open("rb") as file:
            head = file.read(2)
        if head == b"PK":
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        elif head[:1] == b"\x80":  # a pickle: torch's format before 1.6
            return
        else:
            infos = None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}", "get the file again") from error
    except Exception as error:  # a damaged directory makes zipfile raise nearly anything
        raise UsageError(f"{path}: cut off or damaged: its directory cannot be read", "get the file again") from error
    if infos is None:
        raise UsageError(f"{path}: not a file that torch.save wrote", "give a UNITE checkpoint, .pt or .safetensors")
    names = {info.filename.rpartition("/")[2] for info in infos}
    if "constants.pkl" in names:
        raise UsageError(
            f"{path}: a TorchScript file, not a checkpoint", "give a UNITE checkpoint, .pt or .safetensors"
        )
    if "data.pkl" not in names:
        raise UsageError(f"{path}: a zip file, but none that torch.save wrote", "give a UNITE checkpoint")
    inside, outside = sum(info.file_size for info in infos), path.stat().st_size
    if inside > outside:
        raise UsageError(
            f"{path}: {outside:,} bytes unpack to {inside:,}, which torch.save never writes", "get the file again"
        )


def _clean(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Official names without `_orig_mod.`, LPIPS left out; only plain tensors of finite floating-point numbers."""
    tensors: dict[str, Tensor] = {}
    held = 0
    for key, value in state.items():
        name = ".".join(part for part in str(key).split(".") if part != "_orig_mod")
        if name.startswith("lpips_loss."):
            continue
        if name in tensors:
            raise UsageError(f"{path}: holds {name} twice", "give a UNITE checkpoint as the official code writes it")
        if not isinstance(value, Tensor) or value.layout != torch.strided or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(f"{path}: {name} is not a tensor of floats but {kind}", "give a UNITE checkpoint")
        held += value.numel() * value.element_size()
        if held > path.stat().st_size:  # tensors that repeat the same numbers
            raise UsageError(f"{path}: its tensors hold more numbers than the file", "give a UNITE checkpoint")
        tensors[name] = value.detach()
    return tensors
