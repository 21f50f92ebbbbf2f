"""Parts of a step as CUDA graphs: kernels are recorded once, those of gradients for each shape of batch, and replayed.

A step of a small model is thousands of kernels of a few microseconds each, which Python cannot launch as fast as a GPU
computes them. A recording launches them all at once. It repeats the very kernels of the step it was made of, with the
contents of another batch and the random numbers of another step, so nothing else of a step may depend on Python.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from unite_mm.contract import Batch
from unite_mm.errors import UniteError
from unite_mm.training.layout import Whole
from unite_mm.training.noise import StepNoise
from unite_mm.training.recipes.base import Autocast, Recipe
from unite_mm_schemas.config import TrainConfig

_T = TypeVar("_T")

Gradients = Callable[[str, Batch, StepNoise, Autocast], dict[str, Tensor]]
"""What adds the gradients of a step: `Recipe.backward`, or recordings of it."""

_WARM_UP = 2
"""Steps of each shape that run as they are, so that all is compiled, chosen and allocated before one is recorded."""

_MOST = 16
"""Recordings that are kept; batches of further shapes run as they are."""

_PLAIN = (type, type(None), bool, int, float, str)
"""Values of a batch that are equal only where they mean the same."""


def records(layout: Whole, settings: TrainConfig, device: torch.device) -> bool:
    """Whether parts of a step are recorded: where that is asked for, and possible."""
    whole = type(layout) is Whole  # rows are gathered on the way, by exchanges between processes
    return settings.cuda_graphs and device.type == "cuda" and whole


def make_gradients(recipe: Recipe, device: torch.device) -> Gradients:
    """Recordings of `Recipe.backward` where its steps are alike, else that itself."""
    return RecordedGradients(recipe, lambda: Recorder(device)) if recipe.repeatable else recipe.backward


@dataclass(frozen=True)
class _Recording(Generic[_T]):
    """Kernels, the tensors that they read and what they leave, which the next replay overwrites."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    found: _T


class Recorder:
    """Makes recordings on one stream, in one pool of memory: they never run at the same time.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def as_it_is(self, work: Callable[[], _T]) -> _T:
        """Do the work on the stream that recordings are made on, as those of backward passes ask for."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            found = work()
        current.wait_stream(self.stream)
        return found

    def record(
        self, work: Callable[[], _T], inputs: tuple[Tensor, ...], *generators: torch.Generator
    ) -> _Recording[_T]:
        """Record the kernels of the work, which computes nothing yet.

        Args:
            work: what launches them.
            inputs: tensors that it reads and that others will be copied into.
            generators: that it draws from.

        Raises:
            UniteError: it cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        try:
            # Only this thread is watched: another one copies the next batch meanwhile.
            with torch.cuda.graph(graph, self._pool, self.stream, capture_error_mode="thread_local"):
                found = work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UniteError(
                f"the step cannot be recorded as a CUDA graph: {' '.join(str(error).split())[:300]}",
                "--set train.cuda_graphs=false trains without",
            ) from error
        return _Recording(graph, inputs, found)


class RecordedWork(Generic[_T]):
    """Work without arguments that always launches the same kernels; its first calls run as they are.

    What it leaves is overwritten by the next call.
    """

    def __init__(self, work: Callable[[], _T], recorder: Recorder) -> None:
        self._work, self._recorder = work, recorder
        self._calls = 0
        self._recording: _Recording[_T] | None = None

    def __call__(self) -> _T:
        """Do it.

        Raises:
            UniteError: it cannot be recorded.
        """
        self._calls += 1
        if self._calls <= _WARM_UP:
            return self._recorder.as_it_is(self._work)
        if self._recording is None:
            self._recording = self._recorder.record(self._work, ())
        self._recording.graph.replay()
        return self._recording.found


class RecordedGradients:
    """`Recipe.backward` on a CUDA device, replayed from recordings.

    Every shape of batch has a recording of its own; its first steps run as they are, and so do all steps on batches of
    which `described` cannot tell what is in them.

    Args:
        recipe: whose step it is; it must be `repeatable`, and its gradients must stay where they are.
        make_recorder: makes what records, afresh for every stage of the recipe.
    """

    def __init__(self, recipe: Recipe, make_recorder: Callable[[], Recorder]) -> None:
        self.recipe, self._make_recorder = recipe, make_recorder
        self._forget()

    def _forget(self) -> None:
        self._stage = self.recipe.stage
        self._met: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording[dict[str, Tensor]]] = {}
        self._recorder = self._make_recorder()

    def __call__(self, modality: str, batch: Batch, noise: StepNoise, autocast: Autocast) -> dict[str, Tensor]:
        """As `Recipe.backward`.

        Raises:
            UniteError: the step cannot be recorded.
        """
        if self.recipe.stage != self._stage:
            self._forget()
        tensors, facts = described(batch)
        if facts is None:
            return self._recorder.as_it_is(lambda: self.recipe.backward(modality, batch, noise, autocast))
        key = (modality, facts)
        if key not in self._recordings:
            self._met[key] += 1
            if self._met[key] <= _WARM_UP or len(self._recordings) == _MOST:
                return self._recorder.as_it_is(lambda: self.recipe.backward(modality, batch, noise, autocast))
            held = _copied(batch)
            self._recordings[key] = self._recorder.record(
                lambda: self.recipe.backward(modality, held, noise, autocast), described(held)[0], noise.generator
            )
        recording = self._recordings[key]
        for own, new in zip(recording.inputs, tensors, strict=True):
            own.copy_(new, non_blocking=True)
        recording.graph.replay()
        return {name: value.clone() for name, value in recording.found.items()}


def described(batch: Any) -> tuple[tuple[Tensor, ...], tuple[Hashable, ...] | None]:
    """The tensors of a batch, and all else that a step could depend on: types, shapes and plain values.

    None for the latter where the batch is not made of dataclasses, tensors and plain values alone: a replay would not
    see what else there is.
    """
    tensors: list[Tensor] = []
    facts: list[Hashable] = []
    for value in _leaves(batch):
        if torch.is_tensor(value):
            tensors.append(value)
            facts.append((value.shape, value.dtype))
        elif isinstance(value, _PLAIN):
            facts.append(value)
        else:
            return tuple(tensors), None
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
