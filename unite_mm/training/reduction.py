"""Sums and means over the ranks of a run: of gradients, once in a step, and of what a step needs to know on the way."""

from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET = 64 << 20
"""Bytes of gradients that are exchanged together."""


def reduce_gradients(parameters: list[nn.Parameter]) -> None:
    """Average the gradients over all ranks, once, after every backward pass of the step.

    One bucket is copied while another is exchanged. DistributedDataParallel's own hook would fire in each backward pass
    and leave out what the last did not touch, and its buckets depend on the order in which the first step finds them:
    a resumed run would add up in another order.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    exchanged: deque[tuple[list[Tensor], Tensor, Any]] = deque()
    for bucket in _buckets([cast(Tensor, parameter.grad) for parameter in parameters]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        exchanged.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        if len(exchanged) == 2:
            _put_back(*exchanged.popleft())
    while exchanged:
        _put_back(*exchanged.popleft())


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in their order, of one type in each bucket, which is full with `BUCKET` bytes."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and (bucket[0].dtype != gradient.dtype or sum(one.nbytes for one in bucket) >= BUCKET):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _put_back(bucket: list[Tensor], flat: Tensor, work: Any) -> None:
    """Wait for the sum of a bucket's gradients, and make their mean of it."""
    work.wait()
    flat /= dist.get_world_size()
    for gradient, part in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
        gradient.copy_(part.view_as(gradient))


def average(values: Tensor) -> Tensor:
    """The mean of a tensor over all ranks: what a rank needs to know of the joined batch while it computes a step."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    shared = values.clone()
    dist.all_reduce(shared)
    return shared / dist.get_world_size()
