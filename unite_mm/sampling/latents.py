"""Latent tokens of a batch, or of a whole set of samples.

Dimensions: B batch, N samples of a set, L registers, C latent channels, M numbers of a condition.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from unite_mm.contract import Registers


@dataclass(frozen=True)
class Latents:
    """Latent tokens of a batch.

    Attributes:
        values: (B, L, C) as the decoder sees them, zero at unused registers.
        registers: which registers each sample uses.
        modality: whose latents they are.
        condition: what they were generated under, as in a batch; None where there was none.
        known: conditions that encoded samples fulfil by themselves, as in a batch: their classes, -1 where that is not
            known, or their numbers, NaN likewise. None: nothing is known of any.
        skipped: why samples were left out, by their index.
    """

    values: Tensor
    registers: Registers
    modality: str
    condition: Tensor | None = None
    known: Tensor | None = None
    skipped: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """B."""
        return len(self.values)

    def to(self, device: torch.device) -> "Latents":
        """A copy on `device`; what is known of the samples stays on the CPU."""
        condition = None if self.condition is None else self.condition.to(device)
        return replace(self, values=self.values.to(device), registers=self.registers.to(device), condition=condition)

    def of(self, indices: Sequence[int] | slice) -> "Latents":
        """The latents of some samples, without registers that none of them uses."""
        rows: Any = indices if isinstance(indices, slice) else list(indices)
        mask = self.registers.mask[rows]
        length = int(mask.any(0).nonzero().max()) + 1 if mask.any() else 1
        mask = mask[:, :length]
        return Latents(
            self.values[rows][:, :length],
            Registers(mask, padded=not bool(mask.all())),
            self.modality,
            None if self.condition is None else self.condition[rows],
            None if self.known is None else self.known[rows],
        )

    def parts(self, size: int) -> Iterator["Latents"]:
        """The latents in batches of `size`, in their order."""
        return (self.of(slice(start, start + size)) for start in range(0, len(self), size))


def joined(parts: Sequence[Latents], skipped: Mapping[int, str]) -> Latents:
    """One after the other, as many registers long as the longest.

    Args:
        parts: at least one batch, all of one modality and of one device.
        skipped: see `Latents`.
    """
    length = max(part.values.shape[1] for part in parts)
    values = [pad(part.values, (0, 0, 0, length - part.values.shape[1])) for part in parts]
    masks = [pad(part.registers.mask, (0, length - part.registers.mask.shape[1])) for part in parts]
    mask = torch.cat(masks)
    known = [part.known for part in parts if part.known is not None]
    return Latents(
        torch.cat(values),
        Registers(mask, padded=not bool(mask.all())),
        parts[0].modality,
        known=torch.cat(known) if known else None,
        skipped=skipped,
    )
