"""Generation: registers and conditions from the prior, noise, the flow, batches of samples of equal length.

Dimensions: B batch, L registers of the batch, K registers of the layout, C latent channels, M numbers of a condition.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unite_mm.contract import ConditionSpec, ModalityModules, PriorSample, Registers
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.drift import Drift, NetworkDenoiser
from unite_mm.sampling.names import without_names
from unite_mm.sampling.solvers import StateCallback, integrate
from unite_mm_schemas.config import SamplingConfig


@dataclass(frozen=True)
class Latents:
    """Latent tokens of a batch.

    Attributes:
        values: (B, L, C), layer-normalised over C, zero at unused registers.
        registers: which registers each sample uses.
        modality: whose latents they are.
        condition: what they were generated under, classes (B,) or numbers (B, M); None where there was none.
    """

    values: Tensor
    registers: Registers
    modality: str
    condition: Tensor | None = None


class Samples(list[Any]):
    """Generated native samples, in their order, with what sampling found out.

    Attributes:
        evaluations: function evaluations (NFE) of the network; the most that any sample took.
        conditions: what the samples were generated under, classes (n,) or numbers (n, M), on the CPU; None where there
            was no condition.
    """

    def __init__(self, samples: Sequence[Any], evaluations: int, conditions: Tensor | None) -> None:
        super().__init__(samples)
        self.evaluations = evaluations
        self.conditions = conditions


def normal_noise(modules: ModalityModules, generators: Sequence[torch.Generator], length: int) -> Tensor:
    """(B, L, C) standard normal; each sample draws all K registers so that padding changes nothing."""
    layout = modules.layout
    drawn = [torch.randn(layout.registers, layout.channels, generator=g)[:length] for g in generators]
    return torch.stack(drawn)


def draw_prior(
    modules: ModalityModules, count: int, condition: Any, *, seed: int = 0, first: int = 0
) -> list[PriorSample]:
    """Registers and conditions of samples first .. first + count - 1 of a seed.

    Args:
        modules: the modality's, for its prior.
        count: how many.
        condition: as for `UNITE.generate`.
        seed: of the prior.
        first: index of the first sample.

    Raises:
        UsageError: the condition does not fit the modality.
    """
    given = check_conditions(modules.condition, condition, count)
    return [modules.prior(stream_generator(Stream.PRIOR, seed, first + index), own) for index, own in enumerate(given)]


def sample_latents(
    network: Network,
    modality: str,
    priors: Sequence[PriorSample],
    generators: Sequence[torch.Generator],
    settings: SamplingConfig,
    on_state: StateCallback | None = None,
) -> tuple[Latents, int]:
    """Integrate one batch from noise to latents.

    Args:
        network: what denoises.
        modality: whose samples.
        priors: registers and condition of each sample.
        generators: CPU generators of each sample's noise.
        settings: solver, steps, guidance, temperature, churn.
        on_state: see `unite_mm.sampling.solvers.integrate`.

    Returns:
        The latents, and the number of function evaluations.
    """
    masks = torch.stack([prior.mask for prior in priors])
    used = masks[:, : int(masks.any(0).nonzero().max()) + 1]
    registers = Registers(used, padded=not bool(used.all())).to(network.device)
    condition = stacked_conditions(priors)
    condition = None if condition is None else condition.to(network.device)
    modules = network.modules_of(modality)

    def fresh_noise() -> Tensor:
        return normal_noise(modules, generators, used.shape[1]).to(network.device) * registers.mask[:, :, None]

    drift = Drift(NetworkDenoiser(network, modality, registers, condition, settings), settings)
    solution = integrate(drift, fresh_noise() * settings.temperature, settings, fresh_noise, on_state)
    return Latents(solution.state * registers.mask[:, :, None], registers, modality, condition), solution.evaluations


def check_conditions(spec: ConditionSpec, condition: Any, count: int) -> list[Tensor | None]:
    """The caller's condition for each of `count` samples, as tensors that fit the modality.

    Raises:
        UsageError: it does not fit.
    """
    if condition is None:
        return [None] * count
    if spec.kind == "none":
        raise UsageError("this modality takes no condition", "leave it out")
    try:
        value = torch.as_tensor(without_names(spec, condition))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"condition {condition!r} does not fit: {error}") from error
    own = () if spec.kind == "classes" else (spec.size,)
    if value.shape not in (own, (count, *own)):
        what = "use an integer" if spec.kind == "classes" else f"give {spec.size} numbers {spec.names}"
        raise UsageError(f"condition {condition!r} does not fit", f"{what}, or {count} of them")
    if spec.kind == "numbers":
        return list(value.float().expand(count, *own))
    if value.is_floating_point() or not bool(((value >= 0) & (value < spec.size)).all()):
        raise UsageError(f"condition {condition!r} is no class", f"use an integer from 0 to {spec.size - 1}")
    return list(value.long().expand(count))


def batches_of_equal_length(priors: Sequence[PriorSample], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of one register count each, which need no mask; small leftovers are joined and padded."""
    counts = [int(prior.mask.sum()) for prior in priors]
    leftover: list[int] = []
    for count in sorted(set(counts)):
        group = [index for index, own in enumerate(counts) if own == count]
        for start in range(0, len(group), batch_size):
            part = group[start : start + batch_size]
            if len(part) >= batch_size // 8:
                yield part
            else:
                leftover += part
    for start in range(0, len(leftover), batch_size):
        yield leftover[start : start + batch_size]


def stacked_conditions(priors: Sequence[PriorSample]) -> Tensor | None:
    """Classes (n,) or numbers (n, M) of the samples; None unless all have one."""
    conditions = [prior.condition for prior in priors if prior.condition is not None]
    return torch.stack(conditions) if conditions and len(conditions) == len(priors) else None
