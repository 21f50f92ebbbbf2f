"""Networks of TorchScript files: opening them, and saying why one failed."""

from pathlib import Path

import torch
from torch import nn

from unite_mm.errors import UsageError

HOW_TO_WRITE = "torch.jit.trace(network, images).save(FILE)"


def open_script(file: str, setting: str, instead: str, device: str = "cpu") -> nn.Module:
    """The network of a TorchScript file, in evaluation mode.

    Args:
        file: its path.
        setting: the key that names it, for messages.
        instead: what that key may name instead of a file.
        device: where to put it.

    Raises:
        UsageError: the file does not exist, or is none of TorchScript.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise UsageError(f"{setting}: {path} {what}", f"name a TorchScript file, or {instead}")
    if path.suffix == ".safetensors":
        raise UsageError(
            f"{setting}: {path} holds weights without their network", f"write both into one file with {HOW_TO_WRITE}"
        )
    try:
        network: nn.Module = torch.jit.load(path, map_location=device)
    except Exception as error:  # damaged files make torch raise nearly anything
        raise UsageError(f"{setting}: {path} is not a TorchScript file", f"write one with {HOW_TO_WRITE}") from error
    return network.eval()


def failure(error: BaseException) -> str:
    """Why a network failed: the last line of its error, for TorchScript puts its trace before it."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
