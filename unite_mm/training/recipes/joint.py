"""The joint step: reconstruction plus flow matching on all parts of the network (arXiv 2603.22283, alg. 1)."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from unite_mm.contract import Statistics
from unite_mm.storage.pretrained import load_trunk
from unite_mm.training.recipes.flow import FlowRecipe
from unite_mm_schemas.recipe import JointRecipeConfig


class JointRecipe(FlowRecipe):
    """Trains all parts of the network, or all but a trunk that comes from another run."""

    @property
    def _own(self) -> JointRecipeConfig:
        assert isinstance(self.config.recipe, JointRecipeConfig)
        return self.config.recipe

    def trained(self) -> Iterable[nn.Parameter]:
        frozen: set[int] = set()
        if self._own.freeze_trunk:
            for encoder in (self.network.encoder, self.network.denoiser):
                frozen |= {id(parameter) for parameter in encoder.trunk.parameters()}
        return [parameter for parameter in self.network.parameters() if id(parameter) not in frozen]

    def start(self, statistics: Mapping[str, Statistics]) -> None:
        """From the trunk of another run where the configuration names one, see `load_trunk`."""
        del statistics
        if self._own.init_trunk is not None:
            load_trunk(self.network, Path(self._own.init_trunk))
