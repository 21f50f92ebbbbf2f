"""One training step as docs/method.md reads: every flow minibatch in one graph, one backward pass.

The graph grows with the number of flow minibatches, so above four of them the encoder's blocks are checkpointed in the
denoising passes, as the published code does: their activations are computed a second time when the gradient needs them.
It uses the model's own modules and random numbers, so its gradients must equal those of the joint recipe.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint

from unite_mm.model.network import Network
from unite_mm.training.noise import StepNoise
from unite_mm.training.recipes.base import Autocast
from unite_mm.training.recipes.flow import FlowRecipe

HELD = 4
"""Flow minibatches up to which all activations are held."""


def plain_backward(
    recipe: FlowRecipe, modality: str, batch: Any, noise: StepNoise, autocast: Autocast = nullcontext
) -> None:
    """Add the gradients of one joint step to the parameters; arguments as those of `Recipe.backward`."""
    config = recipe.config
    length = batch.registers.mask.shape[1]
    drawn = noise.reconstruction(config, length)
    with autocast():
        latents = recipe.tokenize(modality, batch, drawn)
        loss = latents.new_zeros(())
        if recipe.reconstructs:
            loss, _ = recipe.reconstruction_losses(modality, batch, latents, drawn.view)
        clean = recipe.network.to_flow(modality, latents, batch.registers)
        for addition in recipe.additions:
            addition.prepare(recipe.network, modality, batch)
        with checkpointed_blocks(recipe.network) if config.flow.draws > HELD else nullcontext():
            for _ in range(config.flow.draws if recipe.denoises else 0):
                draw, further = recipe.draw_all(modality, noise, length)
                seen = {
                    reaches: recipe.denoise(modality, batch, clean if reaches else clean.detach(), draw)
                    for reaches in {recipe.flow_reaches, *(addition.reaches for addition in recipe.additions)}
                }
                values = recipe.flow_values(seen[recipe.flow_reaches])
                loss = loss + recipe.flow_weight(modality) * recipe.flow_share * values.mean()
                for addition, drawn in zip(recipe.additions, further, strict=True):
                    value = addition.values(recipe.network, seen[addition.reaches], drawn).mean()
                    loss = loss + addition.weight / config.flow.draws * value
    (recipe.weight(modality) * loss).backward()


@contextmanager
def checkpointed_blocks(network: Network) -> Iterator[None]:
    """Within it, the denoiser's blocks keep their inputs alone."""
    blocks = list(network.denoiser.trunk.blocks)
    try:
        for block in blocks:
            block.forward = partial(checkpoint, type(block).forward, block, use_reentrant=False)
        yield
    finally:
        for block in blocks:
            del block.forward
