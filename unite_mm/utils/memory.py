"""How much memory there is, and making nothing that is larger."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from unite_mm.errors import UsageError

LARGE = 2**16
"""Elements from which on a tensor counts as large."""

_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.randn, torch.rand}


def machine_memory() -> int:
    """Bytes of memory that this process can have: of the machine, or less where its control group or limits say so."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):  # no control group, or no limit: `max`
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    try:
        import resource
    except ImportError:  # not on Windows
        return found[0]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min([*found, limit] if limit != resource.RLIM_INFINITY else found)


def device_memory() -> int | None:
    """Bytes of memory of a GPU; None without one."""
    return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def size_text(count: float) -> str:
    """`350 MiB` or `1,536 GiB`."""
    return f"{count / 2**30:,.0f} GiB" if count >= 10 * 2**30 else f"{count / 2**20:,.0f} MiB"


class LargeOnMeta(TorchFunctionMode):
    """Large tensors made by factories inside have shapes and no memory; small ones, whose values code asks for, are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        named = dict(kwargs or {})
        if func in _FACTORIES and named.get("device") is None and elements(args, named) >= LARGE:
            named["device"] = "meta"
        return func(*args, **named)


class Allowance(TorchFunctionMode):
    """Tensors made by factories inside may have a certain size together; one more is refused before it is made.

    Args:
        most: bytes.
        message: of the error, without its end.
        hint: of the error.

    Raises:
        UsageError: by the factory that goes beyond.
    """

    def __init__(self, most: int, message: str, hint: str) -> None:
        super().__init__()
        self.left, self.message, self.hint = most, message, hint

    def take(self, count: int) -> None:
        """Use some of it.

        Raises:
            UsageError: it is not there.
        """
        self.left -= count
        if self.left < 0:
            raise UsageError(self.message, self.hint)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        named = dict(kwargs or {})
        if func in _FACTORIES and str(named.get("device")) != "meta":
            count = elements(args, named)
            if count >= LARGE:
                kind = named.get("dtype") or torch.get_default_dtype()
                self.take(count * kind.itemsize)
        return func(*args, **named)


def elements(args: tuple[Any, ...], named: dict[str, Any]) -> int:
    """Elements of the tensor that a factory is asked for; 0 where that cannot be told."""
    shape = args[0] if args and isinstance(args[0], list | tuple) else named.get("size", args)
    try:
        return math.prod(int(length) for length in shape)
    except (TypeError, ValueError):
        return 0
