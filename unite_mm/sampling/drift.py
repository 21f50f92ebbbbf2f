"""The drift of sampling: the velocity of the flow under classifier-free guidance, as an object that solvers call.

Dimensions: B batch, L registers of the batch, C latent channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from unite_mm.contract import Registers
from unite_mm.flow.path import velocity
from unite_mm.model.network import Network
from unite_mm_schemas.config import SamplingConfig

Denoiser = Callable[[Tensor, float, bool], Tensor]
"""(state (B, L, C), timestep, conditional?) -> clean latents (B, L, C)."""


def guide(denoiser: Denoiser, state: Tensor, time: float, config: SamplingConfig) -> Tensor:
    """Clean latents under guidance: u + w (c - u) for t strictly inside the interval, c outside.

    A lower end of 0 includes t = 0. Both c and u come layer-normalised from the denoiser. (B, L, C) -> (B, L, C).
    """
    conditional = denoiser(state, time, True)
    # Solvers count in float32: a time of 0.1 there is not above the 0.1 of a configuration.
    low, high, now = torch.tensor((*config.guidance_interval, time), dtype=torch.float32).tolist()
    if config.guidance == 1.0 or not (low == 0 or low < now) or not now < high:
        return conditional
    unconditional = denoiser(state, time, False)
    return unconditional + config.guidance * (conditional - unconditional)


@dataclass(frozen=True)
class HeldLatents:
    """Clean latents that are known beforehand at some registers.

    Attributes:
        values: (B, L, C).
        mask: (B, L) bool, where they are known.
    """

    values: Tensor
    mask: Tensor

    def padded(self, length: int) -> "HeldLatents":
        """The same with `length` registers, of which the further ones are not held."""
        more = length - self.mask.shape[1]
        return HeldLatents(pad(self.values, (0, 0, 0, more)), pad(self.mask, (0, more)))

    def put_into(self, latents: Tensor) -> Tensor:
        """Latents (B, L, C) with the known ones in their places."""
        return torch.where(self.mask[:, :, None], self.values, latents)


class Drift:
    """dx/dt = (z0_hat - x) / max(1 - t, m), with z0_hat guided as the configuration says (arXiv 2603.22283, 3.3).

    Args:
        denoiser: predicts clean latents.
        config: guidance, the floor m, and until when registers are held.
        held: clean latents that take the place of the prediction. A velocity towards them keeps a state on the straight
            path between its own noise and them, also after churn: at every timestep it is their noised value.

    Attributes:
        evaluations: velocities evaluated so far (NFE); guidance counts as one evaluation of twice the cost.
    """

    def __init__(self, denoiser: Denoiser, config: SamplingConfig, held: HeldLatents | None = None) -> None:
        self.denoiser = denoiser
        self.config = config
        self.held = held
        self.evaluations = 0

    def __call__(self, time: Tensor, state: Tensor) -> Tensor:
        """The velocity at a timestep () and a state (B, L, C): (B, L, C)."""
        self.evaluations += 1
        predicted = guide(self.denoiser, state, float(time), self.config)
        until = self.config.hold_until
        if self.held is not None and (float(time) < until or until == 1.0):
            predicted = self.held.put_into(predicted)
        return velocity(predicted, state, time.expand(len(state)), self.config.min_remaining)


class NetworkDenoiser:
    """A network's prediction for one batch, as `Drift` calls it.

    Args:
        network: what denoises.
        modality: whose latents they are.
        registers: used by the samples of the batch.
        condition: classes (B,), numbers (B, M) or None.
        config: arithmetic, and where the latent norm is applied.
    """

    def __init__(
        self, network: Network, modality: str, registers: Registers, condition: Tensor | None, config: SamplingConfig
    ) -> None:
        self.network, self.modality = network, modality
        self.registers, self.condition = registers, condition
        self.bfloat16 = config.precision == "bf16-mixed"
        self.normalise = config.latent_norm != ("unguided" if config.guidance > 1 else "guided")

    def __call__(self, state: Tensor, time: float, conditional: bool) -> Tensor:
        """Clean latents (B, L, C), float32."""
        times = torch.full((len(state),), time, device=state.device)
        condition = self.condition if conditional else None
        with torch.autocast(state.device.type, torch.bfloat16, enabled=self.bfloat16):
            values = self.network.denoise(
                self.modality, state, times, self.registers, condition=condition, normalise=self.normalise
            )
        return values.float()
