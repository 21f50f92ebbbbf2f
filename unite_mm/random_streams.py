"""Every random stream of the core, by name: the same names give the same numbers, on any machine and in any order.

A stream is a member of `Stream` and some integers, such as (seed, step, modality) or (seed, sample). Every use has a
member of its own, so that no two uses can share numbers however the integers fall: with the common default seed 0, step
3 of training and sample 3 of generation would otherwise be the same stream.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, unique

import numpy as np
import torch


@unique
class Stream(IntEnum):
    """The uses of random numbers. Values are part of what a seed means: never change or reuse one.

    None is 0, for NumPy's `SeedSequence` ignores zeros at its end.
    """

    START_WEIGHTS = 1
    """(seed): the weights of a new network."""
    DATA_ORDER = 2
    """(seed, epoch): the order of the training samples."""
    AUGMENTATION = 3
    """(seed, step, modality, rank): random augmentation of training samples."""
    TRAINING_NOISE = 4
    """(seed, step, modality): register noise, timesteps and flow noise of a training step."""
    VALIDATION_NOISE = 5
    """(seed, batch): the same of validation."""
    TOKENIZATION_NOISE = 6
    """(seed, sample): register noise and timestep when a sample is tokenized for use."""
    PRIOR = 7
    """(seed, sample): registers and condition of a sample to generate."""
    SAMPLING_NOISE = 8
    """(seed, sample): start noise, and fresh noise of churn."""
    CLASS_LABELS = 9
    """(seed, sample): random classes of a generated set."""
    EVALUATION_SUBSET = 10
    """(seed): which samples of a split are evaluated."""
    PLUGIN_CHECKS = 11
    """(number): what the checks of a plugin draw."""
    FRAGMENT = 12
    """(seed, sample): how a fragment stands in a sample to generate."""
    FRAGMENT_NOISE = 13
    """(seed, sample): register noise and timestep when a fragment is tokenized."""
    STAGE_PASS = 14
    """(seed, modality, batch): register noise and timesteps of the pass over the data between two stages."""
    STAGE_WEIGHTS = 15
    """(seed, stage): weights that are made anew when a stage begins."""
    DISCRIMINATOR = 18
    """(seed): weights of a discriminator that no trained model gives it."""
    FEATURE_PROJECTION = 17
    """(features, channels): the fixed projection of a teacher's features."""
    TRAINING_PARTS = 16
    """(seed): weights of what is trained beside a network and is no part of the model."""
    ANALYSIS_NOISE = 20
    """(seed, sample): noise of latents whose denoising is analysed."""
    ANALYSIS_ROWS = 21
    """(seed): registers whose features are compared."""
    PROBE_SHUFFLE = 22
    """(seed, number): orders of the targets in the control of a linear probe."""
    ANALYSIS_STEP = 23
    """(seed, batch): noise of the losses whose gradients are compared."""
    TRAJECTORY_NOISE = 24
    """(seed, sample): noise of samples that are followed on their way."""


def seed_sequence(stream: Stream, *names: int) -> np.random.SeedSequence:
    """The entropy of a stream; the names must not be negative."""
    return np.random.SeedSequence((*names, int(stream)))


def stream_seed(stream: Stream, *names: int) -> int:
    """A seed in [0, 2^63) for generators that take a number."""
    state = seed_sequence(stream, *names).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def stream_generator(stream: Stream, *names: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` at the beginning of a stream."""
    return to_stream(torch.Generator(device), stream, *names)


def to_stream(generator: torch.Generator, stream: Stream, *names: int) -> torch.Generator:
    """Put a generator that is used again and again at the beginning of a stream; returns it."""
    return generator.manual_seed(stream_seed(stream, *names))


@contextmanager
def global_stream(stream: Stream, *names: int) -> Iterator[None]:
    """torch's global CPU generator at the beginning of a stream, for modules that draw their start weights from it.

    Afterwards it is where it was before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(stream, *names))
        yield
