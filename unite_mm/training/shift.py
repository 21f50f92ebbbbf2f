"""The shift of timesteps by the size of the latents, where a run leaves it open (RAE, arXiv 2510.11690)."""

import math

from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm_schemas.config import RunConfig

BASE = 4096
"""Numbers of the latents of an image for which no shift is needed, as in the paper."""


def with_shift(config: RunConfig, network: Network) -> RunConfig:
    """A configuration with nothing left open of its shifts: a = sqrt(4096 / (K C)), and sampling as training.

    Raises:
        UsageError: modalities whose latents differ in size leave it open.
    """
    flow, sampling = config.flow, config.sampling
    if flow.shift is None:
        layouts = [network.modules_of(name).layout for name in network.names]
        sizes = {layout.registers * layout.channels for layout in layouts}
        if len(sizes) > 1:
            raise UsageError("flow.shift=auto: the modalities have latents of several sizes", "give a number")
        flow = flow.model_copy(update={"shift": math.sqrt(BASE / sizes.pop())})
    if sampling.shift is None:
        sampling = sampling.model_copy(update={"shift": flow.shift})
    return config.model_copy(update={"flow": flow, "sampling": sampling})
