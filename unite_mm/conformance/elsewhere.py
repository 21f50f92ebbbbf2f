"""Tensors that say they are on another device, with their numbers on the CPU: they show what meets there.

Meta and fake tensors of torch hold no numbers, so that code which looks at some ends early; they also let many mixtures
of devices pass, and load torch's compiler, which takes a second.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")
"""A device that every machine has, and no batch is on."""

INDEXED = ("aten::index", "aten::index_put", "aten::index_put_")
"""Operations whose indices may lie on the CPU."""

COPIES = ("aten::_to_copy", "aten::copy_")
"""Operations from one device to another."""


class TwoDevices(Exception):
    """An operation met tensors of two devices."""


class Away(Tensor):
    """A tensor elsewhere; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls: type["Away"], held: Tensor) -> "Away":
        """Wrap a tensor of the CPU."""
        made: Away = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=ELSEWHERE,
            requires_grad=False,
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """As from any device."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """As within `TwoPlaces`."""
        return _dispatched(None, func, types, args, kwargs)


class TwoPlaces(TorchDispatchMode):
    """While it is entered, the other device is at hand, and an operation between the two raises `TwoDevices`."""


def _dispatched(
    _mode: TwoPlaces | None, func: Any, _types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Compute on the CPU whatever is elsewhere; say no where an operation takes tensors of both."""
    name: str = func._schema.name
    words = dict(kwargs or {})
    found = [leaf for leaf in tree_leaves((args, words)) if isinstance(leaf, Tensor)]
    away = [leaf for leaf in found if _is_away(leaf)]
    # Single numbers may be on the CPU, and so may the indices of what is elsewhere.
    here = [leaf for leaf in found if not _is_away(leaf) and leaf.dim()]
    indexed = name in INDEXED and bool(found) and _is_away(found[0])
    if away and here and name not in COPIES and not indexed:
        raise TwoDevices(name.partition("::")[2])
    target = words.get("device")
    if target is not None:
        words["device"] = torch.device("cpu")
    wanted = bool(away) if target is None else torch.device(target) == ELSEWHERE
    if name == "aten::copy_":
        wanted = _is_away(found[0])
    held = {id(leaf.held): leaf for leaf in away if isinstance(leaf, Away)}
    result = func(*tree_map(_held, tuple(args)), **tree_map(_held, words))

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return held[id(value)] if id(value) in held else Away(value) if wanted else value

    return tree_map(placed, result)


# In the body of the class torch would wrap it, and import its compiler for that.
TwoPlaces.__torch_dispatch__ = _dispatched  # type: ignore[method-assign,assignment]


def send_away(module: nn.Module) -> None:
    """Move all parameters and buffers of a module elsewhere, in place."""
    for part in module.modules():
        for entries in (part._parameters, part._buffers):
            for name, tensor in entries.items():
                if tensor is not None:
                    entries[name] = Away(tensor.detach())  # type: ignore[assignment]


def _is_away(tensor: Tensor) -> bool:
    return tensor.device.type == ELSEWHERE.type


def _held(value: Any) -> Any:
    """The numbers of a tensor; zeros for one that torch has made elsewhere itself."""
    if isinstance(value, Away):
        return value.held
    if isinstance(value, Tensor) and _is_away(value):
        return torch.zeros(value.shape, dtype=value.dtype, device="cpu")
    return value
