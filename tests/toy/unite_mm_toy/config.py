"""Configuration of the toy modality."""

from pydantic import Field

from unite_mm_schemas.base import Schema


class PointsSampling(Schema):
    """Options at sampling."""

    scale: float = Field(1.0, gt=0)
    """Factor of generated points."""
    fewest: int = Field(0, ge=0, le=3)
    """Fewest points of a set."""


class PointsConfig(Schema):
    channels: int = Field(4, ge=1)
    """Latent channels."""
    spread: float = Field(0.05, gt=0)
    """Standard deviation of a cluster."""
    samples: int = Field(2000, ge=10)
    """Training samples."""
    classes: bool = True
    """Condition generation on the cluster of the first point."""
    heights: bool = False
    """Condition it also on the mean of the points' second coordinates; every tenth set does not tell it."""
    sampling: PointsSampling = PointsSampling()
    nan_after: int | None = None
    """Make the loss NaN in batches that contain this sample, to test how failures are handled."""
