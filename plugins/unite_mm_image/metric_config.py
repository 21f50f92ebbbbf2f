"""Settings of the metrics: they change numbers of an evaluation and nothing of a model."""

from typing import Literal

from pydantic import Field

from unite_mm_schemas.base import Schema


class ImageMetrics(Schema):
    """How images are scored; `--set image.metrics.KEY=VALUE` changes it for a trained model too."""

    inception: str | None = None
    """File with the published weights of Inception (weights-inception-2015-12-05-6726825d.pth). None: the environment
    variable UNITE_MM_INCEPTION, torch's cache of models, or a download."""
    features: str | None = None
    """TorchScript file of another network, from RGB images (B, 3, H, W) in [0, 1] to features (B, D). It takes the
    place of Inception, and its numbers carry the file's name."""
    vgg: str | None = None
    """File with torchvision's weights of VGG16 (vgg16-397923af.pth) for LPIPS; None: that of the loss, torch's cache of
    models, or a download."""
    reference_split: Literal["train", "validation", "test"] = "train"
    """Split of the data that generated images are compared with."""
    batch_size: int = Field(64, ge=1)
    """Images that a network sees at once; changes speed and memory only."""
    device: str = "auto"
    """Where the networks compute: auto, cpu, cuda, cuda:1, mps."""
    neighbours: int = Field(3, ge=1)
    """k of precision and recall: the ball around an image reaches to its k-th nearest neighbour."""
    neighbour_images: int = Field(10_000, ge=4)
    """Images of each set, drawn at random, that precision and recall are computed on; their cost grows with the square
    of the number."""
