"""The joint objective, the optimizers and the data stream."""

import copy
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from helpers.repository import load_script
from helpers.toy_models import gradients, make_batch, make_noise, make_recipe
from unite_mm_toy.config import PointsConfig
from unite_mm_toy.points import RingData

from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError
from unite_mm.model.layers import HiddenEmbedding, HiddenLinear
from unite_mm.training.data_order import BatchStream
from unite_mm.training.ema import EMA
from unite_mm.training.feed import BatchFeed
from unite_mm.training.muon import StackedMuon
from unite_mm.training.noise import Shard
from unite_mm.training.optim import Optimizers, parameter_groups
from unite_mm.training.schedule import rate_factor
from unite_mm_schemas.config import FlowConfig, LatentConfig, OptimConfig, TrainConfig
from unite_mm_schemas.regime import SeparateRegime, UniteRegime

PLAIN = load_script("benchmarks/plain_step.py")
REGIMES = [kind(stop_gradient=stop) for kind in (UniteRegime, SeparateRegime) for stop in (True, False)]


@pytest.mark.parametrize("regime", REGIMES, ids=str)
@pytest.mark.parametrize(("chunk", "reduction"), [(1, "sum"), (2, "mean"), (3, "sum")])
def test_piecewise_backward_equals_one_graph(regime, chunk, reduction):
    flow = FlowConfig(draws=3, chunk=chunk, reduction=reduction, weight=0.7)
    ours, plain = (make_recipe(flow=flow, regime=regime, weight=1.3) for _ in range(2))
    batch = make_batch(8)
    ours.backward("points", batch, make_noise(ours.network, 8))
    PLAIN.plain_backward(plain, "points", batch, make_noise(plain.network, 8))
    expected, found = gradients(plain.network), gradients(ours.network)
    assert expected["modality_modules.points.tokenizer.embed.weight"].norm() > 0
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-5), name


def test_stop_gradient_keeps_the_flow_loss_out_of_the_tokenizer():
    name = "modality_modules.points.tokenizer.embed.weight"
    norms = {}
    for stop in (True, False):
        for weight in (0.0, 1.0):
            recipe = make_recipe(flow=FlowConfig(weight=weight), regime=UniteRegime(stop_gradient=stop))
            recipe.backward("points", make_batch(8), make_noise(recipe.network, 8))
            norms[stop, weight] = gradients(recipe.network)[name]
    assert torch.allclose(norms[True, 0.0], norms[True, 1.0], atol=1e-7)
    assert not torch.allclose(norms[False, 0.0], norms[False, 1.0], atol=1e-5)


def test_decoder_noise_reaches_the_configured_share_and_range():
    noise = make_noise(make_recipe().network, 20_000)
    times = noise.decoder_times(LatentConfig(decoder_noise_probability=0.5, decoder_noise_start=0.7))
    noisy = times[times < 1]
    assert len(noisy) / len(times) == pytest.approx(0.5, abs=0.02)
    assert noisy.min() >= 0.7 and noisy.mean().item() == pytest.approx(0.85, abs=0.01)


def test_noise_of_a_rank_is_its_part_of_the_joined_noise():
    network = make_recipe().network
    whole = make_noise(network, 8).normal(2)
    parts = [make_noise(network, 8, Shard(rank, 2)).normal(3)[:, :2] for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(make_noise(network, 8, step=1).normal(2), whole)


def test_muon_gets_the_declared_matrices_and_adamw_everything_else():
    model = make_recipe().network
    groups = parameter_groups(model, "muon")
    declared = {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, HiddenLinear | HiddenEmbedding)
    }
    assert {name for name, _ in groups.muon} == declared and len(declared) > 10
    assert len(groups.muon) + len(groups.adamw) == len(list(model.parameters()))
    assert parameter_groups(model, "adamw").muon == []


@pytest.mark.parametrize(
    ("step", "progress", "expected"),
    [(5, 0.0, 0.5), (10, 0.1, 1.0), (100, 0.5, 1.0), (100, 0.75, 0.55), (100, 1.0, 0.1)],
)
def test_linear_schedule(step, progress, expected):
    config = OptimConfig(warmup_steps=10, schedule="linear", decay_start=0.5, final_rate=0.1)
    assert rate_factor(config, step, progress) == pytest.approx(expected)


def test_cosine_schedule_is_half_way_in_the_middle():
    config = OptimConfig(warmup_steps=0, schedule="cosine")
    assert rate_factor(config, 1, 0.25) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert rate_factor(OptimConfig(warmup_steps=0), 1, 0.9) == 1.0


def test_ema_ramps_then_follows_its_decay_and_swaps_back():
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    ema = EMA(module.named_parameters(), decay=0.9, ramp=True)
    module.weight.data.fill_(1.0)
    ema.set_step(1)
    ema.update()
    assert ema.average["weight"].item() == pytest.approx(1 - 2 / 11)
    ema.set_step(1000)
    ema.update()
    assert ema.average["weight"].item() == pytest.approx(1 - 0.9 * 2 / 11)
    before = ema.average["weight"].item()
    ema.swap()
    assert module.weight.item() == pytest.approx(before)
    ema.swap()
    assert module.weight.item() == 1.0


def test_what_is_recorded_for_a_gpu_moves_weights_and_average_as_what_is_not():
    """Rates and the decay are then tensors, which a replay reads; only rounding may differ."""
    moved = []
    for recorded in (False, True):
        recipe = make_recipe()
        optimizers = Optimizers(recipe.groups(), OptimConfig(weight_decay=0.1), recorded=recorded)
        ema = EMA(optimizers.named(recipe.network), decay=0.9, ramp=True, recorded=recorded)
        for number in range(4):
            optimizers.zero_grad()
            recipe.backward("points", make_batch(8), make_noise(recipe.network, 8, step=number))
            optimizers.set_rates(1.0 - 0.2 * number)
            ema.set_step(number + 1)
            optimizers.step()
            ema.update()
        moved.append({name: (live, ema.average[name]) for name, live in ema.live.items()})
    for name, pair in moved[0].items():
        for plain, other in zip(pair, moved[1][name], strict=True):
            torch.testing.assert_close(
                other, plain, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )


def test_optimizer_state_survives_a_round_trip():
    first, second = make_recipe(), make_recipe()
    optimizers = [Optimizers(recipe.groups(), OptimConfig()) for recipe in (first, second)]

    def step(recipe, optimizer, number):
        optimizer.zero_grad()
        recipe.backward("points", make_batch(8), make_noise(recipe.network, 8, step=number))
        optimizer.set_rates(1.0)
        optimizer.step()

    step(first, optimizers[0], 0)
    second.network.load_state_dict(first.network.state_dict())
    optimizers[1].load_state(optimizers[0].state())
    for recipe, optimizer in zip((first, second), optimizers, strict=True):
        step(recipe, optimizer, 1)
    for left, right in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(left, right)


def test_restored_optimizer_state_is_on_the_device_of_its_parameter():
    """All of it: on a GPU the fused AdamW refuses a count of steps that has stayed on the CPU."""
    optimizers = Optimizers(make_recipe().groups(), OptimConfig())
    optimizers.zero_grad()
    optimizers.set_rates(1.0)
    optimizers.step()
    elsewhere = Optimizers(parameter_groups(make_recipe().network.to("meta"), "muon"), OptimConfig())
    elsewhere.load_state(optimizers.state())
    states = [state for optimizer in (elsewhere.adamw, elsewhere.muon) for state in optimizer.state.values()]
    assert len(states) == len(elsewhere.parameters)
    assert all(value.device.type == "meta" for state in states for value in state.values())


@pytest.mark.parametrize("size", [1000, 64, 7])
def test_stream_visits_every_sample_once_per_epoch(size):
    stream = BatchStream(size, None, 50, seed=1)
    seen = torch.cat([stream.indices(step) for step in range(stream.batches_per_epoch)])
    counts = torch.bincount(seen, minlength=size)
    assert counts.max() - counts.min() <= 1
    again = BatchStream(size, None, 50, seed=1)
    last = 3 * stream.batches_per_epoch + 1
    assert torch.equal(again.indices(last), stream.indices(last))  # a function of the step, not of the past


class Unwilling(RingData):
    """A set that once fails to give the batch of the samples `refused`."""

    refused: list[int] | None = None

    def batch(self, split, indices, generator=None):
        if indices.tolist() == self.refused:
            self.refused = None
            raise UniteError("this one not")
        return super().batch(split, indices, generator)


def test_batches_prepared_ahead_are_those_of_their_step():
    """With the helper of a GPU on the CPU: in order, again, after a jump, and on after a failure."""
    data = Unwilling(PointsConfig(), "points", DataRequest("ring", Path()))
    settings, layout = TrainConfig(max_steps=1, batch_size=32), make_recipe().network.modules_of("points").layout
    plain, ahead = (BatchFeed(settings, 0, data, layout, torch.device("cpu"), Shard()) for _ in range(2))
    ahead._helper = ThreadPoolExecutor(1)
    for step in (0, 1, 2, 2, 9, 10, 5):
        assert torch.equal(ahead.batch(step).points, plain.batch(step).points), step
        ahead.settle()
    data.refused = ahead.stream.indices(7).tolist()
    ahead.batch(6)
    with pytest.raises(UniteError, match="this one not"):
        ahead.batch(7)
    assert torch.equal(ahead.batch(7).points, plain.batch(7).points)
    assert ahead._ahead is not None and plain._ahead is None


def test_stacked_muon_steps_as_that_of_torch():
    """For tall, wide, square and single matrices, over several steps, and from torch's own state."""
    shapes = [(8, 24), (24, 8), (8, 24), (16, 16), (24, 8), (1, 8), (8, 24)]
    random = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=random) for shape in shapes]
    made = {}
    for kind in (torch.optim.Muon, StackedMuon):
        parameters = [torch.nn.Parameter(value.clone()) for value in start]
        settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "eps": 1e-6}
        adjust = {"adjust_lr_fn": "match_rms_adamw"} if kind is torch.optim.Muon else {}
        made[kind] = parameters, kind(parameters, **settings, **adjust)
    for step in range(6):
        gradients = [torch.randn(shape, generator=random) for shape in shapes]
        for parameters, optimizer in made.values():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        if step == 2:  # what the one has gathered serves the other
            made[StackedMuon][1].load_state_dict(copy.deepcopy(made[torch.optim.Muon][1].state_dict()))
    for found, expected, before in zip(made[StackedMuon][0], made[torch.optim.Muon][0], start, strict=True):
        # Where products of bfloat16 are rounded otherwise than here, they are a hundredth apart.
        assert (found - expected).norm() < 5e-2 * (expected - before).norm()


def test_stream_joins_equal_lengths():
    lengths = torch.randint(1, 6, (5000,), generator=torch.Generator().manual_seed(0))
    stream = BatchStream(5000, lengths, 32, seed=0)
    spread = [lengths[stream.indices(step)].unique().numel() for step in range(stream.batches_per_epoch)]
    assert sum(count > 1 for count in spread) <= 5
    first = torch.cat([stream.indices(step) for step in range(20)])
    assert lengths[first].unique().numel() > 1  # batches of different lengths are mixed over the epoch


@pytest.mark.slow
def test_compiled_blocks_have_the_same_gradients_and_names():
    """For two batches of different sizes, and with the decoder's blocks compiled as well."""
    from torch._dynamo.utils import counters

    compiled, plain = make_recipe(), make_recipe()
    compiled.network.compile_for_training()
    counters.clear()
    for size in (8, 5):
        for recipe in (compiled, plain):
            recipe.backward("points", make_batch(size), make_noise(recipe.network, size))
    expected, found = gradients(plain.network), gradients(compiled.network)
    assert list(found) == list(expected)
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-5), name
    assert counters["stats"]["calls_captured"] > 0
    assert not counters["graph_break"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_tensors_get_the_memory_of_freed_ones():
    """In processes of their own: a page is touched for the first time once, not at every step."""
    program = """
import os, resource, torch
from unite_mm.training.allocator import keep_freed_memory
for keep in (True, False):
    if not os.fork():
        if keep:
            keep_freed_memory()
        for _ in range(20):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(96 << 18)  # 96 MiB
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, flush=True)
        os._exit(0)
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    kept, plain = map(int, done.stdout.split())
    assert 10 * kept < plain
