"""The flow-matching loss on clean latents (arXiv 2603.22283, eq. of section 3.2)."""

from torch import Tensor

from unite_mm.contract import Registers


def flow_loss(predicted: Tensor, clean: Tensor, time: Tensor, registers: Registers, min_remaining: float) -> Tensor:
    """Velocity error of each sample: mean over its used registers and channels of ((z0 - z0_hat) / max(1 - t, m))^2.

    Args:
        predicted: z0_hat (B, L, C).
        clean: z0 (B, L, C).
        time: (B,).
        registers: used registers (B, L).
        min_remaining: m, the floor of 1 - t.

    Returns:
        (B,).
    """
    error = (predicted - clean).square().mean(-1)  # (B, L)
    used = registers.mask.sum(1).clamp_min(1)
    error = (error * registers.mask).sum(1) / used
    return error / (1 - time).clamp_min(min_remaining).square()
