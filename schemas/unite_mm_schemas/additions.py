"""What a step may add to the flow loss. Unions told apart by their `kind`; `none`, the default, adds nothing."""

from typing import Annotated, Literal

from pydantic import Field

from unite_mm_schemas.base import Schema


class NoAlignment(Schema):
    """The denoiser is aligned to nothing."""

    kind: Literal["none"] = "none"
    """No alignment."""


class TeacherAlignment(Schema):
    """Registers inside the denoiser are mapped to a frozen teacher's features of the clean input (arXiv 2410.06940)."""

    kind: Literal["teacher"] = "teacher"
    """Alignment to the modality's teacher."""
    weight: float = Field(0.5, gt=0, le=1e6)
    """Factor of the mean of 1 - cosine over registers."""
    end_to_end: bool = False
    """Whether its gradient also reaches the tokenizer, through the noisy latents (arXiv 2504.10483)."""


class SelfAlignment(Schema):
    """Registers inside the denoiser are mapped to those of its own average, deeper and at a later time (2603.06507)."""

    kind: Literal["self"] = "self"
    """Alignment to the averaged denoiser."""
    weight: float = Field(0.5, gt=0, le=1e6)
    """Factor of the mean of 1 - cosine over registers."""
    end_to_end: bool = False
    """Whether its gradient also reaches the tokenizer, through the noisy latents."""
    ahead: float = Field(0.2, gt=0, le=1)
    """The average sees the same noise and latents at a timestep that is later by up to this, uniformly."""


AlignmentConfig = Annotated[NoAlignment | TeacherAlignment | SelfAlignment, Field(discriminator="kind")]
"""What the denoiser is aligned to."""


class NoLatentGradient(Schema):
    """Data say nothing of what is denoised."""

    kind: Literal["none"] = "none"
    """No such loss."""


class DecodedLatentGradient(Schema):
    """What is denoised is decoded and compared with the batch, so that the denoiser learns what its errors do."""

    kind: Literal["decoded"] = "decoded"
    """Reconstruction loss of decoded predictions."""
    weight: float = Field(1.0, gt=0, le=1e6)
    """Factor of the modality's reconstruction loss."""
    threshold: float = Field(0.5, ge=0, lt=1)
    """Only draws at timesteps above it count: earlier predictions are blurred by what is still open."""
    end_to_end: bool = False
    """Whether its gradient also reaches the tokenizer, through the noisy latents; else they are detached."""
    decoder: bool = False
    """Whether its gradient also reaches the decoder's own weights."""


LatentGradientConfig = Annotated[NoLatentGradient | DecodedLatentGradient, Field(discriminator="kind")]
"""What data say of latents that are denoised."""
