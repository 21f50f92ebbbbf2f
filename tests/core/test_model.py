"""The Generative Encoder and UNITE: invariances of tokenization, denoising and generation."""

import pytest
import torch
from helpers.toy_models import make_model
from unite_mm_toy.points import PointBatch

from unite_mm.api import Latents
from unite_mm.contract import Registers
from unite_mm.errors import UsageError
from unite_mm.model.layers import rotary_table, rotate
from unite_mm.utils.threads import side_by_side
from unite_mm_schemas.config import SamplingConfig
from unite_mm_schemas.regime import SeparateRegime


def test_rotation_depends_on_relative_positions_only():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 1, 1, 16, generator=generator), torch.randn(1, 1, 1, 16, generator=generator)

    def score(i: int, j: int) -> float:
        left = rotate(q, rotary_table(torch.tensor([i]), 16, 100.0))
        right = rotate(k, rotary_table(torch.tensor([j]), 16, 100.0))
        return float((left * right).sum())

    assert score(3, 7) == pytest.approx(score(13, 17), rel=1e-4)
    assert score(3, 7) != pytest.approx(score(3, 8), rel=1e-3)
    assert torch.equal(rotate(q, rotary_table(torch.tensor([0]), 16, 100.0)), q)


@pytest.mark.parametrize("context", [0, 2])
def test_tokenization_does_not_depend_on_padding_or_batch_order(context):
    model = make_model(trunk={"in_context_tokens": context, "in_context_start": 1})
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(count, 2, generator=generator) for count in (1, 3, 2)]
    together = model.tokenize(samples)
    for index, sample in enumerate(samples):
        alone = model.tokenize([sample], first=index)
        assert torch.allclose(alone.values[0], together.values[index, : len(sample)], atol=1e-5)
        assert torch.all(together.values[index, len(sample) :] == 0)


def test_denoising_ignores_what_lies_in_unused_registers():
    model = make_model()
    registers = Registers.from_counts(torch.tensor([2, 3]))
    state = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    time = torch.tensor([0.3, 0.6])
    clean = model.denoise(Latents(state, registers, "points"), time).values
    disturbed = state.clone()
    disturbed[0, 2] = 1e3
    assert torch.allclose(model.denoise(Latents(disturbed, registers, "points"), time).values, clean, atol=1e-5)
    norms = clean[registers.mask].square().mean()
    assert norms > 0.1  # the comparison above is of something


def test_condition_and_time_change_the_prediction():
    model = make_model()
    registers = Registers.from_counts(torch.tensor([3]))
    latents = Latents(torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(1)), registers, "points")
    base = model.denoise(latents, torch.tensor([0.5])).values
    assert not torch.allclose(base, model.denoise(latents, torch.tensor([0.9])).values, atol=1e-3)
    first = model.denoise(latents, torch.tensor([0.5]), torch.tensor([0])).values
    second = model.denoise(latents, torch.tensor([0.5]), torch.tensor([1])).values
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first, base, atol=1e-3)


@pytest.mark.parametrize(("solver", "count", "guidance"), [("heun2", 9, 1.5), ("dopri5", 3, 1.0)])
def test_sample_k_of_a_seed_is_the_same_in_any_batch(solver, count, guidance):
    model = make_model()
    settings = SamplingConfig(solver=solver, steps=5, guidance=guidance, rtol=1e-2, atol=1e-3)
    full = model.generate(count, seed=3, sampling=settings.model_copy(update={"batch_size": 4}))
    small = model.generate(count, seed=3, sampling=settings.model_copy(update={"batch_size": 2}))
    later = model.generate(2, seed=3, first=count - 2, sampling=settings)
    for left, right in [*zip(full, small, strict=True), *zip(full[-2:], later, strict=True)]:
        assert left.shape == right.shape
        assert torch.allclose(left, right, atol=1e-4)
    other = model.generate(count, seed=4, sampling=settings)
    assert any(a.shape != b.shape or not torch.allclose(a, b, atol=1e-2) for a, b in zip(full, other, strict=True))


def test_batches_side_by_side_give_what_one_after_the_other_gives():
    model = make_model()
    settings = SamplingConfig(solver="euler", steps=5, churn=1.0, batch_size=2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = model.generate(9, seed=3, sampling=settings)
        torch.set_num_threads(3)
        together = model.generate(9, seed=3, sampling=settings)
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError):
            list(side_by_side(lambda item: 1 / item, [1, 0, 2], torch.device("cpu")))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert all(torch.allclose(left, right, atol=1e-5) for left, right in zip(alone, together, strict=True))


def test_generation_counts_function_evaluations():
    model = make_model()
    assert model.generate(3, sampling=SamplingConfig(solver="heun2", steps=7)).evaluations == 14


def test_wrong_conditions_are_refused():
    model = make_model()
    with pytest.raises(UsageError, match="no class"):
        model.generate(1, condition=4)
    with pytest.raises(UsageError, match="knows no 'qm9'"):
        model.generate(1, modality="qm9")


def test_separate_weights_double_the_encoder_and_nothing_else():
    shared, separate = make_model().network, make_model(regime=SeparateRegime()).network
    size = sum(p.numel() for p in shared.encoder.parameters())
    total = [sum(p.numel() for p in model.parameters()) for model in (shared, separate)]
    assert total[1] - total[0] == size
    assert shared.denoiser is shared.encoder and separate.denoiser is not separate.encoder


def test_start_weights_depend_on_the_seed_alone():
    torch.manual_seed(99)
    first = make_model().network.state_dict()
    torch.randn(10)
    second = make_model().network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_batches_keep_their_place():
    """Tokenizing a plugin's own batch object equals tokenizing native samples."""
    model = make_model()
    points = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    batch = PointBatch(points, Registers.from_counts(torch.tensor([3, 3])), None)
    assert torch.equal(model.tokenize(batch).values, model.tokenize(list(points)).values)
