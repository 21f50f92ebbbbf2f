"""Classes of generated sets: exact balance, independence of the set's size, and one condition for each sample."""

import pytest
import torch
from helpers.toy_models import make_model

from unite_mm.contract import ConditionSpec
from unite_mm.errors import UsageError
from unite_mm.sampling.labels import spread_labels
from unite_mm_schemas.config import SamplingConfig

TEN = ConditionSpec("classes", 10)


@pytest.mark.parametrize("count", [10, 1000, 50_000])
def test_balance_is_exact(count: int) -> None:
    labels = spread_labels("balanced", count, TEN)
    assert labels.bincount(minlength=10).tolist() == [count // 10] * 10
    assert labels.dtype == torch.int64


def test_what_does_not_divide_differs_by_one() -> None:
    counts = spread_labels("balanced", 47, TEN).bincount(minlength=10)
    assert (int(counts.min()), int(counts.max()), int(counts.sum())) == (4, 5, 47)


@pytest.mark.parametrize("how", ["balanced", "random"])
def test_a_label_depends_on_seed_and_index_alone(how) -> None:
    whole = spread_labels(how, 100, TEN, seed=3)
    assert spread_labels(how, 40, TEN, seed=3).equal(whole[:40])
    assert spread_labels(how, 60, TEN, seed=3, first=40).equal(whole[40:])


def test_random_labels_are_uniform_and_follow_the_seed() -> None:
    labels = spread_labels("random", 4000, TEN, seed=1)
    counts = labels.bincount(minlength=10).float()
    assert ((counts - 400).square() / 400).sum() < 27.9  # chi squared, 9 degrees of freedom, p = 0.001
    assert not labels.equal(spread_labels("random", 4000, TEN, seed=2))
    assert len(spread_labels("random", 0, TEN)) == 0


@pytest.mark.parametrize("spec", [ConditionSpec(), ConditionSpec("numbers", 2)])
def test_labels_need_classes(spec: ConditionSpec) -> None:
    with pytest.raises(UsageError, match="this model knows no classes"):
        spread_labels("balanced", 3, spec)


def test_each_sample_gets_its_own_condition() -> None:
    model = make_model()
    settings = SamplingConfig(steps=2, guidance=2.0)
    labels = torch.tensor([0, 3, 1, 3])
    together = model.generate(4, condition=labels, sampling=settings)
    for index, label in enumerate(labels.tolist()):
        (alone,) = model.generate(1, first=index, condition=label, sampling=settings)
        assert torch.allclose(together[index], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("condition", [[0, 1], [0, 1, 4], [[0], [1], [2]], -1, 1.5])
def test_conditions_that_do_not_fit_are_refused(condition) -> None:
    with pytest.raises(UsageError, match="condition"):
        make_model().generate(3, condition=condition)
