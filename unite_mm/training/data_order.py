"""The order of the training data, as a pure function of seed and step, so that resuming needs no stored state."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unite_mm.errors import UsageError
from unite_mm.random_streams import Stream, seed_sequence

_BLOCKS = 16
"""Blocks of storage whose samples are shuffled among each other."""


class BatchStream:
    """Endless batches of sample indices; each epoch visits the samples in a fresh order.

    Samples of equal length form batches together, so that nearly nothing is padded; what is left over in each length
    is joined, nearest lengths first. Samples that lie in blocks are visited a few blocks at a time, shuffled among
    them; lengths then count among these alone. The remainder of an epoch that fills no batch is dropped.

    Args:
        size: N, number of samples.
        lengths: (N,) int64, or None when all are alike.
        batch_size: B.
        seed: of the order.
        blocks: (N,) int64, block of storage of each sample; None: any order is as good.

    Raises:
        UsageError: there are no samples.
    """

    def __init__(
        self, size: int, lengths: Tensor | None, batch_size: int, seed: int, blocks: Tensor | None = None
    ) -> None:
        if size == 0:
            raise UsageError("the data hold no training samples", "look at them with `unite-mm data info`")
        self.size = size
        self.lengths = None if lengths is None else lengths.numpy()
        self.blocks = None if blocks is None else blocks.numpy()
        self.batch_size = batch_size
        self.seed = seed
        # A set smaller than one batch is repeated to fill it.
        self.repeats = -(-batch_size // size)
        self.batches_per_epoch = size * self.repeats // batch_size
        self._epoch = -1
        self._plan = np.empty((0, batch_size), dtype=np.int64)

    def indices(self, step: int) -> Tensor:
        """Indices (B,) of the batch of optimizer step `step` (0-based)."""
        epoch, position = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._plan = self._plan_epoch(epoch)
            self._epoch = epoch
        return torch.from_numpy(self._plan[position])

    def _plan_epoch(self, epoch: int) -> NDArray[np.int64]:
        random = np.random.default_rng(seed_sequence(Stream.DATA_ORDER, self.seed, epoch))
        used = self.batches_per_epoch * self.batch_size
        if self.blocks is not None:
            parts = [self._by_length(part) for _ in range(self.repeats) for part in self._by_block(random)]
            return np.concatenate(parts)[:used].reshape(-1, self.batch_size)
        order = np.concatenate([random.permutation(self.size) for _ in range(self.repeats)])
        batches = self._by_length(order)[:used].reshape(-1, self.batch_size)
        return batches[random.permutation(len(batches))]

    def _by_block(self, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """All samples in shuffled parts; each part is a few blocks."""
        assert self.blocks is not None
        order = np.argsort(self.blocks, kind="stable")
        bounds = np.flatnonzero(np.diff(self.blocks[order])) + 1
        blocks = np.split(order, bounds)
        chosen = [blocks[index] for index in random.permutation(len(blocks)).tolist()]
        parts = [chosen[start : start + _BLOCKS] for start in range(0, len(chosen), _BLOCKS)]
        return [random.permutation(np.concatenate(part)) for part in parts]

    def _by_length(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.lengths is None:
            return order
        return self._join_equal_lengths(order[np.argsort(self.lengths[order], kind="stable")])

    def _join_equal_lengths(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Full batches of one length first, then the leftovers of all lengths, still sorted by length."""
        assert self.lengths is not None
        full, rest = [], []
        boundaries = np.flatnonzero(np.diff(self.lengths[order])) + 1
        for group in np.split(order, boundaries):
            whole = len(group) // self.batch_size * self.batch_size
            full.append(group[:whole])
            rest.append(group[whole:])
        return np.concatenate(full + rest)
