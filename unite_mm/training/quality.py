"""The quality of samples while a run trains: a few are generated with the averaged weights and scored."""

from collections.abc import Mapping

import torch

from unite_mm.errors import UniteError
from unite_mm.model.network import Network
from unite_mm.progress import Progress, Silent
from unite_mm.registry.build import OpenModality
from unite_mm.sampling.batches import Batches
from unite_mm.sampling.generate import draw_prior
from unite_mm.sampling.native import native_samples
from unite_mm_schemas.config import RunConfig, SamplingConfig

EVALUATIONS = {"euler": 1, "midpoint": 2, "heun2": 2, "rk4": 4}
"""Evaluations of the network in a step of each fixed-step solver."""

ADAPTIVE_EVALUATIONS = 100
"""About as many as dopri5 takes."""


def score_samples(
    network: Network, opened: Mapping[str, OpenModality], config: RunConfig, progress: Progress
) -> dict[str, float]:
    """`score_modality` of every modality, its name before those of the metrics where there are several."""
    found: dict[str, float] = {}
    for name, entry in opened.items():
        prefix = f"{name}/" if len(opened) > 1 else ""
        scores = score_modality(network, name, entry, config, progress)
        found |= {prefix + metric: value for metric, value in scores.items()}
    return found


@torch.no_grad()
def score_modality(
    network: Network, modality: str, entry: OpenModality, config: RunConfig, progress: Progress
) -> dict[str, float]:
    """Metrics of the first samples of the run's seed, by name; those that could not be measured are left out.

    All randomness is that of sampling, so the run trains as it would without.

    Args:
        network: in evaluation mode, with the weights that are judged.
        modality: whose samples.
        entry: the modality with its data.
        config: how many, how they are sampled, and whether they are compared with the data.
        progress: where to say what could not be scored.
    """
    settings = config.train
    options = entry.modality.sampling_options()
    priors = draw_prior(
        network.modules_of(modality), settings.generate_samples, None, options=options, seed=settings.seed
    )
    numbers = range(settings.generate_samples)
    batches = Batches(
        network, modality, priors, numbers, settings.seed, config.sampling, config.latent.tokenize_time_max
    )
    samples, _ = batches.sample(lambda latents: native_samples(network, latents, options), Silent())
    reference = entry.data if settings.generate_reference else None
    try:
        score = entry.modality.score_generation(samples, reference, Silent(), workers=1)
    except UniteError as error:
        progress.say(f"samples were not scored: {error.message}")
        return {}
    return {metric.name: metric.value for metric in score.metrics if metric.value is not None}


def evaluations_of(settings: SamplingConfig) -> int:
    """Passes through the trunk that one sample takes; about, for dopri5."""
    by_step = EVALUATIONS.get(settings.solver)
    passes = ADAPTIVE_EVALUATIONS if by_step is None else by_step * settings.steps
    return passes * (1 if settings.guidance == 1 else 2)


def cost_of_scoring(config: RunConfig) -> str | None:
    """What scoring samples on the way adds, against the passes of training; None where nothing is scored."""
    settings = config.train
    if settings.generate_every is None:
        return None
    passes = settings.generate_samples * evaluations_of(config.sampling)
    # Of a training sample: tokenized and denoised once for each draw, forward and backward.
    trained = 3 * settings.batch_size * (1 + config.flow.draws) * settings.generate_every
    return (
        f"{settings.generate_samples:,} every {settings.generate_every:,} steps: {100 * passes / trained:.2g} % more "
        "passes through the trunk, and scoring"
    )
