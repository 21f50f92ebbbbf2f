"""Recipes: what one training step is. `joint` is the method; each other one is a file beside it and a line below."""

from unite_mm.model.network import Network
from unite_mm.training.recipes.base import Recipe
from unite_mm.training.recipes.bound import BoundRecipe
from unite_mm.training.recipes.decoder import DecoderRecipe
from unite_mm.training.recipes.decoder_gan import DecoderGanRecipe
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm.training.recipes.staged import StagedRecipe
from unite_mm_schemas.config import RunConfig

RECIPES: dict[str, type[Recipe]] = {
    "joint": JointRecipe,
    "bound": BoundRecipe,
    "staged": StagedRecipe,
    "decoder": DecoderRecipe,
    "decoder-gan": DecoderGanRecipe,
}
"""Recipes by the `kind` of their configuration (`unite_mm_schemas.recipe.RecipeConfig`)."""


def make_recipe(config: RunConfig, network: Network) -> Recipe:
    """The recipe that a run's configuration names; decides which parameters of the network are trained."""
    return RECIPES[config.recipe.kind](config, network)
