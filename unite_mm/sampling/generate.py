"""Generation: registers and conditions from the prior, noise, the flow, batches of samples of equal length.

Dimensions: B batch, L registers of the batch, K registers of the layout, C latent channels, M numbers of a condition.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unite_mm.contract import ConditionSpec, Fragment, ModalityModules, PriorSample, Registers, SampleRequest
from unite_mm.errors import UniteError, UniteWarning, UsageError
from unite_mm.flow.path import interpolate
from unite_mm.model.network import Network
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.drift import Drift, HeldLatents, NetworkDenoiser
from unite_mm.sampling.latents import Latents
from unite_mm.sampling.names import without_names
from unite_mm.sampling.solvers import StateCallback, integrate
from unite_mm_schemas.config import SamplingConfig
from unite_mm_schemas.metrics import Score

BATCHES_OF_A_THREAD = 4
"""Batches that each of several threads gets. More of them would end closer together, but small ones cost more for each
sample (docs/experiments/sampling-speed.md)."""

SMALLEST_BATCH = 32
"""Samples of a small molecule from which on larger batches are no faster on a CPU."""


@dataclass(frozen=True)
class Start:
    """Clean latents that are noised up to a timestep, from which the flow goes on, instead of noise alone.

    Attributes:
        latents: one for each sample.
        time: the timestep; at 0 they are noise alone, at 1 nothing is left to do.
    """

    latents: Latents
    time: float

    def of(self, indices: Sequence[int]) -> "Start":
        """The beginnings of some samples."""
        return Start(self.latents.of(indices), self.time)

    def noised(self, network: Network, noise: Tensor) -> Tensor:
        """The state (B, L, C) of the flow that noise (B, L, C) makes of them.

        Where the flow ends before t = 1 they are the state at its end, and only the noise that is missing is added.
        """
        latents = self.latents.to(noise.device)
        values = network.to_flow(latents.modality, latents.values, latents.registers)
        end = network.end_time
        if end == 1:
            return interpolate(values, noise, torch.full((len(noise),), self.time, device=noise.device))
        share = min(self.time, end) / end
        missing = math.sqrt(max(0.0, (1 - share * end) ** 2 - (share * (1 - end)) ** 2))
        return share * values + missing * noise


class Samples(list[Any]):
    """Generated native samples, in their order, with what sampling found out.

    Attributes:
        evaluations: function evaluations (NFE) of the network; the most that any sample took.
        conditions: what the samples were generated under, on the CPU: classes (n,), numbers (n, M) or both (n, 1 + M),
            NaN where a part was left open; None where there was no condition.
        score: how many are sound and contain the fragment that they were grown around; None where there was none.
    """

    def __init__(
        self, samples: Sequence[Any], evaluations: int, conditions: Tensor | None, score: Score | None = None
    ) -> None:
        super().__init__(samples)
        self.evaluations = evaluations
        self.conditions = conditions
        self.score = score


def normal_noise(modules: ModalityModules, generators: Sequence[torch.Generator], length: int) -> Tensor:
    """(B, L, C) standard normal; each sample draws all K registers so that padding changes nothing."""
    layout = modules.layout
    drawn = [torch.randn(layout.registers, layout.channels, generator=g)[:length] for g in generators]
    return torch.stack(drawn)


def draw_prior(
    modules: ModalityModules,
    count: int,
    condition: Any,
    *,
    size: int | Sequence[int] | None = None,
    options: Any = None,
    seed: int = 0,
    first: int = 0,
    fragment: Fragment | None = None,
) -> list[PriorSample]:
    """Registers and conditions of samples first .. first + count - 1 of a seed.

    Args:
        modules: the modality's, for its prior.
        count: how many.
        condition: as for `UNITE.generate`.
        size: likewise.
        options: of the plugin's own, complete; None: it has none.
        seed: of the prior.
        first: index of the first sample.
        fragment: what the samples are to contain.

    Raises:
        UsageError: the condition or the size does not fit the modality.
        UniteError: the plugin does not heed them.
    """
    given = check_conditions(modules.condition, condition, count)
    warn_beyond(modules.condition, given)
    sizes = check_sizes(modules.sizes, size, count)
    return [
        _draw_one(modules, stream_generator(Stream.PRIOR, seed, first + index), request)
        for index, request in enumerate(
            SampleRequest(*own, options, fragment) for own in zip(given, sizes, strict=True)
        )
    ]


def _draw_one(modules: ModalityModules, generator: torch.Generator, request: SampleRequest) -> PriorSample:
    drawn = modules.prior_for(generator, request)
    if request.size is not None and int(drawn.mask.sum()) != request.size:
        raise UniteError(
            f"the prior gives {int(drawn.mask.sum())} registers where {request.size} are asked for",
            "this is a mistake in the plugin: tell its author",
        )
    spec, found = modules.condition, drawn.condition
    if spec.parts and spec.left_open != "dropped" and found is not None and bool(found.isnan().any()):
        raise UniteError(
            "the prior leaves a part of the condition open, which the model cannot do without",
            "this is a mistake in the plugin: tell its author",
        )
    return drawn


def sample_latents(
    network: Network,
    modality: str,
    priors: Sequence[PriorSample],
    generators: Sequence[torch.Generator],
    settings: SamplingConfig,
    on_state: StateCallback | None = None,
    held: HeldLatents | None = None,
    start: Start | None = None,
) -> tuple[Latents, int]:
    """Integrate one batch from noise to latents, as the decoder sees them.

    Args:
        network: what denoises.
        modality: whose samples.
        priors: registers and condition of each sample.
        generators: CPU generators of each sample's noise.
        settings: solver, steps, guidance, temperature, churn.
        on_state: see `unite_mm.sampling.solvers.integrate`.
        held: latents of registers that are not generated, in the space of the flow, on the network's device, of any
            length up to L.
        start: what to begin with instead of noise alone: latents of the priors' registers, as the decoder sees them.

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

    held = None if held is None else held.padded(used.shape[1])
    drift = Drift(NetworkDenoiser(network, modality, registers, condition, settings), settings, held)
    noise, time = fresh_noise() * settings.temperature, 0.0
    if start is not None:
        noise, time = start.noised(network, noise), min(start.time, network.end_time)
    solution = integrate(drift, noise, settings, fresh_noise, on_state, start=time, end=network.end_time)
    state = solution.state
    # A flow that ends before t = 1 ends at the noised latents that the decoder knows, and the held ones with it.
    if held is not None and settings.hold_until == 1 and network.end_time == 1:
        state = held.put_into(state)
    values = network.from_flow(modality, state * registers.mask[:, :, None], registers)
    return Latents(values, registers, modality, condition), solution.evaluations


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
    if value.shape not in (spec.shape, (count, *spec.shape)):
        what = "use an integer" if spec.kind == "classes" else f"give {spec.parts} numbers {spec.part_names}"
        raise UsageError(f"condition {condition!r} does not fit", f"{what}, or {count} of them")
    if spec.kind == "classes":
        _check_classes(spec, value, condition)
        return list(value.long().expand(count))
    value = value.float()
    if bool(value.isinf().any()) or (spec.left_open == "refused" and bool(value.isnan().any())):
        raise UsageError(f"condition {condition!r} does not fit", "give finite numbers")
    if spec.kind == "mixed":
        known = value[..., 0][~value[..., 0].isnan()]
        if not bool((known == known.round()).all()):
            raise UsageError(f"condition {condition!r} is no class", "use an integer or a name")
        _check_classes(spec, known.long(), condition)
    return list(value.expand(count, spec.parts))


def warn_beyond(spec: ConditionSpec, given: Sequence[Tensor | None]) -> None:
    """Warn, once for all samples, of numbers that the training data do not support: in another unit, perhaps."""
    asked = [one for one in given if one is not None]
    if not asked or not spec.ranges:
        return
    numbers, units = torch.stack(asked)[:, -spec.size :].double(), spec.units or ("",) * spec.size
    for name, unit, (low, high), column in zip(spec.names, units, spec.ranges, numbers.T, strict=True):
        slack = 1e-6 * max(abs(low), abs(high))  # of numbers in single precision
        beyond = column[(column < low - slack) | (column > high + slack)]
        if len(beyond):
            of = "" if len(beyond) == len(numbers) else f" ({len(beyond)} of {len(numbers)} samples)"
            text = f"condition {name}={beyond[0]:.4g}{of} lies outside what the training data support"
            known = f"{low:.4g} to {high:.4g} {unit}".rstrip()
            hint = f"; is it in {unit}?" if unit else ""
            warnings.warn(f"{text}, {known}{hint}", UniteWarning, stacklevel=5)


def _check_classes(spec: ConditionSpec, value: Tensor, condition: Any) -> None:
    if value.is_floating_point() or not bool(((value >= 0) & (value < spec.class_count)).all()):
        raise UsageError(f"condition {condition!r} is no class", f"use an integer from 0 to {spec.class_count - 1}")


def check_sizes(sizes: tuple[int, int] | None, size: int | Sequence[int] | None, count: int) -> list[int | None]:
    """The number of registers asked for of each of `count` samples.

    Args:
        sizes: what may be asked for, see `ModalityModules`.
        size: of all samples, or one for each; None: as the prior draws it.
        count: how many samples.

    Raises:
        UsageError: it cannot be asked for.
    """
    if size is None:
        return [None] * count
    if sizes is None:
        raise UsageError(f"size {size}: this modality takes no size", "leave it out")
    least, most = sizes
    given = [size] * count if isinstance(size, int) else list(size)
    if len(given) != count:
        raise UsageError(f"{len(given)} sizes for {count} samples", "give one for all, or one for each")
    for one in given:
        if not isinstance(one, int) or not least <= one <= most:
            what = f"all samples of this modality have {most} registers" if least == most else f"not {least} to {most}"
            hint = "leave it out" if least == most else "ask for a size that the model knows"
            raise UsageError(f"size {one}: {what}", hint)
    return list(given)


def largest_batch(settings: SamplingConfig, count: int, threads: int) -> int:
    """Samples generated at once; 1 for dopri5, whose steps follow the error of a whole batch, unless that is wanted.

    Where threads have batches of their own, these are small enough that all threads end at about the same time.

    Args:
        settings: of sampling.
        count: how many samples there are.
        threads: that work side by side.
    """
    if settings.solver == "dopri5":
        return settings.batch_size if settings.joint_steps else 1
    even = math.ceil(count / (threads * BATCHES_OF_A_THREAD))
    return settings.batch_size if threads == 1 else min(settings.batch_size, max(even, SMALLEST_BATCH))


def batches_of_equal_length(priors: Sequence[PriorSample], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of one register count each, which need no mask; small leftovers are joined and padded.

    Samples with and without a condition never share a batch.
    """
    for conditioned in (True, False):
        indices = [index for index, prior in enumerate(priors) if (prior.condition is not None) is conditioned]
        counts = {index: int(priors[index].mask.sum()) for index in indices}
        leftover: list[int] = []
        for count in sorted(set(counts.values())):
            group = [index for index in indices if counts[index] == count]
            for start in range(0, len(group), batch_size):
                part = group[start : start + batch_size]
                if len(part) >= batch_size // 8:
                    yield part
                else:
                    leftover += part
        for start in range(0, len(leftover), batch_size):
            yield leftover[start : start + batch_size]


def stacked_conditions(priors: Sequence[PriorSample]) -> Tensor | None:
    """Conditions of the samples, as in a batch; None unless all have one."""
    conditions = [prior.condition for prior in priors if prior.condition is not None]
    return torch.stack(conditions) if conditions and len(conditions) == len(priors) else None
