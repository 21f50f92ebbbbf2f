"""A perceptual distance in the features of SqueezeNet 1.1 (Iandola et al. 2016), small enough for training on a CPU.

It is built like LPIPS (Zhang et al. 2018), but without its learned heads, which belong to other weights: every channel
counts alike. It is not LPIPS, and its numbers cannot be compared with those of LPIPS.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.weights import Weights, find_weights, read_weights
from unite_mm_image.torchvision_import import import_torchvision

NAME = "SqueezeNet 1.1"

SQUEEZENET = Weights(
    title="weights of SqueezeNet 1.1",
    name="squeezenet1_1-b8a52dc0.pth",
    url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    sha256="b8a52dc0",
    setting="image.squeezenet",
    instead="set image.squeezenet_weight=0",
)
"""Weights of SqueezeNet 1.1 as torchvision publishes them."""

ENDS = (2, 5, 8, 10, 11, 12, 13)
"""Where the features are read: behind these layers, the depths that LPIPS reads."""

Inputs = Literal["torchvision", "caffe"]

CAFFE_MEAN = (103.939, 116.779, 123.68)
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SqueezeNetDistance:
    """Distance of pixels in [0, 1] in the features of SqueezeNet 1.1, one value per image.

    At every depth the features of a place are scaled to unit length, and the squared distance is averaged over places;
    then over depths. From 0 to 4. No `nn.Module` on purpose, as `PerceptualLoss`: the frozen network is no part of a
    model that holds this.

    Args:
        file: weights by torchvision's names, `.pth` or `.safetensors`; None: torch's cache of models, or a download.
        inputs: what the weights were trained on: RGB scaled by ImageNet's mean and deviation (`torchvision`), or BGR
            from 0 to 255 less its means (`caffe`, the authors' own weights).
    """

    def __init__(self, file: str | None = None, inputs: Inputs = "torchvision") -> None:
        self.file = file
        self.inputs = inputs
        self.network: nn.Sequential | None = None
        self.device: torch.device | None = None

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distances (B,) of two batches (B, colours, S, S); differentiable in both, in no weight of the network.

        Raises:
            UsageError, UniteError: the weights are not at hand, or of another network.
        """
        if self.network is None:
            self.network = load_squeezenet(self.file)
        if self.device != images.device:
            self.network.to(images.device)
            self.device = images.device
        first, second = self._scaled(images), self._scaled(targets)
        distance = torch.zeros(len(images), device=images.device)
        start = 0
        for end in ENDS:
            part = self.network[start:end]
            first, second, start = part(first), part(second), end
            apart = (normalize(first, dim=1) - normalize(second, dim=1)).square().sum(1)
            distance = distance + apart.flatten(1).mean(1).float()
        return distance / len(ENDS)

    def outline(self) -> None:
        """Have a network on the CPU whose weights mean nothing, to count with."""
        self.network, self.device = _layers(), torch.device("cpu")

    def _scaled(self, images: Tensor) -> Tensor:
        """Three channels (B, 3, S, S) as the weights expect them."""
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        if self.inputs == "caffe":
            return 255 * images.flip(1) - _column(CAFFE_MEAN, images)
        return (images - _column(IMAGENET_MEAN, images)) / _column(IMAGENET_DEVIATION, images)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def load_squeezenet(file: str | None = None) -> nn.Sequential:
    """The layers of SqueezeNet 1.1, frozen, in evaluation mode.

    Args:
        file: as for `SqueezeNetDistance`.

    Raises:
        UsageError: the named file does not exist.
        UniteError: a file is missing, cannot be read, or holds another network.
    """
    path = find_weights(SQUEEZENET, file)
    found = _read_safetensors(path) if path.suffix == ".safetensors" else read_weights(path)
    layers = _layers()
    own = {name.removeprefix("features."): value for name, value in found.items() if name.startswith("features.")}
    try:
        layers.load_state_dict(own)
    except RuntimeError as error:
        raise UniteError(f"{path}: not the weights of {NAME}", f"use torchvision's {SQUEEZENET.name}") from error
    return layers


def _layers() -> nn.Sequential:
    """The layers with random weights, frozen, in evaluation mode."""
    import_torchvision()
    from torchvision.models import squeezenet1_1

    with torch.random.fork_rng(devices=[]):
        layers = squeezenet1_1(weights=None).features
    assert isinstance(layers, nn.Sequential)
    return layers.requires_grad_(False).eval()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: not a safetensors file: {error}", "get the file again") from error
