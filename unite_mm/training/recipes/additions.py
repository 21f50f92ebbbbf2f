"""What a step may add to the flow loss: the interface, and what decodes predictions; alignment is a file beside it.

Dimensions: B batch, L registers of the batch, C latent channels, W width; n draws of a chunk.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unite_mm.contract import Batch, Registers
from unite_mm.model.network import Network
from unite_mm.training.noise import StepNoise
from unite_mm_schemas.additions import DecodedLatentGradient


@dataclass(frozen=True)
class FlowPass:
    """What the denoiser makes of n draws for the same B samples, one draw after the other along the batch.

    Attributes:
        modality: whose samples they are.
        batch: the B samples.
        clean: z0 (n B, L, C) in the space of the flow.
        noise: (n B, L, C).
        time: (n B,).
        registers: (n B, L).
        condition: of n B samples, or None.
        dropped: (n B,) bool, or None.
        predicted: z0_hat (n B, L, C).
        states: registers (n B, L, W) after every block; empty where nobody asked for them.
    """

    modality: str
    batch: Batch
    clean: Tensor
    noise: Tensor
    time: Tensor
    registers: Registers
    condition: Tensor | None
    dropped: Tensor | None
    predicted: Tensor
    states: list[Tensor]


class Addition(nn.Module, ABC):
    """A further loss of every flow minibatch, averaged over its draws; what it trains of its own are its parameters.

    They are training state: in checkpoints, and in no exported model.

    Attributes:
        name: of its records.
        title: what a dry run calls it.
        weight: factor of the loss.
        reaches: whether its gradient reaches the latents through the noisy ones that the denoiser sees.
        wants_states: whether it reads what the blocks put out.
    """

    name: str
    title: str
    weight: float
    reaches: bool
    wants_states = False

    def prepare(self, network: Network, modality: str, batch: Batch) -> None:
        """Called once a batch, before its flow minibatches, outside autocast; here nothing."""
        del network, modality, batch

    def draw(self, noise: StepNoise) -> Tensor:
        """Random numbers of one draw, (B, ...); here none."""
        return torch.empty(noise.size // noise.shard.ranks, 0, device=noise.generator.device)

    @abstractmethod
    def values(self, network: Network, seen: FlowPass, drawn: Tensor) -> Tensor:
        """The loss (n B,) of a pass; `drawn` (n B, ...) joins what `draw` gave."""


class DecodedPredictions(Addition):
    """The reconstruction loss of what is denoised, at late timesteps (`latent_gradient.kind=decoded`).

    Zero for draws at earlier timesteps: their share does not depend on how a batch falls.
    """

    def __init__(self, config: DecodedLatentGradient) -> None:
        super().__init__()
        self.config = config
        self.name, self.weight, self.reaches = "decoded", config.weight, config.end_to_end
        self.title = f"reconstruction of decoded predictions above t = {config.threshold:g}"

    def values(self, network: Network, seen: FlowPass, drawn: Tensor) -> Tensor:
        del drawn
        modules, registers = network.modules_of(seen.modality), seen.batch.registers
        latents = network.from_flow(seen.modality, seen.predicted, seen.registers)
        if network.end_time < 1:  # what the decoder knows has noise left
            latents = network.end_time * latents + (1 - network.end_time) * seen.noise
            latents = latents * seen.registers.mask[:, :, None]
        losses = []
        with nullcontext() if self.config.decoder else untrained(modules.decoder.parameters()):
            for own in latents.split(len(registers.mask)):
                terms = modules.losses(network.decode(seen.modality, own, registers), seen.batch)
                losses.append(torch.stack([term.weight * term.values.float() for term in terms.values()]).sum(0))
        return torch.cat(losses) * (seen.time > self.config.threshold)


@contextmanager
def untrained(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Graphs that are made inside give these parameters no gradient."""
    held = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
