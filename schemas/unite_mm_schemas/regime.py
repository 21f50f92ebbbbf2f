"""Regimes and recipes: unions told apart by their `kind`, so that later ones are added beside the others."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unite_mm_schemas.base import Schema


class UniteRegime(Schema):
    """One Generative Encoder tokenizes and denoises: the method of the paper."""

    kind: Literal["unite"] = "unite"
    """Shared weights."""
    stop_gradient: bool = True
    """The flow loss does not reach the latents it is computed on; false lets it flow into the tokenizer."""

    @property
    def shared_weights(self) -> bool:
        """Whether one network tokenizes and denoises."""
        return True


class SeparateRegime(Schema):
    """Two networks of the same shape, one that tokenizes and one that denoises (the paper's comparison)."""

    kind: Literal["separate"] = "separate"
    """Separate weights."""
    stop_gradient: bool = True
    """The flow loss does not reach the latents it is computed on; false lets it flow into the tokenizer."""

    @property
    def shared_weights(self) -> bool:
        """Whether one network tokenizes and denoises."""
        return False


RegimeConfig = Annotated[UniteRegime | SeparateRegime, Field(discriminator="kind")]
"""Which system is trained: whose weights are shared, and where the flow loss reaches."""


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


class DecoderRecipeConfig(Schema):
    """The decoder alone, by reconstruction, on latents of a trained model whose other parts stay as they are."""

    kind: Literal["decoder"] = "decoder"
    """The decoder fine-tune."""
    init: str
    """Run or exported folder of the trained model; its averaged weights are used."""


RecipeConfig = Annotated[JointRecipeConfig | DecoderRecipeConfig, Field(discriminator="kind")]
"""What one training step is: which parts it trains, by which losses."""
