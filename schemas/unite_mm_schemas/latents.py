"""What the head of a file of latents says: whose they are, and what must be known to decode them."""

from typing import Literal

from pydantic import Field

from unite_mm_schemas.base import Schema


class LatentsHeader(Schema):
    """Metadata of a file of latents, as JSON under the key `unite_mm` of its safetensors header."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    modality: str
    """Whose latents they are."""
    model: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 over the weights that make the latents: tokenizer and encoder of the modality."""
    registers: int = Field(ge=1)
    """Most registers that a sample of the model can use."""
    channels: int = Field(ge=1)
    """Channels of each latent."""
    samples: int = Field(ge=1)
    """How many samples the file holds."""
    seed: int = Field(ge=0)
    """Of the register noise that they were encoded with."""
    checksum: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 over the tensors, in the order of their names."""
