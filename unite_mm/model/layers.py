"""Building blocks of the Generative Encoder and of plugins' decoders.

Dimensions: B batch, N tokens, W width, H heads, D = W / H head dimension.
Source: arXiv 2603.22283, section 3; the operations follow the published image model.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HiddenLinear(nn.Linear):
    """A linear layer whose weight is a *hidden matrix*: Muon trains it, AdamW trains every other parameter.

    Declaring the group by the layer's type keeps the optimizer independent of parameter names.
    """


class HiddenEmbedding(nn.Embedding):
    """An embedding table that is a hidden matrix: Muon trains it, as in the published image model."""


HIDDEN_MATRICES = (HiddenLinear, HiddenEmbedding)
"""Modules whose `weight` Muon trains."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, computed in float32.

    Written out because the CPU kernel of `torch.nn.functional.rms_norm` is several times slower.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), same dtype."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight.to(x.dtype)


def rotary_table(positions: Tensor, head_width: int, base: float, highest: float = 1.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary embeddings: positions (N,) -> two tensors (N, D / 2), float32.

    Frequencies highest * base^(-2 i / D), as a quotient, which rounds as in the published image model. A position of 0
    is the identity.
    """
    index = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float()[:, None] * (highest / base ** (index / head_width))
    return angles.cos(), angles.sin()


def sincos_table(positions: Tensor, width: int, base: float = 10_000.0) -> Tensor:
    """Sines, then cosines of positions (N,) at the frequencies base^(-2 i / W) -> (N, W), float32."""
    index = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64)
    angles = positions.double()[:, None] * base ** (-index / width)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (i, i + D / 2) of x (B, H, N, D) by the angles of `rotary_table`."""
    cosine, sine = table
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Bidirectional attention; q, k, v (B, H, N, D), mask (B, N) bool (True: may be attended to) -> (B, H, N, D).

    A sample without any real token attends to nothing and yields finite values that no one reads.
    """
    bias = None if mask is None else torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -1e9)[:, None, None, :]
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # The fused CPU kernel is an order of magnitude slower than this on short bf16 sequences. The softmax sums in
        # float32 inside; a float32 copy of the scores would only cost memory traffic.
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        return scores.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class Attention(nn.Module):
    """Multi-head self-attention with optional QK-norm, rotary positions and pointer bias.

    Args:
        width: W.
        heads: H.
        qk_norm: RMS-normalise queries and keys over D, before the rotation.
        pointer_bias: start value of a learned constant on the faster half of the rotary pairs of q and k, falling to
            0.4 of it over the heads. After the rotation it favours equal positions: a ready-made pointer from a
            register to the token it stands for.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool = True, pointer_bias: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = HiddenLinear(width, 3 * width)
        self.out = HiddenLinear(width, width)
        head = width // heads
        self.q_norm = RMSNorm(head) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head) if qk_norm else nn.Identity()
        self.pointer: nn.Parameter | None = None
        if pointer_bias:
            bias = torch.zeros(heads, 1, head)
            faster = torch.arange(head) % (head // 2) < head // 4
            bias[:, :, faster] = torch.linspace(pointer_bias, 0.4 * pointer_bias, heads)[:, None, None]
            self.pointer = nn.Parameter(bias)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        """x (B, N, W), rotary table or None, mask (B, N) bool or None -> (B, N, W)."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, N, D)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.pointer is not None:
            q, k = q + self.pointer, k + self.pointer
        if table is not None:
            q, k = rotate(q, table), rotate(k, table)
        mixed = attend(q.to(v.dtype), k.to(v.dtype), v, mask)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class SwiGLU(nn.Module):
    """Gated MLP: SiLU(u) * w from one projection, hidden size 2/3 of 4 W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(2 / 3 * 4 * width)
        self.up = HiddenLinear(width, 2 * hidden)
        self.down = HiddenLinear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, W) -> (B, N, W)."""
        gate, value = self.up(x).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * value)
        return out


class EncoderBlock(nn.Module):
    """Transformer block modulated by timestep and condition (adaLN), with a norm on the residual stream at its end."""

    def __init__(self, width: int, heads: int, qk_norm: bool, pointer_bias: float) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width)
        self.attention = Attention(width, heads, qk_norm, pointer_bias)
        self.norm2 = RMSNorm(width)
        self.mlp = SwiGLU(width)
        self.norm3 = RMSNorm(width)
        self.modulation = HiddenLinear(width, 6 * width)

    def forward(self, x: Tensor, condition: Tensor, table: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """x (B, N, W), activated condition (B, W), rotary table, mask (B, N) or None -> (B, N, W)."""
        parts = self.modulation(condition)[:, None, :].chunk(6, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
        x = x + gate_a * self.attention(self.norm1(x) * (1 + scale_a) + shift_a, table, mask)
        x = x + gate_m * self.mlp(self.norm2(x) * (1 + scale_m) + shift_m)
        out: Tensor = self.norm3(x)
        return out


class DecoderBlock(nn.Module):
    """Plain pre-norm transformer block, for plugins' decoders.

    Args:
        width: W.
        heads: attention heads.
        qk_norm: RMS-normalise queries and keys.
        hidden: hidden width of the MLP; None: 4 W.
        eps: of the two LayerNorms.
    """

    def __init__(
        self, width: int, heads: int, qk_norm: bool = False, hidden: int | None = None, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads, qk_norm)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.up = HiddenLinear(width, hidden or 4 * width)
        self.down = HiddenLinear(hidden or 4 * width, width)

    def forward(self, x: Tensor, table: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        """x (B, N, W), rotary table or None, mask (B, N) bool or None -> (B, N, W)."""
        x = x + self.attention(self.norm1(x), table, mask)
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class TimeEmbedding(nn.Module):
    """Timestep (B,) -> (B, W) through random Fourier features and an MLP, in float32."""

    frequencies: Tensor

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(features))
        self.up = HiddenLinear(2 * features, width)
        self.down = HiddenLinear(width, width)

    def forward(self, time: Tensor) -> Tensor:
        """(B,) -> (B, W)."""
        angles = 2 * math.pi * time.float()[:, None] * self.frequencies
        with torch.autocast(time.device.type, enabled=False):
            hidden: Tensor = self.up(torch.cat((angles.sin(), angles.cos()), dim=-1))
            embedded: Tensor = self.down(F.silu(hidden))
        return embedded
