"""Latents of a batch of samples, each with register noise of its own.

Dimensions: B batch, L registers of the batch, C latent channels, W width.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from unite_mm.contract import Batch, Registers
from unite_mm.flow.path import interpolate
from unite_mm.model.network import Network
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.generate import normal_noise


def tokenize(
    network: Network,
    modality: str,
    batch: Batch,
    generators: Sequence[torch.Generator],
    time_max: float,
    states: list[Tensor] | None = None,
) -> Tensor:
    """Clean latents (B, L, C) of a batch on the network's device.

    Args:
        network: encodes.
        modality: whose samples.
        batch: B of them.
        generators: CPU generators of each sample's register noise and timestep (B).
        time_max: timesteps are uniform up to it.
        states: gets the registers (B, L, W) after every block of the trunk; nothing where a teacher tokenizes.
    """
    length = batch.registers.mask.shape[1]
    noise = normal_noise(network.modules_of(modality), generators, length).to(network.device)
    time = torch.stack([torch.rand((), generator=g) for g in generators]) * time_max
    return network.tokenize(modality, batch, noise, time.to(network.device), states)


def register_generators(seed: int, samples: Iterable[int]) -> list[torch.Generator]:
    """CPU generators of the register noise and the timestep of numbered samples."""
    return [stream_generator(Stream.TOKENIZATION_NOISE, seed, sample) for sample in samples]


def seen_by_decoder(
    network: Network, modality: str, clean: Tensor, registers: Registers, generators: Sequence[torch.Generator]
) -> Tensor:
    """Clean latents (B, L, C) as the decoder sees them: with the noise that is left where the flow ends, if any is.

    Args:
        network: knows where its flow ends.
        modality: whose latents.
        clean: as `tokenize` gives them.
        registers: used by the samples.
        generators: CPU generators of each sample's noise (B).
    """
    if network.end_time == 1:
        return clean
    noise = normal_noise(network.modules_of(modality), generators, clean.shape[1]).to(clean)
    seen = interpolate(clean, noise, torch.full((len(clean),), network.end_time, device=clean.device))
    return seen * registers.mask[:, :, None]
