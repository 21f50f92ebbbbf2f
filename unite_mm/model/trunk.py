"""The Generative Encoder: one transformer that tokenizes inputs and denoises latents (arXiv 2603.22283, section 3.1).

Dimensions: B batch, L registers of the batch, T input tokens, N = L + T, W width, C latent channels, K registers of the
layout. Every modality has its own `Head` (projections of its latents, register positions, condition embedding); the
trunk is shared by all of them and never learns which one it serves.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unite_mm.contract import ConditionSpec, LatentLayout, ModalityModules, Registers, Tokens
from unite_mm.model.layers import (
    EncoderBlock,
    HiddenEmbedding,
    HiddenLinear,
    RMSNorm,
    TimeEmbedding,
    rotary_table,
    sincos_table,
)
from unite_mm_schemas.config import LatentConfig, TrunkConfig

NUMBER_FEATURES = 16
"""Random Fourier features of each number of a condition."""


class Trunk(nn.Module):
    """Transformer blocks over registers and optional input tokens, modulated by timestep and condition."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(config.width, config.time_features)
        self.blocks = nn.ModuleList(
            EncoderBlock(config.width, config.heads, config.qk_norm, config.pointer_bias) for _ in range(config.depth)
        )
        self.context = (
            nn.Parameter(torch.empty(config.in_context_tokens, config.width)) if config.in_context_tokens else None
        )
        self.final_norm = RMSNorm(config.width)
        self.final_modulation = nn.Linear(config.width, 2 * config.width)

    def forward(
        self, x: Tensor, registers: int, time: Tensor, condition: Tensor, positions: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Run the blocks and return the registers.

        Args:
            x: (B, N, W), registers first, then input tokens.
            registers: L.
            time: (B,) in [0, 1].
            condition: (B, W) embedding of the condition.
            positions: (N,) rotary positions.
            mask: (B, N) bool, True for real tokens; None when all are.

        Returns:
            (B, L, W), normalised and modulated, ready for a latent projection.
        """
        config = self.config
        modulation = F.silu(self.time(time) + condition)
        extra = 0
        table = rotary_table(positions, config.width // config.heads, config.rope_base, config.rope_highest)
        for index, block in enumerate(self.blocks):
            if self.context is not None and index == config.in_context_start:
                extra = config.in_context_tokens
                x = torch.cat((condition[:, None, :] + self.context, x), dim=1)
                positions = F.pad(positions, (extra, 0))  # position 0: the identity rotation
                table = rotary_table(positions, config.width // config.heads, config.rope_base, config.rope_highest)
                mask = None if mask is None else F.pad(mask, (extra, 0), value=True)
            x = block(x, modulation, table, mask)
        x = x[:, extra : extra + registers]
        shift, scale = self.final_modulation(modulation)[:, None, :].chunk(2, dim=-1)
        out: Tensor = self.final_norm(x) * (1 + scale) + shift
        return out


class ConditionEmbedding(nn.Module):
    """Condition -> (B, W); a learned null vector stands for no condition (classifier-free guidance).

    Classes share one table with the null vector, which is its last row. Numbers are standardised and embedded with
    random Fourier features, so that neighbouring counts stay apart.
    """

    mean: Tensor
    std: Tensor
    frequencies: Tensor

    def __init__(self, spec: ConditionSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        if spec.kind == "classes":
            self.table = HiddenEmbedding(spec.size + 1, width)
            return
        self.null = nn.Parameter(torch.empty(width))
        if spec.kind == "numbers":
            self.register_buffer("mean", torch.tensor(spec.mean or (0.0,) * spec.size))
            self.register_buffer("std", torch.tensor(spec.std or (1.0,) * spec.size))
            self.register_buffer("frequencies", torch.randn(NUMBER_FEATURES))
            self.up = HiddenLinear(spec.size * (1 + 2 * NUMBER_FEATURES), width)
            self.down = HiddenLinear(width, width)

    def forward(self, condition: Tensor | None, dropped: Tensor | None, size: int) -> Tensor:
        """Embed a batch of `size` samples.

        Args:
            condition: classes (B,) or numbers (B, M); None: all null.
            dropped: (B,) bool, True where the null vector replaces the condition.
            size: B.

        Returns:
            (B, W).
        """
        if self.spec.kind == "classes":
            rows = condition
            if rows is None:
                rows = torch.full((size,), self.spec.size, device=self.table.weight.device)
            elif dropped is not None:
                rows = rows.masked_fill(dropped, self.spec.size)
            looked_up: Tensor = self.table(rows)
            return looked_up
        null = self.null.expand(size, -1)
        if condition is None or self.spec.kind == "none":
            return null
        numbers = (condition - self.mean) / self.std  # (B, M)
        angles = 2 * math.pi * numbers[:, :, None] * self.frequencies
        features = torch.cat((numbers[:, :, None], angles.sin(), angles.cos()), dim=-1)
        embedded: Tensor = self.down(F.silu(self.up(features.flatten(1))))
        return embedded if dropped is None else torch.where(dropped[:, None], null, embedded)


class Head(nn.Module):
    """What the encoder owns for one modality: latents in and out, register positions, condition, latent norm."""

    positions: Tensor

    def __init__(self, layout: LatentLayout, spec: ConditionSpec, trunk: TrunkConfig, latent: LatentConfig) -> None:
        super().__init__()
        self.project_in = HiddenLinear(layout.channels, trunk.width)
        self.registers = nn.Parameter(torch.empty(layout.registers, trunk.width))
        self.register_buffer("positions", layout.positions.clone(), persistent=False)
        self.condition = ConditionEmbedding(spec, trunk.width)
        self.project_out = nn.Linear(trunk.width, layout.channels)
        self.norm = nn.LayerNorm(layout.channels, elementwise_affine=latent.affine)


class GenerativeEncoder(nn.Module):
    """Trunk and heads: latents of a timestep (and input tokens, or none) -> clean latents.

    Args:
        trunk: size of the transformer.
        latent: the latent norm.
        ends: the modalities' parts, for their layouts and conditions.
    """

    def __init__(self, trunk: TrunkConfig, latent: LatentConfig, ends: Mapping[str, ModalityModules]) -> None:
        super().__init__()
        self.trunk = Trunk(trunk)
        self.heads = nn.ModuleDict({name: Head(end.layout, end.condition, trunk, latent) for name, end in ends.items()})
        self.initialise(trunk)

    def initialise(self, trunk: TrunkConfig) -> None:
        """Start values: Xavier for matrices, zero for every modulation, so that blocks begin as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, EncoderBlock):
                nn.init.zeros_(module.modulation.weight)
                with torch.no_grad():
                    module.modulation.bias.view(6, -1)[[2, 5]] = trunk.gate_start
            elif isinstance(module, Trunk):
                nn.init.zeros_(module.final_modulation.weight)
                if module.context is not None:
                    nn.init.normal_(module.context, std=0.02)
            elif isinstance(module, Head):
                if trunk.register_start == "normal":
                    nn.init.normal_(module.registers, std=trunk.register_scale)
                else:
                    table = sincos_table(module.positions, trunk.width)
                    module.registers.data.copy_(trunk.register_scale * table)
                if module.condition.spec.kind != "classes":
                    nn.init.normal_(module.condition.null, std=0.02)

    def forward(
        self,
        modality: str,
        x: Tensor,
        time: Tensor,
        registers: Registers,
        tokens: Tokens | None = None,
        condition: Tensor | None = None,
        dropped: Tensor | None = None,
        normalise: bool = True,
    ) -> Tensor:
        """Infer clean latents: from noise and input tokens (tokenization) or from noisy latents alone (denoising).

        Args:
            modality: whose head to use.
            x: (B, L, C) noise or noisy latents.
            time: (B,) in [0, 1]; 0 is noise.
            registers: which registers each sample uses, (B, L).
            tokens: input tokens, or None when denoising.
            condition: classes (B,), numbers (B, M) or None.
            dropped: (B,) bool, conditions to replace by null.
            normalise: apply the latent norm. The flow lives in the normed space; see `sampling.latent_norm`.

        Returns:
            (B, L, C), layer-normalised over C, zero at unused registers.
        """
        head = self.heads[modality]
        assert isinstance(head, Head)
        batch, count, _ = x.shape
        stream = head.project_in(x) + head.registers[:count]
        positions = head.positions[:count]
        mask = registers.mask if registers.padded else None
        if tokens is not None:
            stream = torch.cat((stream, tokens.values.to(stream.dtype)), dim=1)
            positions = torch.cat((positions, tokens.positions))
            if mask is not None or tokens.mask is not None:
                real = tokens.mask
                if real is None:
                    real = torch.ones(tokens.values.shape[:2], dtype=torch.bool, device=x.device)
                mask = torch.cat((registers.mask, real), dim=1)
        embedded = head.condition(condition, dropped, batch)
        out = self.trunk(stream, count, time, embedded, positions, mask)
        latents: Tensor = head.project_out(out).float()
        if normalise:
            latents = head.norm(latents)
        return latents * registers.mask[:, :, None] if registers.padded else latents
