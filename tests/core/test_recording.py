"""Recordings of a step: what is replayed sees the new batch and the new random numbers, whatever the shapes do.

CUDA graphs need a GPU (tests/core/test_gpu.py). Here a recording does its work again with the tensors it was made with,
which is what a graph does: what it was not given by copying, it does not see.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import torch
from helpers.image_models import make_batch as make_images
from helpers.toy_models import make_batch, make_recipe
from torch import Tensor
from unite_mm_toy.points import PointBatch

from unite_mm.training import recording
from unite_mm.training.layout import Whole
from unite_mm.training.noise import Shard, StepNoise
from unite_mm.training.recipes.joint import JointRecipe
from unite_mm.training.recording import RecordedGradients, RecordedWork, Recorder, described, records
from unite_mm_image.config import ImageConfig
from unite_mm_schemas.config import TrainConfig


class Repeated:
    """Does its work at every replay and puts the results where those of the first time are, as a CUDA graph does."""

    def __init__(self, work: Callable[[], Any], found: Any) -> None:
        self.work, self.found = work, found

    def replay(self) -> None:
        again = self.work()
        pairs = (
            [(self.found[name], again[name]) for name in again] if isinstance(again, dict) else [(self.found, again)]
        )
        for held, new in pairs:
            held.copy_(new)


class OnTheCPU(Recorder):
    """Records without a GPU, and computes nothing while it does; counts what it is asked for."""

    def __init__(self, recipe: JointRecipe) -> None:
        self.parameters = list(recipe.network.parameters())
        self.as_they_are = self.recorded = 0

    def as_it_is(self, work: Callable[[], Any]) -> Any:
        self.as_they_are += 1
        return work()

    def record(self, work: Callable[[], Any], inputs: tuple[Tensor, ...], *generators: torch.Generator) -> Any:
        self.recorded += 1
        states = [generator.get_state() for generator in generators]
        before = [None if parameter.grad is None else parameter.grad.clone() for parameter in self.parameters]
        found = work()
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        for parameter, gradient in zip(self.parameters, before, strict=True):
            if gradient is not None:
                cast(Tensor, parameter.grad).copy_(gradient)
        return recording._Recording(cast(Any, Repeated(work, found)), inputs, found)


def test_replayed_steps_have_the_gradients_and_losses_of_steps_as_they_are() -> None:
    recipe, generator = make_recipe(), torch.Generator()
    recorder = OnTheCPU(recipe)
    replayed = RecordedGradients(recipe, lambda: recorder)
    kept: list[tuple[dict[str, Tensor], dict[str, float]]] = []
    for number, size in enumerate([8, 8, 8, 8, 6, 8, 6, 6, 6, 8]):
        batch = make_batch(size)
        batch = replace(batch, points=batch.points * (1 + 0.3 * number), condition=(batch.condition + number) % 2)
        found = []
        for gradients in (recipe.backward, replayed):
            for parameter in recipe.network.parameters():
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.zero_()
            noise = StepNoise(generator.manual_seed(number), size, recipe.network.modules_of("points").layout, Shard())
            losses = gradients("points", batch, noise, nullcontext)
            flat = torch.cat([cast(Tensor, parameter.grad).flatten() for parameter in recipe.network.parameters()])
            found.append((losses, flat))
        (plain, expected), (losses, flat) = found
        kept.append((losses, {name: float(value) for name, value in plain.items()}))
        torch.testing.assert_close(flat, expected, rtol=1e-6, atol=1e-7)
    for losses, values in kept:  # a later replay overwrites nothing that was returned
        assert {name: float(value) for name, value in losses.items()} == pytest.approx(values, rel=1e-6)
    assert (recorder.recorded, recorder.as_they_are) == (2, 4)


def test_a_new_stage_forgets_the_recordings_of_the_one_before() -> None:
    recipe = make_recipe()
    made: list[OnTheCPU] = []
    replayed = RecordedGradients(recipe, lambda: made.append(OnTheCPU(recipe)) or made[-1])
    noise = StepNoise(torch.Generator(), 8, recipe.network.modules_of("points").layout, Shard())
    for stage in (1, 2):
        recipe.stage = stage
        for _ in range(4):
            replayed("points", make_batch(8), noise, nullcontext)
    assert [(recorder.as_they_are, recorder.recorded) for recorder in made] == [(2, 1), (2, 1)]


def test_work_is_recorded_after_its_first_calls_and_then_replayed() -> None:
    total = torch.zeros(())
    work = RecordedWork(lambda: total.add_(1).clone(), OnTheCPU(make_recipe()))
    # Recording computes nothing on a GPU; here it adds once more.
    assert [float(work()) for _ in range(5)] == [1, 2, 4, 5, 6]


def test_a_batch_is_told_apart_by_all_but_the_contents_of_its_tensors() -> None:
    batch = make_batch(6)
    tensors, key = described(batch)
    assert {id(tensor) for tensor in tensors} == {id(batch.points), id(batch.registers.mask), id(batch.condition)}
    assert described(replace(batch, points=batch.points + 1))[1] == key
    full = replace(batch, registers=replace(batch.registers, padded=False))
    others = [make_batch(5), replace(batch, points=batch.points.double()), replace(batch, condition=None), full]
    keys = [key, *(described(other)[1] for other in others)]
    assert len(set(keys)) == len(keys)
    images = make_images(3, ImageConfig(size=16, patch=8))
    assert described(images)[1] == described(make_images(3, ImageConfig(size=16, patch=8)))[1] != key


@dataclass(frozen=True)
class Listed(PointBatch):
    """A batch with something that is copied nowhere."""

    more: list[Tensor] = field(default_factory=list)


def test_a_batch_with_contents_of_another_kind_is_never_recorded() -> None:
    recipe = make_recipe()
    recorder = OnTheCPU(recipe)
    replayed = RecordedGradients(recipe, lambda: recorder)
    noise = StepNoise(torch.Generator(), 8, recipe.network.modules_of("points").layout, Shard())
    for _ in range(5):
        batch = make_batch(8)
        replayed("points", Listed(batch.points, batch.registers, batch.condition), noise, nullcontext)
    assert (recorder.recorded, recorder.as_they_are) == (0, 5)
    assert described(object()) == ((), None)


def test_only_whole_weights_on_a_gpu_are_recorded() -> None:
    settings = TrainConfig(cuda_graphs=True)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")

    class InRows(Whole):
        """Weights in rows."""

    assert records(Whole(), settings, cuda)
    assert not records(Whole(), settings, cpu)
    assert not records(Whole(), TrainConfig(), cuda)
    assert not records(InRows(), settings, cuda)
