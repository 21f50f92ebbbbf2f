"""Random generators named by numbers: the same names give the same stream, on any machine and in any order."""

import numpy as np
import torch


def seeded_generator(*names: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` for the stream called `names`, such as (seed, step) or (seed, sample)."""
    state = np.random.SeedSequence(names).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
