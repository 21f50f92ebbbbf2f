"""The decoder fine-tune of the paper: reconstruction, and against a discriminator that starts as the tokenizer.

Hinge losses on the scores of used registers. The adversarial loss is scaled so that its gradient at the decoder's last
layer is as large as that of the reconstruction (Esser et al., arXiv 2012.09841), times the configured weight.

Dimensions: B batch, L registers of the batch.
"""

from collections.abc import Mapping
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unite_mm.contract import Batch, ModalityModules, Statistics
from unite_mm.errors import UsageError
from unite_mm.model.discriminator import Discriminator
from unite_mm.model.network import Network
from unite_mm.random_streams import Stream, global_stream
from unite_mm.training.noise import StepNoise
from unite_mm.training.recipes.additions import untrained
from unite_mm.training.recipes.base import Autocast
from unite_mm.training.recipes.decoder import DecoderRecipe
from unite_mm.training.reduction import average
from unite_mm_schemas.config import RunConfig
from unite_mm_schemas.recipe import DecoderGanRecipeConfig

SMALLEST_NORM = 1e-4
LARGEST_SCALE = 1e4


class DecoderGanRecipe(DecoderRecipe):
    """Trains the decoders, and beside the network a discriminator."""

    def __init__(self, config: RunConfig, network: Network) -> None:
        super().__init__(config, network)
        assert isinstance(config.recipe, DecoderGanRecipeConfig)
        self.own = config.recipe
        for name in network.names:
            if type(network.modules_of(name)).as_batch is ModalityModules.as_batch:
                raise UsageError(
                    f"recipe.kind=decoder-gan: what modality {name!r} decodes cannot be turned back into a batch for a "
                    "discriminator",
                    "use --recipe decoder",
                )
        with global_stream(Stream.DISCRIMINATOR, config.train.seed):
            self.discriminator = Discriminator(network).to(network.device)
        self.extra["discriminator"] = self.discriminator

    def start(self, statistics: Mapping[str, Statistics]) -> None:
        """From the averaged weights of the trained model, the discriminator's features too."""
        super().start(statistics)
        self.discriminator.take(self.network)

    @property
    def repeatable(self) -> bool:
        return False

    def backward(
        self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast = nullcontext
    ) -> dict[str, Tensor]:
        """`reconstruction` and its terms; after the warm-up `adversarial`, `adversarial_scale` and `discriminator`."""
        if self.step < self.own.warmup_steps:
            return super().backward(modality, batch, noise, autocast)
        weight, modules = self.weight(modality), self.network.modules_of(modality)
        drawn = noise.reconstruction(self.config, batch.registers.mask.shape[1])
        with autocast():
            with torch.no_grad():
                latents = self.tokenize(modality, batch, drawn)
            output = self.decode(modality, batch, latents, drawn.view)
            reconstruction, terms = self.compare(modality, batch, output)
            made = modules.as_batch(output, batch)
            with untrained(self.discriminator.parameters()):
                adversarial = -self._mean(self.discriminator(modality, made), batch)
        scale = adaptive_scale(reconstruction, adversarial, last_matrix(modules.decoder))
        (weight * (reconstruction + self.own.weight * scale * adversarial)).backward()
        with autocast():
            real, false = self.discriminator(modality, batch), self.discriminator(modality, made)
            loss = 0.5 * (self._mean(F.relu(1 - real), batch) + self._mean(F.relu(1 + false), batch))
        # What was decoded has served: of this loss only the discriminator learns.
        torch.autograd.backward(weight * loss, inputs=list(self.discriminator.parameters()))
        found = {"adversarial": adversarial, "adversarial_scale": scale, "discriminator": loss}
        return {"reconstruction": reconstruction.detach(), **{k: v.detach() for k, v in found.items()}, **terms}

    def _mean(self, values: Tensor, batch: Batch) -> Tensor:
        """Mean () over samples of the mean over used registers of (B, L)."""
        mask = batch.registers.mask
        return ((values * mask).sum(1) / mask.sum(1).clamp_min(1)).mean()

    def facts(self) -> list[tuple[str, str]]:
        """How large the discriminator is, and when it begins."""
        count = sum(parameter.numel() for parameter in self.discriminator.parameters())
        return [("discriminator", f"{count:,} parameters, from step {self.own.warmup_steps:,}")]


def last_matrix(decoder: nn.Module) -> nn.Parameter:
    """The last of a decoder's parameters that is a matrix, in the order in which they were made."""
    return [parameter for parameter in decoder.parameters() if parameter.dim() > 1][-1]


def adaptive_scale(reconstruction: Tensor, adversarial: Tensor, last: nn.Parameter) -> Tensor:
    """Ratio () of the gradient norms of two losses at a parameter, over the joined batch of all ranks."""
    gradients = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (reconstruction, adversarial)]
    first, second = average(torch.stack(gradients)).flatten(1).norm(dim=1)
    scale: Tensor = (first / (second + SMALLEST_NORM)).clamp(0, LARGEST_SCALE)
    return scale
