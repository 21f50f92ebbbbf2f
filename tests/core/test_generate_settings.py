"""What `generate` takes: single settings of sampling, and conditions by name."""

from typing import Any

import pytest
import torch
from helpers.toy_models import make_model

from unite_mm.contract import ConditionSpec
from unite_mm.errors import UsageError
from unite_mm.sampling.generate import check_conditions
from unite_mm_schemas.config import SamplingConfig

RUN = SamplingConfig(steps=3, solver="euler", temperature=0.5)
CLASSES = ConditionSpec("classes", 3, ("plus", "minus", "times"))
NUMBERS = ConditionSpec("numbers", 2, ("mass", "charge"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, RUN),
        ({"sampling": None}, RUN),
        ({"guidance": 2}, RUN.model_copy(update={"guidance": 2.0})),
        ({"sampling": {"guidance": 2}}, RUN.model_copy(update={"guidance": 2.0})),
        ({"sampling": {"guidance": 2, "steps": 1}, "steps": 2}, RUN.model_copy(update={"guidance": 2.0, "steps": 2})),
        ({"sampling": SamplingConfig(steps=1)}, SamplingConfig(steps=1)),
        ({"sampling": SamplingConfig(steps=1), "guidance": 3}, SamplingConfig(steps=1, guidance=3)),
    ],
)
def test_a_configuration_replaces_and_keywords_change_single_settings(
    given: dict[str, Any], expected: SamplingConfig
) -> None:
    model = make_model(sampling=RUN)
    found = model.generate(3, condition=1, seed=4, **given)
    same = model.generate(3, condition=1, seed=4, sampling=expected)
    assert found.evaluations == same.evaluations
    assert all(torch.equal(one, other) for one, other in zip(found, same, strict=True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"guidence": 2}, "did you mean 'guidance'"),
        ({"steps": 0}, "steps"),
        ({"sampling": {"solver": "magic"}}, "solver"),
        ({"sampling": 5}, "int holds no settings"),
        ({"sampling": "steps=5"}, "str holds no settings"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_model().generate(1, **given)


@pytest.mark.parametrize(
    ("spec", "condition", "expected"),
    [
        (CLASSES, "times", [2, 2]),
        (CLASSES, ["times", "plus"], [2, 0]),
        (CLASSES, ("minus", 2), [1, 2]),
        (CLASSES, 1, [1, 1]),
        (NUMBERS, {"charge": 2, "mass": 1.5}, [[1.5, 2.0], [1.5, 2.0]]),
        (NUMBERS, {"charge": 2, "mass": [1, 3]}, [[1.0, 2.0], [3.0, 2.0]]),
        (NUMBERS, {"charge": torch.tensor([5, 6]), "mass": 0}, [[0.0, 5.0], [0.0, 6.0]]),
        (NUMBERS, [{"charge": 2, "mass": 1}, {"mass": 4, "charge": 3}], [[1.0, 2.0], [4.0, 3.0]]),
        (NUMBERS, [1, 2], [[1.0, 2.0], [1.0, 2.0]]),
    ],
)
def test_conditions_go_by_name(spec: ConditionSpec, condition: Any, expected: list[Any]) -> None:
    found = [own.tolist() for own in check_conditions(spec, condition, 2) if own is not None]
    assert found == expected


@pytest.mark.parametrize(
    ("spec", "condition", "message"),
    [
        (CLASSES, "tims", "did you mean 'times'"),
        (CLASSES, {"plus": 1}, "does not fit"),
        (CLASSES, ["plus", "minus", "times"], "does not fit"),
        (ConditionSpec("classes", 3), "plus", "without such names"),
        (ConditionSpec(), "plus", "takes no condition"),
        (NUMBERS, "mass", "without such names"),
        (NUMBERS, {"mass": 1}, "by name: mass, charge"),
        (NUMBERS, {"mass": 1, "colour": 2}, "by name: mass, charge"),
        (NUMBERS, {"mass": "heavy", "charge": 1}, "does not fit"),
        (NUMBERS, {"mass": [1, 2], "charge": [1, 2, 3]}, "different numbers of values"),
        (NUMBERS, {"mass": [1, 2, 3], "charge": 1}, "does not fit"),
        (CLASSES, object(), "does not fit"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(spec: ConditionSpec, condition: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_conditions(spec, condition, 2)
    assert message in str(caught.value)
