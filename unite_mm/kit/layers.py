"""The building blocks of the Generative Encoder, for the tokenizers and decoders of plugins.

The optimizer groups parameters by the type of their layer: Muon trains the weights of `HiddenLinear` and
`HiddenEmbedding`, AdamW all others.
"""

from unite_mm.model.layers import (
    Attention,
    DecoderBlock,
    HiddenEmbedding,
    HiddenLinear,
    RMSNorm,
    SwiGLU,
    attend,
    rotary_table,
    rotate,
    sincos_table,
)

__all__ = [
    "Attention",
    "DecoderBlock",
    "HiddenEmbedding",
    "HiddenLinear",
    "RMSNorm",
    "SwiGLU",
    "attend",
    "rotary_table",
    "rotate",
    "sincos_table",
]
