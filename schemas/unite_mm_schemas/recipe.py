"""Recipes: what one training step is. A union told apart by `kind`, so that later ones are added beside the others."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unite_mm_schemas.base import MOST_STEPS, Schema


class JointRecipeConfig(Schema):
    """Reconstruction and flow matching in one step, on all parts of the model (arXiv 2603.22283, alg. 1)."""

    kind: Literal["joint"] = "joint"
    """The joint step."""
    init_trunk: str | None = None
    """Run or exported folder whose trunk (its averaged weights) this run starts from; None: fresh weights."""
    freeze_trunk: bool = False
    """Train the modalities' own parts alone and leave the trunk of `init_trunk` as it is."""

    @model_validator(mode="after")
    def _a_frozen_trunk_has_learned(self) -> "JointRecipeConfig":
        if self.freeze_trunk and self.init_trunk is None:
            raise ValueError("recipe.freeze_trunk needs recipe.init_trunk: a trunk that never learned is of no use")
        return self


class BoundRecipeConfig(Schema):
    """Reconstruction and a bound on the bits of the latents in one step, on all parts of the model (2602.17270)."""

    kind: Literal["bound"] = "bound"
    """The step of unified latents."""
    loss_factor: float = Field(1.5, gt=0, le=1e6)
    """c, factor of the reconstruction in nats beside the bound in nats: larger ones spend more bits."""
    second_stage: float = Field(0.0, ge=0, lt=1)
    """Share of the run's steps, or of its time, at its end in which a fresh denoiser is trained on latents of the
    frozen tokenizer; 0: no second stage."""
    second_stage_bias: float = Field(0.0, ge=-20, le=20)
    """b in the second stage's weight sigmoid(lambda - b): larger ones weigh noisy timesteps less."""


class StagedRecipeConfig(Schema):
    """First what latents are made and decoded by, then the denoiser, on latents of the frozen first part."""

    kind: Literal["staged"] = "staged"
    """Two stages."""
    first_stage: float = Field(0.5, gt=0, lt=1)
    """Share of the run's steps, or of its time, that the first stage takes."""


class DecoderRecipeConfig(Schema):
    """The decoder alone, by reconstruction, on latents of a trained model whose other parts stay as they are."""

    kind: Literal["decoder"] = "decoder"
    """The decoder fine-tune."""
    init: str
    """Run or exported folder of the trained model; its averaged weights are used."""


class DecoderGanRecipeConfig(Schema):
    """The decoder alone, by reconstruction and against a discriminator that starts as the trained tokenizer."""

    kind: Literal["decoder-gan"] = "decoder-gan"
    """The decoder fine-tune with an adversarial loss."""
    init: str
    """Run or exported folder of the trained model; its averaged weights are used."""
    weight: float = Field(0.5, ge=0, le=1e6)
    """Factor of the adversarial loss, beside the adaptive one: the ratio of the gradient norms of both losses at the
    decoder's last layer."""
    warmup_steps: int = Field(500, ge=0, le=MOST_STEPS)
    """Optimizer steps by reconstruction alone, before discriminator and adversarial loss begin."""


RecipeConfig = Annotated[
    JointRecipeConfig | BoundRecipeConfig | StagedRecipeConfig | DecoderRecipeConfig | DecoderGanRecipeConfig,
    Field(discriminator="kind"),
]
"""What one training step is: which parts it trains, by which losses."""
