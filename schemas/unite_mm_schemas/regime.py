"""Regimes: which networks there are, and what space the flow lives in. Unions are told apart by their `kind`.

A trained model keeps its regime; `unite_mm_schemas.recipe` says how it is trained.
"""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from unite_mm_schemas.base import Schema


class _Regime(Schema):
    """What all regimes answer; each has a `kind` and `stop_gradient`."""

    recipes: ClassVar[tuple[str, ...]] = ("joint",)
    """Kinds of recipes that train it from the start."""
    shared_weights: ClassVar[bool] = False
    """Whether there is one Generative Encoder, and not a second one that denoises."""
    denoiser_norm: ClassVar[bool] = False
    """Whether what is denoised passes a LayerNorm over the channels, as what is tokenized does."""
    standardised: ClassVar[bool] = False
    """Whether the flow lives on latents that are standardised per channel."""
    deterministic: ClassVar[bool] = False
    """Whether tokenization starts from zeros at t = 0 rather than from noise."""
    features: ClassVar[bool] = False
    """Whether the latents are the features of a frozen teacher."""

    @property
    def end_time(self) -> float:
        """Timestep at which generation ends and the decoder sees latents; below 1 there is noise left."""
        return 1.0


class UniteRegime(_Regime):
    """One Generative Encoder tokenizes and denoises: the method of the paper."""

    shared_weights: ClassVar[bool] = True
    denoiser_norm: ClassVar[bool] = True

    kind: Literal["unite"] = "unite"
    """Shared weights."""
    stop_gradient: bool = True
    """The flow loss does not reach the latents it is computed on; false lets it flow into the tokenizer."""


class SeparateRegime(_Regime):
    """Two networks of the same shape, one that tokenizes and one that denoises (the paper's comparison)."""

    denoiser_norm: ClassVar[bool] = True

    kind: Literal["separate"] = "separate"
    """Separate weights."""
    stop_gradient: bool = True
    """The flow loss does not reach the latents it is computed on; false lets it flow into the tokenizer."""


class UnifiedLatentsRegime(_Regime):
    """Two networks, and latents with a fixed noise whose bits the flow loss bounds (arXiv 2602.17270)."""

    recipes: ClassVar[tuple[str, ...]] = ("bound",)
    deterministic: ClassVar[bool] = True

    kind: Literal["unified-latents"] = "unified-latents"
    """Separate weights, latents of a fixed noise."""
    log_snr: float = Field(5.0, ge=-5, le=15)
    """Log signal-to-noise ratio lambda of the latents that the decoder sees, and at which generation ends: at the
    timestep t* = sigmoid(lambda / 2)."""

    @property
    def stop_gradient(self) -> bool:
        """The bound is of the latents themselves: it reaches them."""
        return False

    @property
    def end_time(self) -> float:
        """t* = sigmoid(lambda / 2)."""
        return 1 / (1 + math.exp(-self.log_snr / 2))


class TwoStageRegime(_Regime):
    """Two networks, of which the second is trained on latents of the first, frozen: latent diffusion."""

    recipes: ClassVar[tuple[str, ...]] = ("staged",)
    standardised: ClassVar[bool] = True

    kind: Literal["two-stage"] = "two-stage"
    """Separate weights, standardised latents."""

    @property
    def stop_gradient(self) -> bool:
        """What made the latents is frozen when the flow loss sees them."""
        return True


class FrozenFeaturesRegime(_Regime):
    """Latents are a frozen teacher's features; first the decoder is trained on them, then the denoiser (2510.11690)."""

    recipes: ClassVar[tuple[str, ...]] = ("staged",)
    shared_weights: ClassVar[bool] = True
    features: ClassVar[bool] = True

    kind: Literal["frozen-features"] = "frozen-features"
    """A teacher's features as latents."""
    noise_std: float = Field(0.8, ge=0, le=100)
    """The decoder is trained on features with noise of a standard deviation |N(0, this^2)| for each sample."""

    @property
    def stop_gradient(self) -> bool:
        """The teacher is frozen."""
        return True


RegimeConfig = Annotated[
    UniteRegime | SeparateRegime | UnifiedLatentsRegime | TwoStageRegime | FrozenFeaturesRegime,
    Field(discriminator="kind"),
]
"""Which system is trained: whose weights are shared, and where the flow loss reaches."""
