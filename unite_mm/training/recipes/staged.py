"""Two stages: what makes and decodes latents, by reconstruction; then the denoiser, on latents of the frozen first.

Latent diffusion, and the regimes of frozen features: the first stage trains the tokenizer, unless that is frozen from
the start, and the decoder. The second begins with the averaged weights of the first.

Dimensions: B batch, L registers of the batch, C latent channels.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch, Statistics
from unite_mm.model.network import Network
from unite_mm.training.noise import StepNoise
from unite_mm.training.passes import TrainingPass
from unite_mm.training.recipes.flow import FlowRecipe
from unite_mm_schemas.config import RunConfig
from unite_mm_schemas.recipe import StagedRecipeConfig


class StagedRecipe(FlowRecipe):
    """Reconstruction first, the flow on frozen latents second."""

    def __init__(self, config: RunConfig, network: Network) -> None:
        assert isinstance(config.recipe, StagedRecipeConfig)
        self.boundaries = (config.recipe.first_stage,)
        super().__init__(config, network)

    def trained(self) -> Iterable[nn.Parameter]:
        return self.all_but_denoiser() if self.stage == 1 else self.network.denoiser.parameters()

    def start(self, statistics: Mapping[str, Statistics]) -> None:
        """With the projection of features, where they are the latents."""
        del statistics
        self.network.fit_features()

    def begin_stage(self, data: TrainingPass) -> None:
        """Measure mean and deviation of every channel, over the used registers of the training split."""
        self.network.eval()
        for modality in self.network.names:
            space = self.network.space(modality)
            if space is None:
                continue
            total, squares, count = torch.zeros(2 * len(space.mean) + 1, dtype=torch.float64).split(
                [len(space.mean), len(space.mean), 1]
            )
            for batch, noise in data.batches(modality, "Measuring the latents"):
                drawn = noise.reconstruction(self.config, batch.registers.mask.shape[1])
                with torch.no_grad():
                    used = self.tokenize(modality, batch, drawn)[batch.registers.mask].cpu().double()
                total, squares = total + used.sum(0), squares + used.square().sum(0)
                count = count + len(used)
            space.set(*data.moments(total, squares, count))
        self.network.train()

    @property
    def reconstructs(self) -> bool:
        """The first stage alone."""
        return self.stage == 1

    @property
    def denoises(self) -> bool:
        """The second stage alone."""
        return self.stage == 2

    def validate(self, modality: str, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
        """`reconstruction` and every term of it; in the second stage also `flow` of one draw."""
        if self.stage == 1:
            return self.validate_reconstruction(modality, batch, noise)[1]
        return super().validate(modality, batch, noise)

    def facts(self) -> list[tuple[str, str]]:
        """What the stages are, and how the run is shared between them."""
        share = self.boundaries[0]
        first = "decoder" if self.config.regime.features else "tokenizer and decoder"
        stages = [("stage 1", f"{share:.0%}: {first}"), ("stage 2", f"{1 - share:.0%}: denoiser, on frozen latents")]
        return stages + super().facts()
