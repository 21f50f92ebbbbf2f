"""Ready-made parts for plugins that need no more than the usual: batches of tensors, data in memory, a plain decoder.

Dimensions: B batch, L registers of the batch, C latent channels, W width, O outputs of each register.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from unite_mm.contract import SPLITS, Batch, ModalityData, Registers
from unite_mm.errors import UniteError
from unite_mm.kit.cache import describe_file
from unite_mm.model.layers import DecoderBlock, HiddenLinear, rotary_table
from unite_mm_schemas.card import DataCard, Exclusion


class TensorBatch:
    """Base of a batch that is a frozen dataclass of tensors, `registers` and `condition`: gives it `to`."""

    def to(self, device: torch.device) -> Self:
        """A copy on `device`."""
        assert is_dataclass(self)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor | Registers)}
        return replace(self, **moved)


class InMemoryData(ModalityData):
    """A data set whose samples are held in lists.

    Args:
        modality: its name.
        parts: samples of each split, and their conditions: classes (N,), numbers (N, M), or None. A split that is left
            out is empty.
        pack: makes a batch of samples and their conditions.
        content: the bytes of a sample; a hash over all of them tells other data from these.
        name: what the data set is called.
        description: one line that tables of results repeat.
        length: registers of a sample, so that samples of equal length are batched together; None: all are alike.
        files: what the samples were read from; the card states their sizes and hashes.
        excluded: what was left out and why; the card counts it among what was read.
        augment: changes a sample at random, by that generator alone; only in batches that are trained on.

    Attributes:
        parts: the samples and conditions of each split.

    Raises:
        UniteError: a split has more or fewer conditions than samples, or a file cannot be read.
    """

    def __init__(
        self,
        modality: str,
        parts: Mapping[str, tuple[Sequence[Any], Tensor | None]],
        pack: Callable[[Sequence[Any], Tensor | None], Batch],
        content: Callable[[Any], bytes],
        name: str,
        description: str,
        length: Callable[[Any], int] | None = None,
        *,
        files: Sequence[Path] = (),
        excluded: Sequence[Exclusion] = (),
        augment: Callable[[Any, torch.Generator], Any] | None = None,
    ) -> None:
        self.parts = {split: parts.get(split, ((), None)) for split in dict.fromkeys((*SPLITS, *parts))}
        self.pack, self.length, self.augment = pack, length, augment
        for split, (samples, conditions) in parts.items():
            if conditions is not None and len(conditions) != len(samples):
                raise UniteError(
                    f"the split {split!r} of {name} has {len(samples)} samples and {len(conditions)} conditions",
                    "give one for each sample, or None for the whole split",
                )
        digest = hashlib.sha256()
        for split, (samples, conditions) in parts.items():
            digest.update(f"{split} {len(samples)}".encode())
            digest.update(b"" if conditions is None else conditions.numpy().tobytes())
            for sample in samples:
                digest.update(content(sample))
        sizes = {split: len(samples) for split, (samples, _) in self.parts.items()}
        total = sum(sizes.values())
        self.card = DataCard(
            modality=modality,
            name=name,
            description=description,
            files=tuple(map(describe_file, files)),
            read=total + sum(entry.count for entry in excluded),
            kept=total,
            excluded=tuple(excluded),
            splits=sizes,
            split_hash=digest.hexdigest(),
        )

    def size(self, split: str) -> int:
        """Number of samples in a split."""
        return len(self.parts[split][0])

    def lengths(self, split: str) -> Tensor | None:
        """(N,) int64, or None where all are alike."""
        if self.length is None:
            return None
        return torch.tensor([self.length(sample) for sample in self.parts[split][0]], dtype=torch.int64)

    def conditions(self, split: str) -> Tensor | None:
        """Classes (N,) or numbers (N, M) of a split; None where it has none."""
        return self.parts[split][1]

    def samples(self, split: str, indices: Tensor) -> list[Any]:
        """The given samples, in that order."""
        return [self.parts[split][0][index] for index in indices.tolist()]

    def batch(self, split: str, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The batch of the given samples (B,), in that order; with a generator each is augmented by it."""
        conditions, samples = self.conditions(split), self.samples(split, indices)
        if generator is not None and self.augment is not None:
            samples = [self.augment(sample, generator) for sample in samples]
        return self.pack(samples, None if conditions is None else conditions[indices])


class RegisterDecoder(nn.Module):
    """A plain transformer from latents to O numbers for each register.

    Args:
        channels: C.
        width: W; a multiple of twice the heads.
        outputs: O.
        depth: number of blocks.
        heads: attention heads.
        base: of the rotary frequencies; registers are at the positions 0 to L - 1.
    """

    def __init__(
        self, channels: int, width: int, outputs: int, depth: int = 2, heads: int = 4, base: float = 100.0
    ) -> None:
        super().__init__()
        self.head_width, self.base = width // heads, base
        self.enter, self.leave = HiddenLinear(channels, width), nn.Linear(width, outputs)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(depth))

    def forward(self, latents: Tensor, registers: Registers) -> Tensor:
        """Latents (B, L, C) -> (B, L, O), float32."""
        x = self.enter(latents)
        table = rotary_table(torch.arange(x.shape[1], device=x.device), self.head_width, self.base)
        for block in self.blocks:
            x = block(x, table, registers.mask if registers.padded else None)
        out: Tensor = self.leave(x).float()
        return out
