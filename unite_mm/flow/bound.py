"""How many nats latents of a fixed noise carry: the bound of a denoiser (Heek et al., arXiv 2602.17270).

The decoder sees z* = t* z + (1 - t*) eps. What z* says of z is at most half the integral of d SNR / dt times the
squared error of a denoiser from t = 0, where the path is pure noise, to t*. With SNR = t^2 / (1 - t)^2 half of
d SNR / dt is t / (1 - t)^3. The bound is tight where the denoiser is the posterior mean.
"""

import torch
from torch import Tensor

from unite_mm.contract import Registers

SMALLEST_TIME = 1e-6


def log_snr(time: Tensor) -> Tensor:
    """lambda = 2 log(t / (1 - t)) of timesteps in (0, 1)."""
    return 2 * torch.logit(time)


def squared_error(predicted: Tensor, clean: Tensor, registers: Registers) -> Tensor:
    """Squared error (B,) of latents (B, L, C), summed over used registers and channels."""
    return ((predicted - clean).square().sum(-1) * registers.mask).sum(1)


def bound_nats(error: Tensor, time: Tensor, end: float) -> Tensor:
    """Nats (B,) whose mean over uniform timesteps bounds what the latents carry.

    Args:
        error: `squared_error` (B,) of predictions at `time`.
        time: (B,) uniform in [0, end].
        end: t*.
    """
    return end * time / (1 - time) ** 3 * error


def weighted_nats(error: Tensor, time: Tensor, end: float, bias: float) -> Tensor:
    """The same under the weight sigmoid(lambda - bias), relative to an even weight of the noise's error: (B,).

    Half the integral over lambda of sigmoid(lambda - bias) times the squared error, as an integral over uniform
    timesteps. With sigmoid(bias - lambda) in front of the squared error of the predicted noise it would be the same up
    to a factor: a sigmoid weight of the bound, as in arXiv 2410.19324.
    """
    time = time.clamp_min(SMALLEST_TIME)
    return end / (time * (1 - time)) * torch.sigmoid(log_snr(time) - bias) * error
