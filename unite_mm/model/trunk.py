"""The trunk of the Generative Encoder: transformer blocks that all modalities share (arXiv 2603.22283, section 3.1).

Dimensions: B batch, L registers of the batch, N = L + T registers and input tokens, W width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unite_mm.model.layers import EncoderBlock, RMSNorm, TimeEmbedding, rotary_table
from unite_mm_schemas.config import TrunkConfig


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
        self,
        x: Tensor,
        registers: int,
        time: Tensor,
        condition: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Run the blocks and return the registers.

        Args:
            x: (B, N, W), registers first, then input tokens.
            registers: L.
            time: (B,) in [0, 1].
            condition: (B, W) embedding of the condition.
            positions: (N,) rotary positions.
            mask: (B, N) bool, True for real tokens; None when all are.
            states: gets the registers (B, L, W) after every block.

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
            if states is not None:
                states.append(x[:, extra : extra + registers])
        x = x[:, extra : extra + registers]
        shift, scale = self.final_modulation(modulation)[:, None, :].chunk(2, dim=-1)
        out: Tensor = self.final_norm(x) * (1 + scale) + shift
        return out
