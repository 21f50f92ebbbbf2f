"""What the checks of plugins are made of: tensors that say they are elsewhere, and the content of any object."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from unite_mm.conformance.elsewhere import ELSEWHERE, TwoDevices, TwoPlaces
from unite_mm.conformance.natives import order_of
from unite_mm.conformance.values import unlike

NUMBERS = torch.arange(12.0).view(3, 4)

WITHIN: dict[str, Callable[[Tensor], Any]] = {
    "made there": lambda y: y + torch.ones(3, 4, device=y.device),
    "moved there": lambda y: y + torch.tensor([1.0, 2, 3, 4]).to(y),
    "a single number": lambda y: y * torch.tensor(2.0),
    "an index of the CPU": lambda y: y[torch.tensor([0, 1])],
    "a copy into a part": lambda y: y.clone().__setitem__(0, torch.ones(4)),
    "in place": lambda y: y.clone().add_(1).mul_(y),
    "of values": lambda y: y[y[:, 0] > 0],
    "to numpy": lambda y: y.cpu().numpy(),
    "to Python": lambda y: (y.tolist(), bool(y.sum()), int(y.argmax())),
    "attention": lambda y: F.scaled_dot_product_attention(y[None, None], y[None, None], y[None, None]),
}

BETWEEN: dict[str, Callable[[Tensor], Any]] = {
    "a sum": lambda y: y + torch.ones(3, 4),
    "a product of matrices": lambda y: y @ torch.ones(4, 2),
    "an embedding": lambda y: F.embedding(torch.arange(2), y),
    "a table": lambda y: F.embedding(torch.arange(2, device=y.device), torch.ones(3, 4)),
    "a list": lambda y: torch.cat((y, torch.ones(3, 4))),
    "a mask": lambda y: y.masked_fill(torch.ones(3, 4) > 0, 0.0),
    "a convolution": lambda y: F.conv1d(y[None], torch.ones(2, 3, 1)),
}


@pytest.mark.parametrize("call", WITHIN.values(), ids=WITHIN.keys())
def test_what_stays_on_one_device_is_computed(call: Callable[[Tensor], Any]) -> None:
    with torch.no_grad(), TwoPlaces():
        found = call(NUMBERS.to(ELSEWHERE))
        here = found.cpu() if isinstance(found, Tensor) else found
    assert unlike(here, call(NUMBERS), 1e-6) is None


@pytest.mark.parametrize("call", BETWEEN.values(), ids=BETWEEN.keys())
def test_what_mixes_devices_is_refused(call: Callable[[Tensor], Any]) -> None:
    with torch.no_grad(), TwoPlaces(), pytest.raises(TwoDevices):
        call(NUMBERS.to(ELSEWHERE))


@dataclass
class Named:
    values: Tensor
    name: str = field(default="", compare=False)


@pytest.mark.parametrize(
    ("left", "right", "where"),
    [
        ("CEG", "CEG", None),
        ("CEG", "CEC", "the whole"),
        (torch.ones(2), torch.ones(3), "the whole"),
        (Named(torch.ones(2), "a"), Named(torch.ones(2), "b"), None),
        (Named(torch.ones(2)), Named(torch.zeros(2)), "values"),
        ({"a": [1, 2.0]}, {"a": [1, 2.5]}, "['a'][1]"),
        ({"a": 1}, {"b": 1}, "['a']"),
        ([1, 2], [1], "the whole"),
        (np.arange(3), np.arange(3), None),
        (np.arange(3), np.array([0, 1, 3]), "the whole"),
        (np.array(["x"]), np.array(["y"]), "the whole"),
        (SimpleNamespace(x=None), SimpleNamespace(x=1), "x"),
        (Image.new("L", (2, 2), 7), Image.new("L", (2, 2), 7), None),
        (Image.new("L", (2, 2), 7), Image.new("L", (2, 2), 8), "the whole"),
        ({1, 2}, {2, 1}, None),
    ],
)
def test_objects_of_any_kind_are_compared_by_their_content(left: object, right: object, where: str | None) -> None:
    assert unlike(left, right) == where


def test_another_order_is_told_from_other_objects() -> None:
    assert order_of("abc", "cab", 0.0) == [1, 2, 0]
    assert order_of("abc", "abc", 0.0) is None
    assert order_of("abc", "abd", 0.0) is None
    assert order_of("aab", "baa", 0.0) == [1, 2, 0]
