"""Which sections of a run go together, and why others do not."""

from unite_mm_schemas.additions import AlignmentConfig, LatentGradientConfig
from unite_mm_schemas.recipe import RecipeConfig
from unite_mm_schemas.regime import RegimeConfig

FINE_TUNES = ("decoder", "decoder-gan")
"""Kinds of recipes that start from a trained model of any regime, and train no denoiser."""

SHARDED = ("fsdp", "hybrid")
"""Strategies under which no device has all weights."""

_REASONS = {
    "joint": "recipe.kind=joint trains all parts at once by the flow loss on latents of the step itself",
    "bound": "recipe.kind=bound trains by a bound on the bits of latents with a fixed noise",
    "staged": "recipe.kind=staged freezes one part and trains another on it",
}


def disagreement(
    regime: RegimeConfig, recipe: RecipeConfig, alignment: AlignmentConfig, latent_gradient: LatentGradientConfig
) -> str | None:
    """Why sections of a run do not go together; None where they do."""
    if recipe.kind not in FINE_TUNES and recipe.kind not in regime.recipes:
        return (
            f"{_REASONS[recipe.kind]}, and regime.kind={regime.kind} is trained by recipe.kind="
            f"{' or '.join(regime.recipes)}: --regime NAME sets both"
        )
    if recipe.kind == "decoder-gan" and regime.features:
        return "recipe.kind=decoder-gan: frozen features leave no tokenizer that the discriminator could start from"
    added = {"alignment": alignment, "latent_gradient": latent_gradient}
    for name, section in added.items():
        if section.kind == "none":
            continue
        if recipe.kind in FINE_TUNES:
            return f"{name}.kind={section.kind}: recipe.kind={recipe.kind} trains no denoiser; use {name}.kind=none"
        if section.end_to_end and recipe.kind == "staged":
            return f"{name}.end_to_end=true: the tokenizer is frozen when the denoiser is trained; leave it out"
    if alignment.kind == "teacher" and regime.features:
        return "alignment.kind=teacher: the latents are the teacher's features already; use alignment.kind=self or none"
    if latent_gradient.kind == "decoded" and latent_gradient.decoder and recipe.kind == "staged":
        return "latent_gradient.decoder=true: the decoder is frozen when the denoiser is trained; leave it out"
    if latent_gradient.kind == "decoded" and latent_gradient.threshold >= regime.end_time:
        end = f"the flow ends at t = {regime.end_time:.4g}"
        return f"latent_gradient.threshold={latent_gradient.threshold:g}: {end}, no draw is above it; take a lower one"
    return None


def not_sharded(recipe: RecipeConfig, alignment: AlignmentConfig, latent_gradient: LatentGradientConfig) -> str | None:
    """Why the weights of a run must be whole on every device; None where they may be cut into rows."""
    if recipe.kind == "decoder-gan":
        return "recipe.kind=decoder-gan trains a discriminator beside the network, whose weights stay whole"
    for name, section in {"alignment": alignment, "latent_gradient": latent_gradient}.items():
        if section.kind != "none":
            return f"{name}.kind={section.kind} looks into whole weights in the middle of a step"
    return None
