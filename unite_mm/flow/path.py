"""The linear path between noise (t = 0) and data (t = 1), and its velocity (arXiv 2603.22283, section 3.2)."""

from torch import Tensor


def expand_time(time: Tensor, like: Tensor) -> Tensor:
    """Timesteps (B,) shaped to broadcast over `like` (B, ...)."""
    return time.view(-1, *([1] * (like.dim() - 1)))


def interpolate(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t = t data + (1 - t) noise; data and noise (B, ...), time (B,)."""
    t = expand_time(time, data)
    return t * data + (1 - t) * noise


def velocity(predicted: Tensor, state: Tensor, time: Tensor, min_remaining: float) -> Tensor:
    """dx/dt = (z0_hat - x) / max(1 - t, min_remaining); tensors (B, ...), time (B,)."""
    remaining = (1 - expand_time(time, state)).clamp_min(min_remaining)
    return (predicted - state) / remaining
