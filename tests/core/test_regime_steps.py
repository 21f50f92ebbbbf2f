"""One step of every regime: what it reaches and leaves alone, in pieces as in one graph, on two ranks as on one."""

import socket
import weakref
from typing import Any

import pytest
import torch
from helpers.commands import FORKED
from helpers.repository import load_script
from helpers.toy_models import all_gradients, gradients, make_batch, make_noise, make_regime, regime_sections
from helpers.two_ranks import Case, one_rank
from torch import Tensor

from unite_mm.config import REGIMES
from unite_mm.training.recipes.flow import FlowRecipe
from unite_mm.training.state import TrainState
from unite_mm_schemas.additions import DecodedLatentGradient, SelfAlignment, TeacherAlignment
from unite_mm_schemas.config import FlowConfig
from unite_mm_schemas.recipe import DecoderGanRecipeConfig

PLAIN = load_script("benchmarks/plain_step.py")

TOKENIZER = ("modality_modules.points.tokenizer.", "encoder.")
DECODER = "modality_modules.points.decoder."
DENOISER = "separate_denoiser."
TOKENIZER_WEIGHT = "modality_modules.points.tokenizer.embed.weight"

ALL = (*TOKENIZER, DECODER, DENOISER)

DECODED = DecodedLatentGradient(threshold=0.3, weight=0.8)

BOUND_TWICE = {"recipe": regime_sections("unified-latents")["recipe"].model_copy(update={"second_stage": 0.4})}

CASES: dict[str, tuple[Case, tuple[str, ...]]] = {
    "unite": (("unite", 1, {}), (*TOKENIZER, DECODER)),
    "unite-no-stop": (("unite-no-stop", 1, {}), (*TOKENIZER, DECODER)),
    "separate": (("separate", 1, {}), (*TOKENIZER, DECODER, DENOISER)),
    "separate-no-stop": (("separate-no-stop", 1, {}), (*TOKENIZER, DECODER, DENOISER)),
    "unified-latents": (("unified-latents", 1, BOUND_TWICE), (*TOKENIZER, DECODER, DENOISER)),
    "unified-latents, second stage": (("unified-latents", 2, BOUND_TWICE), (DENOISER,)),
    "two-stage, first": (("two-stage", 1, {}), (*TOKENIZER, DECODER)),
    "two-stage, second": (("two-stage", 2, {}), (DENOISER,)),
    "frozen-features, first": (("frozen-features", 1, {}), (DECODER,)),
    "frozen-features, second": (("frozen-features", 2, {}), ("encoder.",)),
    "frozen-features, self": (("frozen-features", 2, {"alignment": SelfAlignment()}), ("encoder.",)),
    "decoded": (("unite", 1, {"latent_gradient": DECODED}), (*TOKENIZER, DECODER)),
    "decoded, end to end": (
        ("separate", 1, {"latent_gradient": DECODED.model_copy(update={"end_to_end": True})}),
        ALL,
    ),
    "decoded, decoder too": (
        ("unite", 1, {"latent_gradient": DECODED.model_copy(update={"decoder": True})}),
        (*TOKENIZER, DECODER),
    ),
    "decoded, flow reaches": (("separate-no-stop", 1, {"latent_gradient": DECODED}), ALL),
    "decoded, bound": (
        ("unified-latents", 1, {"latent_gradient": DECODED.model_copy(update={"end_to_end": True})}),
        ALL,
    ),
    "decoded, second stage": (("two-stage", 2, {"latent_gradient": DECODED}), (DENOISER,)),
    "decoded, self": (
        ("unite", 1, {"latent_gradient": DECODED, "alignment": SelfAlignment(end_to_end=True)}),
        (*TOKENIZER, DECODER),
    ),
    "teacher": (("unite", 1, {"alignment": TeacherAlignment()}), (*TOKENIZER, DECODER)),
    "teacher, end to end": (("separate", 1, {"alignment": TeacherAlignment(end_to_end=True)}), ALL),
    "teacher, flow reaches": (("separate-no-stop", 1, {"alignment": TeacherAlignment()}), ALL),
    "teacher, bound": (("unified-latents", 1, {"alignment": TeacherAlignment(end_to_end=True)}), ALL),
    "self": (("unite", 1, {"alignment": SelfAlignment()}), (*TOKENIZER, DECODER)),
    "self, end to end": (("unite", 1, {"alignment": SelfAlignment(end_to_end=True)}), (*TOKENIZER, DECODER)),
    "self, second stage": (("two-stage", 2, {"alignment": SelfAlignment()}), (DENOISER,)),
}
"""Every regime in each of its stages, and the beginnings of the names of the parameters that a step reaches."""

each_case = pytest.mark.parametrize("name", CASES)


def recipe_of(name: str, **changes: Any) -> Any:
    (regime, stage, sections), _ = CASES[name]
    return make_regime(regime, stage=stage, **(sections | changes))


def test_every_regime_is_a_case() -> None:
    assert {case[0] for case, _ in CASES.values()} == set(REGIMES)


@each_case
def test_a_step_reaches_its_parameters_and_changes_no_other_by_a_bit(name: str) -> None:
    """Two steps of the optimizers: one alone leaves what begins at zero without a gradient."""
    recipe = recipe_of(name)
    state = TrainState(recipe.config, recipe.network, recipe)
    before = {key: value.detach().clone() for key, value in recipe.network.state_dict().items()}
    reached: set[str] = set()
    for step in range(2):
        state.optimizers.zero_grad()
        recipe.backward("points", make_batch(8), make_noise(recipe.network, 8, step=step))
        reached |= {key for key, value in gradients(recipe.network).items() if bool(value.any())}
        state.update(0.0)
        state.step += 1
    expected = CASES[name][1]
    assert {key for key in reached if not key.startswith(expected)} == set()
    for prefix in expected:
        assert any(key.startswith(prefix) for key in reached), prefix
    after = recipe.network.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert changed and all(key.startswith(expected) for key in changed)
    trained = {key for key, _ in state.optimizers.named(recipe.network)}
    assert changed <= trained and all(key.startswith(expected) for key in trained)


@each_case
def test_stop_gradient_stops_and_its_absence_lets_through(name: str) -> None:
    """Whether the weight of the flow loss changes what the tokenizer of the inputs learns."""
    found = []
    for scale in (1.0, 0.0):
        recipe = recipe_of(name)
        if isinstance(recipe, FlowRecipe):
            weight = type(recipe).flow_weight
            recipe.flow_weight = lambda modality, own=recipe, w=weight, s=scale: s * w(own, modality)  # type: ignore
        recipe.backward("points", make_batch(8), make_noise(recipe.network, 8))
        found.append(gradients(recipe.network).get(TOKENIZER_WEIGHT, torch.zeros(1)))
    (regime, stage, _), _ = CASES[name]
    reaches = stage == 1 and regime in ("unite-no-stop", "separate-no-stop", "unified-latents")
    assert torch.allclose(*found, atol=1e-7) != reaches


ADDED = [name for name, ((_, _, sections), _) in CASES.items() if {"alignment", "latent_gradient"} & sections.keys()]


@pytest.mark.parametrize("name", ADDED)
def test_an_addition_reaches_the_tokenizer_where_it_is_to_and_nowhere_else(name: str) -> None:
    found = []
    for scale in (1.0, 0.0):
        recipe = recipe_of(name, flow=FlowConfig(draws=2))
        for addition in recipe.additions:
            addition.weight *= scale
        recipe.backward("points", make_batch(8), make_noise(recipe.network, 8))
        found.append(gradients(recipe.network))
    first, second = (one.get(TOKENIZER_WEIGHT, torch.zeros(1)) for one in found)
    assert torch.allclose(first, second, atol=1e-6) != any(addition.reaches for addition in recipe.additions)
    weight = f"{DECODER}up.weight"
    assert torch.allclose(found[0][weight], found[1][weight], atol=1e-7) != (name == "decoded, decoder too")
    inside = "encoder" if recipe.network.separate_denoiser is None else "separate_denoiser"
    block = f"{inside}.trunk.blocks.0.attention.qkv.weight"
    assert not torch.allclose(found[0][block], found[1][block], atol=1e-6)


@each_case
@pytest.mark.parametrize(("draws", "chunk"), [(3, 1), (3, 2), (4, 4)])
def test_piecewise_backward_equals_one_graph(name: str, draws: int, chunk: int) -> None:
    flow = FlowConfig(draws=draws, chunk=chunk, weight=0.7)
    ours, plain = (recipe_of(name, flow=flow, weight=1.3) for _ in range(2))
    batch = make_batch(8)
    ours.backward("points", batch, make_noise(ours.network, 8))
    PLAIN.plain_backward(plain, "points", batch, make_noise(plain.network, 8))
    expected, found = gradients(plain.network), gradients(ours.network)
    assert any(bool(value.any()) for value in expected.values())
    for key in expected:
        assert torch.allclose(found[key], expected[key], rtol=1e-3, atol=1e-5), key


def peak_of_graphs(recipe: Any) -> int:
    """The most bytes of activations that a step holds at once for its backward passes."""
    held = peak = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def release(size: int) -> None:
        nonlocal held
        held -= size

    def pack(tensor: Tensor) -> Held:
        nonlocal held, peak
        # Detached: an output that its own node saves would keep that node alive for good.
        kept, size = Held(tensor.detach()), tensor.numel() * tensor.element_size()
        weakref.finalize(kept, release, size)
        held += size
        peak = max(peak, held)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        recipe.backward("points", make_batch(8), make_noise(recipe.network, 8))
    return peak


@each_case
def test_memory_does_not_grow_with_flow_minibatches(name: str) -> None:
    few, many, joined = (
        peak_of_graphs(recipe_of(name, flow=FlowConfig(draws=draws, chunk=chunk)))
        for draws, chunk in ((2, 1), (8, 1), (8, 8))
    )
    assert many <= 1.01 * few
    if recipe_of(name).denoises:
        assert joined > 1.5 * many  # the measure sees what a chunk holds


@pytest.mark.slow
def test_two_ranks_have_the_gradients_of_the_joined_batch() -> None:
    cases = [(name, stage, {**changes, "flow": FlowConfig(draws=2)}) for (name, stage, changes), _ in CASES.values()]
    cases.append(("unite", 1, {"recipe": DecoderGanRecipeConfig(init="there", warmup_steps=0)}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = FORKED.Queue()
    workers = [FORKED.Process(target=one_rank, args=(rank, port, cases, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = queue.get(timeout=240)
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    for (name, stage, changes), ours in zip(cases, found, strict=True):
        recipe = make_regime(name, stage=stage, **changes)
        recipe.backward("points", make_batch(8), make_noise(recipe.network, 8))
        for key, expected in all_gradients(recipe).items():
            assert torch.allclose(torch.from_numpy(ours[key]), expected, rtol=1e-3, atol=1e-5), (name, stage, key)
