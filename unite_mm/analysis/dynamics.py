"""Training dynamics: what a run recorded, and how the gradients of its two losses meet on the weights they share."""

from collections.abc import Iterable
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from unite_mm.analysis.subject import Subject
from unite_mm.api import UNITE
from unite_mm.contract import Batch
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.storage.runs import checkpoints_of
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.recipes import make_recipe
from unite_mm.training.recipes.flow import FlowRecipe
from unite_mm.training.run_log import read_records
from unite_mm_schemas.additions import NoAlignment, NoLatentGradient
from unite_mm_schemas.analysis import Curve, GradientPoint
from unite_mm_schemas.combinations import FINE_TUNES
from unite_mm_schemas.recipe import RecipeConfig

RECIPE: TypeAdapter[RecipeConfig] = TypeAdapter(RecipeConfig)
"""Reads the configuration of a recipe."""

UNDRAWN = ("kind", "step", "seconds")
"""Keys of a record that are no figures."""


def curves(run: Path) -> list[Curve]:
    """Every scalar that a run recorded, over its steps; none where the folder holds no records."""
    found: dict[str, dict[int, float]] = {}
    for record in read_records(run):
        for name, value in record.items():
            if name not in UNDRAWN and isinstance(value, int | float):
                found.setdefault(f"{record.get('kind', '')}/{name}", {})[record["step"]] = float(value)
    return [Curve(name=name, steps=tuple(own), values=tuple(own.values())) for name, own in found.items()]


def gradient_points(subject: Subject) -> list[GradientPoint]:
    """Gradients of reconstruction and flow loss at every checkpoint that the run still has, or at the model itself.

    Raw weights, the subject's samples with the same noise at every checkpoint, gradients averaged over them; the losses
    are those of the recipe, see `step_losses`. They are compared on the parameters of the encoder that both train: all
    of it where weights are shared; where they are not, the tokenizer's where the flow loss reaches the latents, else
    none. In a stage that trains by one loss alone there are none either.
    """
    folders: Iterable[Path] = checkpoints_of(subject.run) or [subject.run]
    listed = list(folders)
    points = []
    with subject.progress.task("Comparing gradients", len(listed)) as advance:
        for folder in listed:
            model = UNITE.from_pretrained(folder, ema=False, device=str(subject.model.device))
            assert model.record is not None
            points.append(_point(subject, model, model.record.step))
            advance(1)
    return points


def _point(subject: Subject, model: UNITE, step: int) -> GradientPoint:
    recipe, modality = trained_by(model), subject.modality
    layout = model.modules_of(modality).layout
    shared = [parameter for parameter in model.network.encoder.parameters() if parameter.requires_grad]
    sums: list[list[Tensor]] = [[torch.zeros_like(parameter) for parameter in shared] for _ in range(2)]
    reached = [torch.zeros(len(shared), dtype=torch.bool) for _ in range(2)]
    for number, one in enumerate(subject.encoded):
        generator = stream_generator(Stream.ANALYSIS_STEP, subject.seed, number, device=model.device)
        noise = StepNoise(generator, len(one.latents), layout, Shard())
        for which, loss in enumerate(step_losses(recipe, modality, one.batch, noise)):
            found = _gradients(loss, shared)
            for place, gradient in enumerate(found):
                if gradient is not None:
                    sums[which][place] += gradient
                    reached[which][place] = True
    both = (reached[0] & reached[1]).tolist()
    first, second = (
        torch.cat(
            [gradient.flatten().double() for gradient, kept in zip(own, both, strict=True) if kept] or [_nothing()]
        )
        for own in sums
    )
    norms = [float(own.norm()) / len(subject.encoded) for own in (first, second)]
    product = float(first.norm() * second.norm())
    cosine = float(first @ second) / product if product > 0 else None
    return GradientPoint(step=step, cosine=cosine, reconstruction_norm=norms[0], flow_norm=norms[1])


def _nothing() -> Tensor:
    return torch.zeros(1, dtype=torch.float64)


def _gradients(loss: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    if not loss.requires_grad or not parameters:
        return (None,) * len(parameters)
    # Without stop-gradient both losses share the graph of the latents.
    return torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)


def trained_by(model: UNITE) -> FlowRecipe:
    """The recipe that a model's losses are of, in the stage that it is in; what the recipe adds to them is left out.

    A fine-tune of the decoder has no flow loss: there it is the recipe that trains the model's regime, as it is by
    default.
    """
    config = model.config
    kind = config.recipe.kind
    own = config.recipe if kind not in FINE_TUNES else RECIPE.validate_python({"kind": config.regime.recipes[0]})
    plain = {"recipe": own, "alignment": NoAlignment(), "latent_gradient": NoLatentGradient()}
    recipe = make_recipe(config.model_copy(update=plain), model.network)
    assert isinstance(recipe, FlowRecipe)
    if model.record is not None:
        recipe.enter(model.record.stage.number)
    return recipe


def step_losses(recipe: FlowRecipe, modality: str, batch: Batch, noise: StepNoise) -> tuple[Tensor, Tensor]:
    """Reconstruction and flow loss () of a batch, as a step of the recipe weighs them beside each other.

    Latents are decoded as outside training, without noise or with that where the flow ends; the flow loss is of one
    draw.

    Args:
        recipe: what the losses are.
        modality: whose batch it is.
        batch: the plugin's, on the device.
        noise: random numbers of a step.
    """
    network, length = recipe.network, batch.registers.mask.shape[1]
    latents = network.tokenize(modality, batch, noise.normal(length), noise.tokenize_times(recipe.config.latent))
    view = noise.lasting_view(recipe.config, length)
    reconstruction, _ = recipe.reconstruction_losses(modality, batch, latents, view)
    clean = network.to_flow(modality, latents, batch.registers)
    clean = clean if recipe.flow_reaches else clean.detach()
    seen = recipe.denoise(modality, batch, clean, recipe.draw_flow(modality, noise, length))
    return reconstruction, recipe.flow_weight(modality) * recipe.flow_values(seen).mean()
