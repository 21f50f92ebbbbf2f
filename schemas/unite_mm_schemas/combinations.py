"""Which regimes and recipes go together, and why others do not."""

from unite_mm_schemas.recipe import RecipeConfig
from unite_mm_schemas.regime import RegimeConfig

FINE_TUNES = ("decoder",)
"""Kinds of recipes that start from a trained model of any regime."""

_REASONS = {
    "joint": "recipe.kind=joint trains all parts at once by the flow loss on latents of the step itself",
    "bound": "recipe.kind=bound trains by a bound on the bits of latents with a fixed noise",
    "staged": "recipe.kind=staged freezes one part and trains another on it",
}


def disagreement(regime: RegimeConfig, recipe: RecipeConfig) -> str | None:
    """Why a regime and a recipe do not go together; None where they do."""
    if recipe.kind in FINE_TUNES or recipe.kind in regime.recipes:
        return None
    return (
        f"{_REASONS[recipe.kind]}, and regime.kind={regime.kind} is trained by recipe.kind="
        f"{' or '.join(regime.recipes)}: --regime NAME sets both"
    )
