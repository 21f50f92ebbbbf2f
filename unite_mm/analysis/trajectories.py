"""Trajectories: what the model takes a sample for on its way from noise to data, decoded at several timesteps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from unite_mm.analysis.figures import film_picture
from unite_mm.analysis.subject import Subject
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.drift import NetworkDenoiser, guide
from unite_mm.sampling.generate import draw_prior, sample_latents
from unite_mm.sampling.latents import Latents

FRAMES = 8
STRIPS = 4


@dataclass(frozen=True)
class Film:
    """Decoded predictions of clean latents along sampling.

    Attributes:
        times: of each frame; the last is where the flow ends, the sample itself.
        strips: for each sample its native objects, one for each time.
    """

    times: tuple[float, ...]
    strips: tuple[tuple[Any, ...], ...]


@torch.no_grad()
def trajectories(subject: Subject, count: int = STRIPS, frames: int = FRAMES) -> Film:
    """Decode z0_hat at states of the sampler, from pure noise to the sample.

    Registers and conditions are those of samples 0 .. count - 1 of the seed, the noise is their own. dopri5 makes the
    same steps for all of them. Frames are spread evenly over time: each shows the last state up to its share of it, for
    churn goes back and forth.

    Args:
        subject: whose model.
        count: samples.
        frames: of each; fewer where the solver makes fewer steps.
    """
    model, name = subject.model, subject.modality
    settings = model.config.sampling
    modality, modules = model.modalities[name], model.modules_of(name)
    options = modality.sampling_options()
    priors = draw_prior(modules, count, None, options=options, seed=subject.seed)
    generators = [stream_generator(Stream.TRAJECTORY_NOISE, subject.seed, number) for number in range(count)]
    states: list[tuple[float, torch.Tensor]] = []
    found, _ = sample_latents(
        model.network, name, priors, generators, settings, lambda time, state: states.append((time, state.clone()))
    )
    wanted = [model.network.end_time * number / max(1, frames - 1) + 1e-6 for number in range(frames)]
    last = [max(place for place, (time, _) in enumerate(states) if time <= limit) for limit in wanted]
    places = sorted(set(last))
    denoiser = NetworkDenoiser(model.network, name, found.registers, found.condition, settings)
    columns, times = [], []
    for place in places:
        time, state = states[place]
        clean = state if place == len(states) - 1 else guide(denoiser, state, time, settings)
        clean = model.network.from_flow(name, clean * found.registers.mask[:, :, None], found.registers)
        columns.append(model.decode(Latents(clean, found.registers, name, found.condition), options=options))
        times.append(time)
    return Film(tuple(times), tuple(zip(*columns, strict=True)))


def save_film(subject: Subject, film: Film, path: Path) -> None:
    """Draw a film, a row for each sample, every frame by the plugin's own picture.

    Raises:
        UniteError: the plugin cannot draw, or the file cannot be written.
    """
    modality = subject.model.modalities[subject.modality]
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows: list[Sequence[Path]] = []
        for number, strip in enumerate(film.strips):
            pictures = [folder / f"{number}-{frame}.png" for frame in range(len(strip))]
            for sample, picture in zip(strip, pictures, strict=True):
                modality.save_picture([sample], picture)
            rows.append(pictures)
        film_picture(rows, film.times, path)
