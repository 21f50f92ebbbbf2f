"""Features of images: by Inception, EfficientNet-Lite0 or any TorchScript network; numbers of others carry their name.

Dimensions: N images, B batch, D features (2048 for Inception), H height, W width.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.cache import describe_file
from unite_mm.kit.messages import first_line
from unite_mm.kit.weights import find_weights
from unite_mm.progress import Progress
from unite_mm_image.config import ImageMetrics
from unite_mm_image.metrics.image_sets import ImageSet
from unite_mm_image.metrics.inception import INCEPTION, load_inception
from unite_mm_image.torchscript import failure, open_script


@dataclass(frozen=True)
class Features:
    """What a network says of N images.

    Attributes:
        pool: (N, D) float32, on the CPU.
        logits: (N, classes) float32, before the softmax and without bias; None unless the network is Inception.
        notes: what a reader must know of the images.
    """

    pool: Tensor
    logits: Tensor | None = None
    notes: tuple[str, ...] = ()


class Extractor:
    """A network that turns images into features.

    Args:
        network: Inception: (B, 3, H, W) uint8 -> (pool, logits); another one: (B, 3, H, W) in [0, 1] -> (B, D).
        file: what another network is called, such as the name of its file; None for Inception.
        device: where to compute.
        batch_size: images at once.
        identity: hash of the network; None: its features cannot be kept for the next time.
    """

    def __init__(
        self,
        network: nn.Module,
        file: str | None,
        device: str = "cpu",
        batch_size: int = 64,
        identity: str | None = None,
    ) -> None:
        self.network = network.to(device).eval()
        self.file = file
        self.device = device
        self.batch_size = batch_size
        self.identity = identity

    @property
    def frechet(self) -> tuple[str, str]:
        """Machine name and title of the Frechet distance of these features; FID is Inception's alone."""
        return ("fid", "FID") if self.file is None else ("frechet_distance", f"Frechet distance ({self.file})")

    def titled(self, title: str) -> str:
        """A title that tells which network the number is of, unless it is Inception."""
        return title if self.file is None else f"{title} ({self.file})"

    @property
    def described(self) -> str:
        """The features in words, for definitions."""
        if self.file is None:
            return "2048 features of torch-fidelity's Inception"
        return f"the features of {self.file}"

    @torch.no_grad()
    def features(self, images: ImageSet, progress: Progress, title: str) -> Features:
        """Features of all images, batch by batch; of the images only one batch is ever at hand.

        Raises:
            UsageError: the network does not fit its description, or too many images are unreadable.
            UniteError: it gives numbers that are not finite.
        """
        pools: list[Tensor] = []
        logits: list[Tensor] = []
        with progress.task(title, len(images)) as advance:
            for batch in images.batches(self.batch_size):
                pool, extra = self._compute(batch.to(self.device))
                pools.append(pool)
                logits += [] if extra is None else [extra]
                advance(len(batch))
        notes = tuple(images.check())
        if not pools:
            raise UsageError("no image to measure")
        found = torch.cat(pools)
        bad = int((~found.isfinite().all(1)).sum())
        if bad:
            raise UniteError(f"{self.described}: not finite for {bad} of {len(found)} images", "the network is broken")
        return Features(found, torch.cat(logits) if logits else None, notes)

    def _compute(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) uint8 -> pool (B, D), logits (B, classes) or None, both float32 on the CPU."""
        if self.file is None:
            pool, logits = self.network(batch)
            return pool.float().cpu(), logits.float().cpu()
        try:
            found = self.network(batch.float() / 255)
        except RuntimeError as error:  # whatever the network raises
            raise UsageError(
                f"{self.file}: fails on images {tuple(batch.shape)}: {failure(error)}",
                "features are of RGB images (B, 3, H, W), float32 in [0, 1]",
            ) from error
        if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(batch):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(
                f"{self.file}: returns {what} for images {tuple(batch.shape)}", "it must return features (B, D)"
            )
        return found.float().cpu(), None


OFFLINE = "efficientnet-lite0"
"""Name of the network whose weights come with a package."""


class Pooled(nn.Module):
    """The pooled features of EfficientNet-Lite0: images (B, 3, H, W) in [0, 1], scaled to 224 pixels -> (B, 1280).

    Args:
        network: of `load_lite0`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Features of images."""
        pooled: Tensor = self.network(images).pooled
        return pooled


def open_extractor(settings: ImageMetrics) -> Extractor:
    """The network that the settings name: EfficientNet-Lite0, a TorchScript file, or Inception.

    Raises:
        UsageError: a file does not exist or is of another kind, a package is missing, or there is no such device.
        UniteError: the weights of Inception are not at hand; the message says which file to put where.
    """
    device, size = metric_device(settings), settings.batch_size
    if settings.features == OFFLINE:
        from unite_mm_image.efficientnet import NAME, load_lite0

        lite0 = load_lite0()
        return Extractor(Pooled(lite0), NAME, device, size, _digest(lite0))
    if settings.features is None:
        weights = find_weights(INCEPTION, settings.inception)
        return Extractor(load_inception(weights), None, device, size, describe_file(weights).sha256)
    network = open_script(settings.features, "image.metrics.features", OFFLINE, device)
    file = Path(settings.features)
    return Extractor(network, file.name, device, size, describe_file(file).sha256)


def _digest(network: nn.Module) -> str:
    """SHA-256 of the weights of a network, with their names."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def metric_device(settings: ImageMetrics) -> str:
    """Where metrics are computed.

    Raises:
        UsageError: there is no such device.
    """
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        message = f"image.metrics.device: cannot compute on {settings.device}: {first_line(error)}"
        raise UsageError(message) from error
    return settings.device
