"""Latents of a batch of samples, each with register noise of its own.

Dimensions: B batch, L registers of the batch, C latent channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unite_mm.contract import Batch
from unite_mm.model.network import Network
from unite_mm.sampling.generate import normal_noise


def tokenize(
    network: Network, modality: str, batch: Batch, generators: Sequence[torch.Generator], time_max: float
) -> Tensor:
    """Latents (B, L, C) of a batch on the network's device.

    Args:
        network: encodes.
        modality: whose samples.
        batch: B of them.
        generators: CPU generators of each sample's register noise and timestep (B).
        time_max: timesteps are uniform up to it.
    """
    length = batch.registers.mask.shape[1]
    noise = normal_noise(network.modules_of(modality), generators, length).to(network.device)
    time = torch.stack([torch.rand((), generator=g) for g in generators]) * time_max
    return network.tokenize(modality, batch, noise, time.to(network.device))
