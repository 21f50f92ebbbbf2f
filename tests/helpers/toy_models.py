"""Small models of the toy modality, with batches and random numbers for them."""

from typing import Any

import torch
from torch import Tensor, nn
from unite_mm_toy.config import PointsConfig
from unite_mm_toy.points import PointBatch, Points, draw_ring

from unite_mm.api import UNITE
from unite_mm.config import REGIMES
from unite_mm.contract import Registers
from unite_mm.model.network import Network
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.registry.build import build_network
from unite_mm.training import recipes
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.recipes.base import Recipe
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm.training.shift import with_shift
from unite_mm_schemas.combinations import FINE_TUNES
from unite_mm_schemas.config import ModalityRun, RunConfig, TrunkConfig

STATISTICS = {"counts": [1, 1, 1]}


def make_model(
    *, weight: float = 1.0, trunk: dict[str, Any] | None = None, points: dict[str, Any] | None = None, **changes: Any
) -> UNITE:
    """A small model whose parameters are disturbed: parts that begin at zero would hide mistakes."""
    size = {"width": 32, "depth": 3, "heads": 2, "time_features": 16, "gate_start": 0.5, "pointer_bias": 1.0}
    sections = {"trunk": TrunkConfig(**(size | (trunk or {}))), **changes}
    config = RunConfig(modalities={"points": ModalityRun(weight=weight)}, **sections)
    modalities, statistics = {"points": Points(PointsConfig(**(points or {})), "points")}, {"points": STATISTICS}
    network = build_network(config, modalities, statistics).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return UNITE(network, config, modalities, statistics)


def regime_sections(name: str) -> dict[str, Any]:
    """The sections that `--regime` sets, complete and validated."""
    values = REGIMES[name].values
    config = RunConfig.model_validate(values)
    return {section: getattr(config, section) for section in values}


def make_regime(name: str, *, stage: int = 1, **changes: Any) -> Recipe:
    """The recipe of a regime in one of its stages, on the network of `make_model`."""
    model = make_model(**(regime_sections(name) | changes))
    recipe = recipes.make_recipe(with_shift(model.config, model.network), model.network)
    if model.config.recipe.kind not in FINE_TUNES:  # these start from a folder
        recipe.start(model.statistics)
    if stage > 1:
        recipe.enter(stage)
    return recipe


def make_recipe(**changes: Any) -> JointRecipe:
    """The joint recipe on the network of `make_model`."""
    model = make_model(**changes)
    return JointRecipe(model.config, model.network)


def make_batch(size: int, padded: bool = True) -> PointBatch:
    """The first points of the ring."""
    points, counts, first = draw_ring(size, 0.05, torch.Generator().manual_seed(3))
    registers = Registers.from_counts(counts if padded else torch.full((size,), 3))
    return PointBatch(points[:, : registers.mask.shape[1]] * registers.mask[:, :, None], registers, first)


def make_noise(network: Network, size: int, shard: Shard | None = None, step: int = 0) -> StepNoise:
    """Random numbers of a step."""
    layout = network.modules_of("points").layout
    generator = stream_generator(Stream.TRAINING_NOISE, 7, step, 0)
    return StepNoise(generator, size, layout, shard or Shard())


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """The gradient of every parameter; zeros where there is none."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def all_gradients(recipe: Recipe) -> dict[str, Tensor]:
    """Those of the network, and of what is trained beside it."""
    return gradients(nn.ModuleDict({"network": recipe.network, "extra": recipe.extra}))
