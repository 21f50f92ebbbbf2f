"""Small networks and pictures for the tests of the image metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unite_mm_image.torchvision_import import import_torchvision


class Small(nn.Module):
    """RGB images (B, 3, H, W) in [0, 1] -> features (B, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.first(images).relu().mean((2, 3))
        return features


def small_network(path: Path) -> Path:
    """The same small network with random weights as a TorchScript file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Small().eval()
    torch.jit.trace(network, torch.rand(2, 3, 16, 16)).save(str(path))
    return path


def random_inception(path: Path) -> Path:
    """torch-fidelity's Inception with random weights, as a file of the form that it publishes."""
    import_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Fresh(FeatureExtractorInceptionV3):  # type: ignore[misc] # the package has no types
        def load_state_dict(self, *_args: Any, **_kwargs: Any) -> None:  # the constructor would load published weights
            return None

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save({}, path)
        network = Fresh("fresh", ["2048"], feature_extractor_weights_path=str(path))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return path


def pictures(count: int, seed: int, size: int = 16, mode: str = "RGB") -> list[Image.Image]:
    """Random blots: each picture has its own mean colour, so that features spread."""
    rng = np.random.default_rng(seed)
    base = rng.integers(40, 200, (count, 1, 1, 3))
    pixels = np.clip(base + rng.integers(-40, 40, (count, size, size, 3)), 0, 255).astype(np.uint8)
    found = [Image.fromarray(row) for row in pixels]
    return [picture.convert(mode) for picture in found]


def save_all(images: list[Image.Image], folder: Path) -> Path:
    """PNG files 000.png, ... in a new folder."""
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        image.save(folder / f"{index:03d}.png")
    return folder
