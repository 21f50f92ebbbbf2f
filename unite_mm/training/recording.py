"""The gradients of a step as a CUDA graph: kernels are recorded once for each shape of batch and replayed.

A step of a small model is thousands of kernels of a few microseconds each, which Python cannot launch as fast as a GPU
computes them. A recording launches them all at once. It repeats the very kernels of the step it was made of, with the
contents of another batch and the random numbers of another step, so nothing else of a step may depend on Python.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from unite_mm.contract import Batch
from unite_mm.errors import UniteError
from unite_mm.training.layout import Whole
from unite_mm.training.noise import StepNoise
from unite_mm.training.recipes.base import Autocast, Recipe
from unite_mm_schemas.config import TrainConfig

Gradients = Callable[[str, Batch, StepNoise, Autocast], dict[str, Tensor]]
"""What adds the gradients of a step: `Recipe.backward`, or recordings of it."""

_WARM_UP = 2
"""Steps of each shape that run as they are, so that all is compiled, chosen and allocated before one is recorded."""

_MOST = 16
"""Recordings that are kept; batches of further shapes run as they are."""


@dataclass(frozen=True)
class _Recording:
    """Kernels, the tensors that they read and the scalars that they leave."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    losses: dict[str, Tensor]


def make_gradients(recipe: Recipe, layout: Whole, settings: TrainConfig, device: torch.device) -> Gradients:
    """Recordings of a recipe's step where they are asked for and possible, else the step itself."""
    whole = type(layout) is Whole  # rows are gathered on the way, by exchanges between processes
    if settings.cuda_graphs and device.type == "cuda" and recipe.repeatable and whole:
        return RecordedGradients(recipe, device)
    return recipe.backward


class RecordedGradients:
    """`Recipe.backward` on a CUDA device, replayed from recordings.

    Every shape of batch has a recording of its own; its first steps run as they are. All of them share one pool of
    memory, since they never run at the same time and what they leave is copied before the next.

    Args:
        recipe: whose step it is; it must be `repeatable`, and its gradients must stay where they are.
        device: of the network.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe
        self._stream = torch.cuda.Stream(device)
        self._forget()

    def _forget(self) -> None:
        self._stage = self.recipe.stage
        self._met: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast) -> dict[str, Tensor]:
        """As `Recipe.backward`.

        Raises:
            UniteError: the step cannot be recorded.
        """
        if self.recipe.stage != self._stage:
            self._forget()
        tensors, key = described(batch)
        key = (modality, key)
        if key not in self._recordings:
            self._met[key] += 1
            if self._met[key] <= _WARM_UP or len(self._recordings) == _MOST:
                return self._as_it_is(modality, batch, noise, autocast)
            self._recordings[key] = self._record(modality, batch, noise, autocast)
        recording = self._recordings[key]
        for held, new in zip(recording.inputs, tensors, strict=True):
            held.copy_(new, non_blocking=True)
        recording.graph.replay()
        return {name: value.clone() for name, value in recording.losses.items()}

    def _as_it_is(self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast) -> dict[str, Tensor]:
        """On the stream that recordings are made on, as CUDA graphs of backward passes ask for."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = self.recipe.backward(modality, batch, noise, autocast)
        current.wait_stream(self._stream)
        return losses

    def _record(self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast) -> _Recording:
        held = _copied(batch)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(noise.generator)
        try:
            # Only this thread is watched: another one copies the next batch meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                losses = self.recipe.backward(modality, held, noise, autocast)
        except RuntimeError as error:
            raise UniteError(
                f"the step cannot be recorded as a CUDA graph: {' '.join(str(error).split())[:300]}",
                "--set train.cuda_graphs=false trains without",
            ) from error
        return _Recording(graph, described(held)[0], losses)


def described(batch: Any) -> tuple[tuple[Tensor, ...], Hashable]:
    """The tensors of a batch, and all else that a step could depend on: types, shapes and plain values."""
    tensors: list[Tensor] = []
    facts: list[Hashable] = []
    for value in _leaves(batch):
        if torch.is_tensor(value):
            tensors.append(value)
            facts.append((value.shape, value.dtype))
        else:
            facts.append(value if isinstance(value, Hashable) else id(value))
    return tuple(tensors), tuple(facts)


def _leaves(value: Any) -> Iterator[Any]:
    """Tensors and plain values of nested dataclasses, with the types of these."""
    if is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for field in fields(value):
            yield from _leaves(getattr(value, field.name))
    else:
        yield value


def _copied(value: Any) -> Any:
    """The same with copies of its tensors."""
    if torch.is_tensor(value):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        copied = object.__new__(type(value))
        for field in fields(value):
            object.__setattr__(copied, field.name, _copied(getattr(value, field.name)))
        return copied
    return value
