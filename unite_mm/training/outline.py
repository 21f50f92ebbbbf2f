"""What a training step computes and keeps, counted without computing: on tensors that have shapes and no values.

A step is made twice, with one and with two samples of each modality and with one and with two passes of flow
minibatches, so that what grows with samples and minibatches is told from what does not.

Dimensions: B samples.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from unite_mm.contract import Batch, ModalityData
from unite_mm.model.network import Network
from unite_mm.registry.build import OpenModality
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.operations import counter
from unite_mm.training.recipes import make_recipe
from unite_mm.training.recipes.base import Recipe
from unite_mm_schemas.base import MOST_STEPS
from unite_mm_schemas.config import RunConfig


@dataclass(frozen=True)
class SampleCost:
    """What one sample of a modality costs in a training step.

    Attributes:
        operations: of matrix products, convolutions and attention, forward and backward, two for each multiplication
            with its sum; stages of a recipe count with their shares of the run.
        minibatch: the part of them that each flow minibatch adds.
        activations: bytes that the largest graph of the step keeps for its backward pass, for each sample.
        fixed: bytes that it keeps whatever the number of samples, such as weights in another precision.
        tokens: input tokens and registers that are tokenized.
        batch_bytes: of the prepared sample, as it goes to the device.
    """

    operations: float
    minibatch: float
    activations: float
    fixed: float
    tokens: float
    batch_bytes: float


@dataclass(frozen=True)
class _Counted:
    """One step that was made: operations, bytes kept at most, tokens, and bytes of the batch."""

    operations: float
    kept: int
    tokens: float
    batch_bytes: int


def count_samples(config: RunConfig, network: Network, opened: Mapping[str, OpenModality]) -> dict[str, SampleCost]:
    """What a sample of each modality costs; `network` becomes one without values.

    Args:
        config: the run.
        network: as `outline_network` makes it.
        opened: its modalities with their data.

    Raises:
        Exception: whatever code raises that asks for the values of tensors, or for weights that are not at hand.
    """
    flow = config.flow
    passes = [min(flow.chunk, flow.draws), 2 * min(flow.chunk, flow.draws)]
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        network.to_empty(device="cpu").train()
        for name in opened:
            network.modules_of(name).outline_losses()
    found = {}
    for name, entry in opened.items():
        made = []
        for copies, draws in enumerate(passes, 1):
            batch = _batch(entry.data, copies)
            changed = config.model_copy(update={"flow": flow.model_copy(update={"draws": draws})})
            made.append(_step(changed, network, name, batch, mode))
        one, two = made
        samples = _samples(entry.data)
        each = (two.operations / 2 - one.operations) / (passes[1] - passes[0]) / samples  # of one minibatch
        grown = (two.kept - one.kept) / samples
        found[name] = SampleCost(
            operations=one.operations / samples + (flow.draws - passes[0]) * each,
            minibatch=each,
            activations=grown,
            fixed=max(0.0, one.kept - grown * samples),
            tokens=one.tokens / samples,
            batch_bytes=one.batch_bytes / samples,
        )
    return found


def _samples(data: ModalityData) -> int:
    """Samples of the smaller batch: several where their lengths differ."""
    return 1 if data.lengths("train") is None else min(8, data.size("train"))


def _batch(data: ModalityData, copies: int) -> Batch:
    """Samples of middle length, each several times."""
    lengths, count = data.lengths("train"), _samples(data)
    order = torch.arange(data.size("train")) if lengths is None else lengths.argsort(stable=True)
    start = (len(order) - count) // 2 if lengths is not None else 0
    return data.batch("train", order[start : start + count].repeat(copies))


def _step(config: RunConfig, network: Network, name: str, batch: Batch, mode: FakeTensorMode) -> _Counted:
    """Make a step on a batch without values, in every stage of the recipe."""
    cpu, count, size = torch.device("cpu"), len(batch.registers.mask), _bytes(batch)
    tokens: list[float] = [int(batch.registers.mask.sum())]
    operations, kept = 0.0, 0
    own = network.modules_of(name)
    hook = own.tokenizer.register_forward_hook(lambda *seen: _note(tokens, seen[-1], count))
    with mode:
        recipe = make_recipe(config, network)
        recipe.average = dict(network.named_parameters())
        ends = (0.0, *recipe.boundaries, 1.0)
        for stage, (first, last) in enumerate(pairwise(ends), 1):
            recipe.enter(stage)
            recipe.step = MOST_STEPS  # later than any warm-up
            network.zero_grad(set_to_none=True)
            noise = StepNoise(torch.Generator(cpu), count, own.layout, Shard())
            held = _Kept(recipe)
            with counter() as counted, torch.autograd.graph.saved_tensors_hooks(held.pack, _unpack):
                recipe.backward(name, batch.to(cpu), noise, lambda: _autocast(config))
            operations += (last - first) * counted.get_total_flops()
            kept = max(kept, held.most)
    hook.remove()
    return _Counted(operations, kept, sum(tokens[:2]), size)


def _autocast(config: RunConfig) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if config.train.precision == "bf16-mixed" else nullcontext()


def _note(tokens: list[float], output: Any, count: int) -> None:
    """Keep how many input tokens a batch has; padding counts, as it is computed."""
    values = getattr(output, "values", None)
    if isinstance(values, Tensor):
        tokens.append(count * values.shape[1])


def _bytes(value: Any) -> int:
    """Bytes of all tensors of a batch."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if is_dataclass(value):
        return sum(_bytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


class _Kept:
    """Bytes that graphs hold for their backward passes beside the parameters.

    Attributes:
        most: that they held at once.
    """

    def __init__(self, recipe: Recipe) -> None:
        modules: tuple[nn.Module, ...] = (recipe.network, recipe.extra)
        self._apart = {_storage(one) for module in modules for one in (*module.parameters(), *module.buffers())}
        self._uses: Counter[int] = Counter()
        self._now = self.most = 0

    def pack(self, tensor: Tensor) -> "_Held":
        """Called for every tensor that a graph saves."""
        key = _storage(tensor)
        if key in self._apart:
            return _Held(tensor, None, key, 0)
        count = tensor.untyped_storage().nbytes()
        if not self._uses[key]:
            self._now += count
            self.most = max(self.most, self._now)
        self._uses[key] += 1
        return _Held(tensor, self, key, count)

    def drop(self, key: int, count: int) -> None:
        """Called when a graph lets a tensor go."""
        self._uses[key] -= 1
        if not self._uses[key]:
            self._now -= count


class _Held:
    """A saved tensor, for as long as its graph has it."""

    def __init__(self, tensor: Tensor, owner: _Kept | None, key: int, count: int) -> None:
        self.tensor, self._owner, self._key, self._count = tensor, owner, key, count

    def __del__(self) -> None:
        if self._owner is not None:
            self._owner.drop(self._key, self._count)


def _unpack(held: _Held) -> Tensor:
    return held.tensor


def _storage(tensor: Tensor) -> int:
    """Identity of the memory of a tensor."""
    identity: int = tensor.untyped_storage()._cdata
    return identity
