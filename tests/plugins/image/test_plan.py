"""Figures of `--dry-run --nodes` against what one H200 was measured to do: within 15 %.

The measurements are those of docs/experiments; docs/experiments/paper-figures.md says which are further off, and why.
"""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from unite_mm.config import RunOptions, resolve
from unite_mm.registry import discover
from unite_mm.registry.build import BYTES, load_modalities, outline_network
from unite_mm.training import operations
from unite_mm.training.cluster import Cluster, Weights, estimate, rate_of
from unite_mm.training.outline import SampleCost, count_samples
from unite_mm_image.data.batch import ImageBatch
from unite_mm_schemas.config import RunConfig

MIB = 2**20


class Blank:
    """Images of the preset's size without content."""

    def size(self, split: str) -> int:
        return 100

    def lengths(self, split: str) -> None:
        return None

    def batch(self, split: str, indices: Tensor) -> ImageBatch:
        return ImageBatch.of(torch.zeros(len(indices), 3, 256, 256), 256, torch.zeros(len(indices), dtype=torch.int64))


def config(draws: int, batch: int, compiled: bool = True) -> RunConfig:
    words = (f"flow.draws={draws}", f"train.batch_size={batch}", f"train.compile={str(compiled).lower()}")
    options = RunOptions(modalities=("image",), preset=("imagenet256-base",), assignments=words)
    return resolve(options, discover())


@pytest.fixture(scope="module")
def counted() -> Iterator[tuple[SampleCost, Weights]]:
    """A sample's cost at 14 flow minibatches, two in a pass; counting 217M parameters' step takes some ten seconds."""
    settings = config(14, 64)
    statistics = {"classes": [str(index) for index in range(1000)], "class_counts": [1] * 1000}
    network = outline_network(settings, load_modalities(settings), {"image": statistics})
    parameters = sum(parameter.numel() for parameter in network.parameters())
    costs = count_samples(settings, network, {"image": SimpleNamespace(data=Blank())})  # type: ignore[dict-item]
    yield costs["image"], Weights.of(network, 0, parameters)


def at(cost: SampleCost, draws: int) -> dict[str, SampleCost]:
    fewer = cost.operations - (14 - draws) * cost.minibatch
    return {"image": SampleCost(**{**vars(cost), "operations": fewer})}


pytestmark = pytest.mark.slow  # the fixture


@pytest.mark.parametrize(
    ("draws", "rate", "share", "matmul"),
    [(3, 278.8, 0.433, 661), (3, 318.6, 0.493, 663), (14, 75.6, 0.308, 662), (14, 116.4, 0.479, 650)],
)
def test_operations_of_an_image(
    draws: int, rate: float, share: float, matmul: float, counted: tuple[SampleCost, Weights]
) -> None:
    """Those that the benchmark counted: share x matrix-product rate / images per second."""
    assert at(counted[0], draws)["image"].operations == pytest.approx(share * matmul * 1e12 / rate, rel=0.15)


@pytest.mark.parametrize(
    ("draws", "batch", "compiled", "peak"),
    [(3, 64, True, 30_289), (3, 128, True, 59_020), (14, 64, True, 31_979), (3, 64, False, 48_813)],
)
def test_peak_memory(draws: int, batch: int, compiled: bool, peak: int, counted: tuple[SampleCost, Weights]) -> None:
    """Of gradients alone, as it was measured: weights, gradients and activations, without moments and average."""
    cost, weights = counted
    found = estimate(config(draws, batch, compiled), Cluster(), weights, at(cost, draws))
    assert (found.activations + 2 * BYTES * weights.all) / MIB == pytest.approx(peak, rel=0.15)
    assert found.memory["ddp"] == 5 * BYTES * weights.all + found.activations  # AdamW for all: moments and average


@pytest.mark.parametrize(
    ("draws", "batch", "compiled", "rate"),
    [
        (3, 64, True, 270.1),  # whole steps, two in a pass
        (3, 64, True, 256.4),  # one in a pass
        (3, 128, True, 303.4),
        (14, 64, True, 111.7),
        (3, 64, False, 109.9),  # gradients alone
        (14, 64, False, 38.6),
    ],
)
def test_images_per_second(
    draws: int, batch: int, compiled: bool, rate: float, counted: tuple[SampleCost, Weights]
) -> None:
    cost, weights = counted
    found = estimate(config(draws, batch, compiled), Cluster(), weights, at(cost, draws))
    assert found.samples == pytest.approx(rate, rel=0.15)


def test_tokens_and_bytes_of_an_image(counted: tuple[SampleCost, Weights]) -> None:
    assert counted[0].tokens == 256 + 256  # patches and registers
    assert counted[0].batch_bytes == 4 * 3 * 256 * 256 + 256 + 8  # pixels, mask, class


def test_more_gpus_share_memory_and_time(counted: tuple[SampleCost, Weights]) -> None:
    cost, weights = counted
    settings = config(14, 1024)
    costs = at(cost, 14)
    one, many = estimate(settings, Cluster(8, 1), weights, costs), estimate(settings, Cluster(8, 8), weights, costs)
    assert many.seconds == pytest.approx(one.seconds / 8)
    assert many.operations == one.operations
    assert many.memory["fsdp"] < many.memory["hybrid"] < many.memory["ddp"]
    lasting = weights.all + 2 * weights.muon + 3 * weights.adamw  # weights, average, one moment or two
    whole = weights.muon + weights.adamw + weights.outside + 2 * weights.block  # gradients, and what is gathered
    for name, among in (("fsdp", 64), ("hybrid", 8)):
        assert many.memory[name] - many.activations == BYTES * (-(-lasting // among) + whole)
    assert rate_of(settings, Cluster(tflops=100, share=0.5)) == (1e14, 0.5)


def test_the_counter_knows_the_attention_of_this_machine() -> None:
    """Otherwise operations would lack it without a word."""
    q = torch.randn(1, 2, 8, 16)
    with operations.counter() as seen:
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert seen.get_total_flops() == 2 * 2 * 2 * 8 * 8 * 16
