"""Teachers of images: EfficientNet-Lite0 from its package, or any TorchScript network of a local file.

Dimensions: B batch, K registers = patches on a square grid, S pixels on a side, F features.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from unite_mm.contract import Teacher
from unite_mm.errors import UsageError
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.efficientnet import NAME, WIDTH, Lite0, load_lite0, scaled
from unite_mm_image.torchscript import failure, open_script


def on_grid(features: Tensor, side: int) -> Tensor:
    """A feature map (B, F, h, w), or tokens (B, h h, F) of a square grid, as one vector per patch: (B, side^2, F)."""
    if features.dim() == 3:
        own = math.isqrt(features.shape[1])
        features = features.transpose(1, 2).unflatten(2, (own, own))
    if features.shape[-2:] != (side, side):
        features = F.interpolate(features.float(), (side, side), mode="bilinear", align_corners=False, antialias=True)
    return features.flatten(2).transpose(1, 2).float()


class Lite0Teacher(Teacher):
    """The last feature map of EfficientNet-Lite0; loaded at the first call.

    Args:
        config: size of its input, and the grid of patches.
    """

    name, width = NAME, WIDTH

    def __init__(self, config: ImageConfig) -> None:
        self.config = config
        self._network: Lite0 | None = None

    def __call__(self, batch: ImageBatch) -> Tensor:
        if self._network is None:
            self._network = load_lite0()
        network = self._network.to(batch.pixels.device)
        return on_grid(network(batch.pixels, self.config.teacher_size).map, self.config.side)


class ScriptTeacher(Teacher):
    """A TorchScript network: RGB images (B, 3, S, S) in [0, 1] -> maps (B, F, h, w) or square tokens (B, N, F).

    Args:
        config: its file, the size of its input, and the grid of patches.

    Raises:
        UsageError: the file does not exist, is none of TorchScript, or gives something else.
    """

    def __init__(self, config: ImageConfig) -> None:
        self.config, self.name = config, Path(config.teacher).name
        self._network = open_script(config.teacher, "image.teacher", TEACHERS[0])
        size = config.teacher_size
        self.width = self._tokens(torch.zeros(1, 3, size, size)).shape[-1]

    def __call__(self, batch: ImageBatch) -> Tensor:
        return self._tokens(scaled(batch.pixels.expand(-1, 3, -1, -1), self.config.teacher_size))

    @torch.no_grad()
    def _tokens(self, pixels: Tensor) -> Tensor:
        self._network.to(pixels.device)
        try:
            found = self._network(pixels)
        except RuntimeError as error:  # whatever the network raises
            reason = failure(error)
            raise UsageError(f"image.teacher: {self.name} fails on images {tuple(pixels.shape)}: {reason}") from error
        square = isinstance(found, Tensor) and found.dim() == 3 and math.isqrt(found.shape[1]) ** 2 == found.shape[1]
        if not square and not (isinstance(found, Tensor) and found.dim() == 4):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(
                f"image.teacher: {self.name} returns {what}",
                "it must return maps (B, F, h, w) or tokens (B, N, F) of a square grid, without a class token",
            )
        return on_grid(found, self.config.side)


TEACHERS = ("efficientnet-lite0",)
"""Teachers that have a name; any other is a file."""


def make_teacher(config: ImageConfig) -> Teacher:
    """The teacher that a configuration names.

    Raises:
        UsageError: it is not at hand.
    """
    if config.teacher in TEACHERS:
        return Lite0Teacher(config)
    return ScriptTeacher(config)
