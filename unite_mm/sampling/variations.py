"""Variations of given samples: their latents noised up to a timestep, and denoised from there.

Dimensions: N given samples, n variations of each, K registers of the layout, L registers, M numbers of a condition.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from unite_mm.contract import ConditionSpec, ModalityModules, PriorSample
from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm.sampling.batches import Batches
from unite_mm.sampling.coding import Coder
from unite_mm.sampling.generate import Samples, Start, check_conditions, stacked_conditions, warn_beyond
from unite_mm.sampling.latents import Latents
from unite_mm.sampling.names import form
from unite_mm.utils.validation import not_negative
from unite_mm_schemas.config import SamplingConfig


@dataclass(frozen=True)
class Variations:
    """What is asked for.

    Attributes:
        samples: N native ones.
        time: timestep up to which their latents are noised.
        each: n, variations of each.
        seed: of register noise, and of the noise.
        condition: of all samples, or one for each of the N; None: what is known of each.
    """

    samples: Sequence[Any]
    time: float
    each: int
    seed: int
    condition: Any = None

    def made(self, coder: Coder, settings: SamplingConfig, options: Any, progress: Progress) -> Samples:
        """The N n variations, those of a sample side by side.

        Args:
            coder: of their modality.
            settings: of sampling.
            options: of the plugin's own, complete.
            progress: where to show it.

        Raises:
            UsageError: a sample does not fit the model, or the condition or the timestep does not.
        """
        not_negative(seed=self.seed, n=self.each)
        time = check_time(self.time)
        given = coder.encode(self.samples, seed=self.seed, progress=progress)
        conditions = [one for one in conditions_of(coder, given, self.condition) for _ in range(self.each)]
        latents = repeated(given, self.each)
        network, name, count = coder.network, coder.modality.name, len(latents)
        start = Start(latents, time)
        priors = priors_of(network.modules_of(name), latents, conditions)
        batches = Batches(network, name, priors, range(count), self.seed, settings, coder.time_max, start=start)
        found, evaluations = batches.sample(lambda part: coder.decode(part, options), progress)
        return Samples(found, evaluations, stacked_conditions(priors))


def check_time(time: float) -> float:
    """A timestep from 0 (noise) to 1 (the sample itself).

    Raises:
        UsageError: it is none.
    """
    if not (isinstance(time, int | float) and math.isfinite(time) and 0 <= time <= 1):
        raise UsageError(f"time={time!r}: no timestep from 0 to 1", "0 is noise, 1 the given sample itself")
    return float(time)


def repeated(latents: Latents, times: int) -> Latents:
    """Every latent `times` times, those of one sample side by side."""
    return latents.of([index for index in range(len(latents)) for _ in range(times)])


def priors_of(modules: ModalityModules, latents: Latents, conditions: Sequence[Tensor | None]) -> list[PriorSample]:
    """The registers of latents, with the conditions to denoise them under."""
    masks = pad(latents.registers.mask.cpu(), (0, modules.layout.registers - latents.registers.mask.shape[1]))
    return [PriorSample(mask, condition) for mask, condition in zip(masks, conditions, strict=True)]


def conditions_of(coder: Coder, latents: Latents, condition: Any) -> list[Tensor | None]:
    """Conditions to denoise the latents of given samples under; None is the null condition.

    Args:
        coder: of their modality.
        latents: N of given samples.
        condition: of the caller, as for `UNITE.generate`; None: what is known of each sample, which is nothing where
            the model cannot do without what is not known of it.

    Raises:
        UsageError: the condition does not fit the modality, or there is none and the model was always told one.
    """
    spec = coder.network.modules_of(latents.modality).condition
    if condition is not None:
        given = check_conditions(spec, condition, len(latents))
        warn_beyond(spec, given)
        return given
    known = known_conditions(spec, latents)
    if (which := next((index for index, one in enumerate(known) if one is None), None)) is not None:
        need_none(coder, spec, f"sample {which + 1}: its condition is not known")
    return known


def need_none(coder: Coder, spec: ConditionSpec, why: str) -> None:
    """Check that the model can do without a condition.

    Raises:
        UsageError: it was always trained under one.
    """
    if spec.kind != "none" and not coder.unconditional:
        raise UsageError(f"{why}, and the model was trained under one always", f"give a condition: {form(spec)}")


def known_conditions(spec: ConditionSpec, latents: Latents) -> list[Tensor | None]:
    """The condition of each sample; None where it is not known, or less of it than the model can do with."""
    if latents.known is None or spec.kind == "none":
        return [None] * len(latents)
    if spec.kind == "classes":
        return [one if int(one) >= 0 else None for one in latents.known]
    missing = latents.known.isnan()
    lacking = missing.all(1) if spec.left_open == "dropped" else missing.any(1)
    return [None if lacks else one for one, lacks in zip(latents.known, lacking.tolist(), strict=True)]
