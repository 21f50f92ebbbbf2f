"""Imports torchvision where its compiled operators and the installed PyTorch may not belong together.

A CPU build of PyTorch beside torchvision's build for CUDA is common: torchvision then finds none of its operators, and
its import fails, because it describes two of them (non-maximum suppression of boxes) to PyTorch whether they exist or
not. Nothing here needs boxes; declaring the two is enough. Whoever imports torchvision, lpips, torchmetrics.image or
torch_fidelity calls `import_torchvision()` first.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_declared: list[Any] = []  # a declaration lives as long as its library object


def import_torchvision() -> ModuleType:
    """The package `torchvision`, imported even where its compiled operators cannot be loaded.

    Raises:
        ImportError: torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + SIGNATURE)
    _declared.append(library)
    return importlib.import_module("torchvision")
