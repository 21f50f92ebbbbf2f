"""Paths between two samples: on a sphere of latents, or on one of the noises that the flow maps to them.

Dimensions: n samples of a path, L registers, C latent channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from unite_mm.contract import Registers
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.progress import Progress
from unite_mm.sampling.coding import Coder
from unite_mm.sampling.drift import Drift, NetworkDenoiser
from unite_mm.sampling.generate import Samples, check_conditions, largest_batch, warn_beyond
from unite_mm.sampling.latents import Latents
from unite_mm.sampling.solvers import Solution, integrate, integrate_back
from unite_mm.sampling.variations import known_conditions, need_none
from unite_mm_schemas.config import SamplingConfig

PathKind = Literal["latent", "flow"]
"""`latent`: great circles between the latents; `flow`: between the noises that the flow, backwards, makes of them."""

PATHS: tuple[str, ...] = get_args(PathKind)

SMALLEST_SINE = 1e-4
"""Below it two vectors point the same or opposite ways, and a straight line takes the place of the circle."""


@dataclass(frozen=True)
class Interpolation:
    """What is asked for: a path between two samples.

    Attributes:
        first: native sample.
        second: native sample, of the same registers.
        count: n, with both ends.
        path: between which of their latents.
        seed: of register noise.
        condition: of one sample as for `UNITE.generate`, for the flow; None: what is known of both, where it is equal.
    """

    first: Any
    second: Any
    count: int
    path: str
    seed: int
    condition: Any = None

    def made(self, coder: Coder, settings: SamplingConfig, options: Any, progress: Progress) -> Samples:
        """The n samples of the path; the first and the last are the reconstructions of the given ones.

        Args:
            coder: of their modality.
            settings: of sampling; the flow has no churn here.
            options: of the plugin's own, complete.
            progress: where to show it.

        Raises:
            UsageError: the samples do not fit the model or each other, or an argument is refused.
        """
        if not isinstance(self.count, int) or self.count < 2:
            raise UsageError(f"n={self.count!r}: a path has at least its two ends", "ask for 2 or more")
        if self.path not in PATHS:
            raise UsageError(f"path={self.path!r} is unknown", f"choose one of: {', '.join(PATHS)}")
        ends = coder.encode([self.first, self.second], seed=self.seed, progress=progress)
        check_ends(ends)
        condition = shared_condition(coder, ends, self.condition) if self.path == "flow" else None
        weights = torch.linspace(0, 1, self.count)
        route = Route(coder.network, ends, condition, settings)
        latents, evaluations = route.along(weights, progress) if self.path == "flow" else (route.across(weights), 0)
        samples = [one for part in coder.decoded(latents, options=options) for one in part]
        return Samples(samples, evaluations, latents.condition)


@dataclass(frozen=True)
class Route:
    """From one sample to another.

    Attributes:
        network: what denoises.
        ends: latents of both.
        condition: under which the flow is followed, as of one sample; None: the null condition.
        settings: of sampling.
    """

    network: Network
    ends: Latents
    condition: Tensor | None
    settings: SamplingConfig

    def across(self, weights: Tensor) -> Latents:
        """Latents (n) on great circles; weights (n,) from 0 to 1."""
        first, second = self.ends.values
        return self._of(spherical(first, second, weights))

    def along(self, weights: Tensor, progress: Progress) -> tuple[Latents, int]:
        """Latents (n) that the flow makes of noises on great circles, and the function evaluations each took.

        The noises at both ends are those that the flow, backwards, makes of the given latents. At the ends stand these
        latents themselves, to which the way there and back returns but for the error of the solver.
        """
        device = self.network.device
        ends, modality = self.ends.to(device), self.ends.modality
        known = self.network.to_flow(modality, ends.values, self._registers(2).to(device))
        # As in generation: with dopri5 a sample must not depend on its batch mates.
        size = largest_batch(self.settings, len(weights), 1)
        back = [self._back(part) for part in known.split(size)]
        first, second = torch.cat([one.state for one in back])
        noise = spherical(first, second, weights.to(device))
        there = []
        with progress.task("Generating", len(weights)) as advance:
            for part in noise.split(size):
                there.append(self._forward(part))
                advance(len(part))
        found = torch.cat([one.state for one in there])
        values = self.network.from_flow(modality, found, self._registers(len(found)).to(device)).cpu()
        values[0], values[-1] = self.ends.values
        return self._of(values), sum(max(one.evaluations for one in way) for way in (back, there))

    def _back(self, latents: Tensor) -> Solution:
        return integrate_back(self._drift(len(latents)), latents, self.settings, self.network.end_time)

    def _forward(self, noise: Tensor) -> Solution:
        settings = self.settings.model_copy(update={"churn": 0.0})
        return integrate(self._drift(len(noise)), noise, settings, end=self.network.end_time)

    def _registers(self, count: int) -> Registers:
        one = self.ends.registers
        return Registers(one.mask[:1].expand(count, -1), one.padded)

    def _condition(self, count: int) -> Tensor | None:
        return None if self.condition is None else torch.stack([self.condition] * count)

    def _of(self, values: Tensor) -> Latents:
        registers, condition = self._registers(len(values)), self._condition(len(values))
        masked = values * registers.mask[:, :, None]
        return replace(self.ends, values=masked, registers=registers, condition=condition, known=None)

    def _drift(self, count: int) -> Drift:
        device, condition = self.network.device, self._condition(count)
        registers = self._registers(count).to(device)
        condition = None if condition is None else condition.to(device)
        denoiser = NetworkDenoiser(self.network, self.ends.modality, registers, condition, self.settings)
        return Drift(denoiser, self.settings)


def spherical(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Great circles between two sets of vectors, each register's on its own.

    Layer-normalised latents all have the same length, which every point of the circle keeps. The ends are `first` and
    `second` exactly.

    Args:
        first: (L, C).
        second: (L, C).
        weights: (n,) from 0 at `first` to 1 at `second`.

    Returns:
        (n, L, C).
    """
    lengths = first.norm(dim=-1) * second.norm(dim=-1)  # (L,)
    cosine = (first * second).sum(-1) / lengths.clamp_min(torch.finfo(first.dtype).tiny)
    angle = cosine.clamp(-1, 1).arccos()
    weight, sine = weights[:, None], angle.sin()  # (n, 1), (L,)
    curved = sine > SMALLEST_SINE
    divisor = torch.where(curved, sine, torch.ones_like(sine))
    of_first = torch.where(curved, ((1 - weight) * angle).sin() / divisor, 1 - weight)  # (n, L)
    of_second = torch.where(curved, (weight * angle).sin() / divisor, weight)
    between = of_first[:, :, None] * first + of_second[:, :, None] * second
    weight = weight[:, :, None]
    return torch.where(weight == 0, first, torch.where(weight == 1, second, between))


def check_ends(ends: Latents) -> None:
    """Check that two samples use the same registers: nothing says what would stand for a register that one lacks.

    Raises:
        UsageError: they do not.
    """
    mask = ends.registers.mask
    if not torch.equal(mask[0], mask[1]):
        first, second = mask.sum(1).tolist()
        others = (
            f", which are others than the {second} of the second" if first == second else f" and the second {second}"
        )
        raise UsageError(
            f"registers are interpolated one by one, but the first sample uses {first}{others}",
            "choose two samples of the same size",
        )


def shared_condition(coder: Coder, ends: Latents, given: Any) -> Tensor | None:
    """The condition to follow the flow under between two samples; None is the null condition.

    Args:
        coder: of their modality.
        ends: latents of both.
        given: of the caller, for both; None: what is known of both, where it is equal.

    Raises:
        UsageError: the condition does not fit, or there is none and the model was always trained under one.
    """
    spec = coder.network.modules_of(ends.modality).condition
    if given is not None:
        checked = check_conditions(spec, given, 1)
        warn_beyond(spec, checked)
        return checked[0]
    shared = common(known_conditions(spec, ends))
    if shared is None:
        need_none(coder, spec, "both samples share no known condition")
    return shared


def common(conditions: Sequence[Tensor | None]) -> Tensor | None:
    """The condition that samples share; None where they differ, or there is none for one of them."""
    first = conditions[0]
    if first is None or any(
        one is None or not torch.equal(first.nan_to_num(-1), one.nan_to_num(-1)) for one in conditions
    ):
        return None
    return first
