"""Alignment: registers inside the denoiser, through a small MLP, against features of a teacher or of its own average.

REPA (arXiv 2410.06940) and SRA / Self-Flow (arXiv 2603.06507). The loss is the mean over used registers of 1 - cosine.

Dimensions: B batch, L registers of the batch, C latent channels, W width, F features; n draws of a chunk.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unite_mm.contract import Batch
from unite_mm.flow.path import interpolate
from unite_mm.model.network import Network
from unite_mm.training.noise import StepNoise
from unite_mm.training.recipes.additions import Addition, FlowPass
from unite_mm_schemas.additions import SelfAlignment, TeacherAlignment

HIDDEN = 2
"""Width of the MLP's hidden layers, as a multiple of the trunk's."""


def block_at(share: float, depth: int) -> int:
    """The block, from 1, that lies at a share of the depth, rounded up."""
    return max(1, math.ceil(share * depth - 1e-9))


def projection(width: int, features: int) -> nn.Sequential:
    """(..., W) -> (..., F): two hidden layers with SiLU."""
    hidden = HIDDEN * width
    return nn.Sequential(
        nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, features)
    )


class _Alignment(Addition):
    """What both have in common.

    Args:
        network: its trunk is aligned.
        weight: factor of the loss.
        end_to_end: whether the gradient reaches the latents.
        share: of the depth at which the registers are read.
        features: F of every modality.
    """

    wants_states = True

    def __init__(
        self, network: Network, weight: float, end_to_end: bool, share: float, features: Mapping[str, int]
    ) -> None:
        super().__init__()
        trunk = network.denoiser.trunk.config
        self.name, self.weight, self.reaches = "alignment", weight, end_to_end
        self.block = block_at(share, trunk.depth)
        self.maps = nn.ModuleDict({name: projection(trunk.width, size) for name, size in features.items()})

    def distance(self, seen: FlowPass, targets: Tensor) -> Tensor:
        """1 - cosine (n B,) between mapped registers and targets (n B, L, F), mean over used registers."""
        mapped = self.maps[seen.modality](seen.states[self.block - 1]).float()
        mask = seen.registers.mask
        apart = 1 - F.cosine_similarity(mapped, targets.float(), dim=-1)
        return (apart * mask).sum(1) / mask.sum(1).clamp_min(1)


class TeacherAligned(_Alignment):
    """Registers after a third of the blocks, against the teacher's features of the clean input."""

    def __init__(self, config: TeacherAlignment, network: Network) -> None:
        features = {name: network.teacher(name).width for name in network.names}
        super().__init__(network, config.weight, config.end_to_end, 1 / 3, features)
        self.title = f"alignment to {', '.join(network.teacher(name).name for name in network.names)}"
        self._targets = torch.empty(0)

    @torch.no_grad()
    def prepare(self, network: Network, modality: str, batch: Batch) -> None:
        self._targets = network.teacher(modality)(batch)

    def values(self, network: Network, seen: FlowPass, drawn: Tensor) -> Tensor:
        del network, drawn
        return self.distance(seen, self._targets.repeat(len(seen.clean) // len(self._targets), 1, 1))


class SelfAligned(_Alignment):
    """Registers after 0.3 of the blocks, against those of the average after 0.7, at a later time of the same path.

    Args:
        config: weight, and how much later.
        network: its trunk is aligned.
        average: the averaged parameters by their names in the network, as they are when it is called.
    """

    def __init__(self, config: SelfAlignment, network: Network, average: Callable[[], Mapping[str, Tensor]]) -> None:
        width = network.denoiser.trunk.config.width
        super().__init__(network, config.weight, config.end_to_end, 0.3, dict.fromkeys(network.names, width))
        self.config, self.average = config, average
        self.title = "alignment to the averaged denoiser"
        self.later = block_at(0.7, network.denoiser.trunk.config.depth)

    def draw(self, noise: StepNoise) -> Tensor:
        return noise.uniform()[:, None] * self.config.ahead

    @torch.no_grad()
    def _targets(self, network: Network, seen: FlowPass, drawn: Tensor) -> Tensor:
        time = (seen.time + drawn[:, 0]).clamp_max(network.end_time)
        state = interpolate(seen.clean, seen.noise, time) * seen.registers.mask[:, :, None]
        prefix = "encoder." if network.separate_denoiser is None else "separate_denoiser."
        own = {key.removeprefix(prefix): value for key, value in self.average().items() if key.startswith(prefix)}
        states: list[Tensor] = []
        torch.func.functional_call(
            network.denoiser,
            own,
            (seen.modality, state, time, seen.registers),
            {"condition": seen.condition, "dropped": seen.dropped, "states": states},
        )
        return states[self.later - 1]

    def values(self, network: Network, seen: FlowPass, drawn: Tensor) -> Tensor:
        return self.distance(seen, self._targets(network, seen, drawn))
