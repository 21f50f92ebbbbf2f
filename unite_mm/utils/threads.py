"""Independent batches side by side, one CPU thread each.

Threads that share one operation wait for each other thousands of times a second, which costs small models most of what
a second core gives (and several times that beside other programs). Threads with batches of their own never wait.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads_of(device: torch.device) -> int:
    """Threads that have batches of their own: on a CPU all of torch's, elsewhere one."""
    return torch.get_num_threads() if device.type == "cpu" else 1


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Operations of torch inside have so many threads, and afterwards as many as before; None: that many inside too."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> Iterator[tuple[Item, Result]]:
    """Each item with `work(item)`, in their order; without gradients.

    Args:
        work: computes on `device` and must not depend on other items.
        items: what to work on.
        device: on a CPU as many items are worked on at once as torch has threads; elsewhere one after the other.
    """
    threads = min(threads_of(device), len(items))
    quiet = torch.no_grad()(work)  # in the thread that works: torch keeps the mode for each
    if threads <= 1:
        yield from ((item, quiet(item)) for item in items)
        return

    def alone(item: Item) -> Result:
        torch.set_num_threads(1)  # of this thread's operations
        return quiet(item)

    with torch_threads(None):
        pool = ThreadPoolExecutor(threads)
        try:
            yield from zip(items, pool.map(alone, items), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)
