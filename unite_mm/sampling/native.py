"""Native samples of latents."""

from typing import Any

from unite_mm.model.network import Network
from unite_mm.sampling.latents import Latents


def native_samples(network: Network, latents: Latents, options: Any = None) -> list[Any]:
    """Decode latents to native samples that know their condition.

    Args:
        network: decodes.
        latents: of B samples.
        options: of the plugin's own, complete, for latents that were generated; None: for latents of inputs.
    """
    output = network.decode(latents.modality, latents.values, latents.registers)
    modules, registers = network.modules_of(latents.modality), latents.registers
    samples: list[Any] = (
        modules.samples(output, registers) if options is None else modules.samples_for(output, registers, options)
    )
    return samples if latents.condition is None else modules.conditioned(samples, latents.condition)
