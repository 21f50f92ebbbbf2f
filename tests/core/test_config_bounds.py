"""Every number of a configuration is finite and bounded; what resolves can be read back."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.made_up_plugins import FakePlugin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from unite_mm.config import RunOptions, resolve
from unite_mm.errors import UsageError
from unite_mm.registry import discover
from unite_mm.utils.schema_tree import dotted_keys
from unite_mm_schemas.checkpoint import CheckpointRecord, ModalityRecord
from unite_mm_schemas.config import RunConfig, SamplingConfig
from unite_mm_schemas.export import schema_of
from unite_mm_schemas.metrics import Histogram, Metric, MetricsReport, Score

REGISTRY = discover()

MODELS = {"run": RunConfig} | {name: REGISTRY.get(name).load_configuration() for name in ("image", "qm9")}


def numbers(schema: Any, definitions: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The path and the schema of every number in a JSON schema."""
    if isinstance(schema, list):
        for entry in schema:
            yield from numbers(entry, definitions, path)
        return
    if not isinstance(schema, dict):
        return
    if schema.get("type") in ("integer", "number") and "const" not in schema:
        yield path, schema
    if "$ref" in schema:
        yield from numbers(definitions[schema["$ref"].rpartition("/")[2]], definitions, path)
    for key in ("anyOf", "oneOf", "prefixItems", "items", "additionalProperties"):
        yield from numbers(schema.get(key), definitions, path)
    for name, inner in schema.get("properties", {}).items():
        yield from numbers(inner, definitions, f"{path}.{name}".strip("."))


@pytest.mark.parametrize("name", MODELS)
def test_every_number_has_two_bounds(name: str) -> None:
    schema = schema_of(MODELS[name])
    found = list(numbers(schema, schema.get("$defs", {})))
    assert len(found) > 8
    open_ended = {
        path
        for path, entry in found
        if not ({"minimum", "exclusiveMinimum"} & entry.keys() and {"maximum", "exclusiveMaximum"} & entry.keys())
    }
    assert not open_ended


SENSELESS = ("inf", ".inf", "-.inf", ".nan", "nan", "1e400", "-1e400", "1e30", "-1e30", "9" * 300, "9" * 5000)


@pytest.mark.parametrize("value", SENSELESS, ids=lambda value: value[:8])
def test_no_number_of_a_run_takes_a_senseless_value(value: str) -> None:
    schema = schema_of(RunConfig)
    keys = {path for path, _ in numbers(schema, schema["$defs"]) if not path.startswith("modalities")}
    assert len(keys) > 50
    for key in sorted(keys):
        text = {"guidance_interval": f"[0, {value}]", "churn_interval": f"[0, {value}]", "betas": f"[0, {value}]"}
        text["stages"] = f"[[0, 1, {value}]]"
        assignment = f"{key}={text.get(key.rpartition('.')[2], value)}"
        with pytest.raises(UsageError) as error:
            resolve(RunOptions(("points",), assignments=(assignment,)), REGISTRY)
        assert "\n" not in error.value.message


@pytest.mark.parametrize(
    "assignment",
    [
        *("optim.betas=[1.5, -2]", "optim.betas=[0.9, 1]", "optim.betas=[0.9]", "optim.betas=[-0.1, 0.9]"),
        *("optim.betas=[.nan, 0.9]", "optim.clip=0", "optim.clip=.inf", "flow.time_mean=.nan", "flow.shift=1e-320"),
        *("sampling.guidance_interval=[0.9, 0.1]", "sampling.guidance_interval=[0.5]"),
        *("sampling.guidance_interval=[-0.1, 0.5]", "sampling.guidance_interval=[0, 1.5]"),
        *("sampling.churn_interval=[.nan, .nan]", "sampling.churn_interval=[0.5, 0.2]", "sampling.churn=-1"),
        *("train.seed=-1", "train.seed=9223372036854775808", "train.seed=99999999999999999999999"),
        *("train.seed=1.5", "train.max_time=.inf", "train.max_time=1e400", "train.batch_size=1000000000"),
        *("trunk.depth=1000000", "trunk.width=100000000", "optim.schedule=stages", "optim.stages=[[0, 1, 2]]"),
        *("modalities.points.weight=.inf", "modalities.points.source=''", "points.spread=.inf", "points.spread=.nan"),
    ],
)
def test_senseless_values(assignment: str) -> None:
    with pytest.raises(UsageError):
        resolve(RunOptions(("points",), assignments=(assignment,)), REGISTRY)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_seeds_go_up_to_the_largest(seed: int) -> None:
    assert resolve(RunOptions(("points",), assignments=(f"train.seed={seed}",)), REGISTRY).train.seed == seed


@pytest.mark.parametrize(
    "value", ["levels=.inf", "levels=.nan", "deep={a: [1, {b: -.inf}]}"], ids=["inf", "nan", "deep inside"]
)
def test_a_plugin_that_allows_infinities_does_not_get_them(fake_plugin: Callable[[], FakePlugin], value: str) -> None:
    made = fake_plugin()
    made.files["__init__.py"] = ""
    made.files["config.py"] = (
        "from typing import Any\nfrom pydantic import BaseModel, ConfigDict\n"
        "class DotsConfig(BaseModel):\n    model_config = ConfigDict(extra='forbid')\n"
        "    channels: int = 4\n    levels: float = 1.0\n    deep: Any = None\n"
    )
    registry = discover([str(made.install().root)])
    with pytest.raises(UsageError, match=r"modalities\.dots\.config\.\S+: input should be a finite number \(--set"):
        resolve(RunOptions(("dots",), assignments=(f"dots.{value}",)), registry)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_records_hold_no_infinity_and_reports_keep_it(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        ModalityRecord(distribution="a 1", contract=1, statistics={"scale": [1.0, {"x": value}]})
    with pytest.raises(ValidationError, match="finite"):
        CheckpointRecord(step=1, seconds=value, config=RunConfig(), modalities={}, files={})
    with pytest.raises(ValidationError, match="finite"):
        SamplingConfig(temperature=value)
    metric = Metric(name="psnr", title="PSNR", value=value, definition="of equal images")
    histogram = Histogram(name="h", title="h", samples={"a": value})
    report = MetricsReport(
        modality="m", scores=(Score(kind="reconstruction", metrics=(metric,), histograms=(histogram,)),)
    )
    again = MetricsReport.model_validate(json.loads(report.model_dump_json()))
    for found in (again.scores[0].metrics[0].value, again.scores[0].histograms[0].samples["a"]):
        assert found == value or (found is not None and math.isnan(value) and math.isnan(found))


KEYS = [key for key in dotted_keys(RunConfig) if not key.startswith("modalities")]
ODD = st.one_of(
    st.sampled_from(
        ["", "~", "[]", "{}", "-", "yes", "1:30", "2001-99-99", "!!int x", "!!binary aGk=", "&a [*a]", "0x1F"]
    ),
    st.sampled_from([*SENSELESS, "'", "{1: 2}", "[[[[[[", "\x1b[2J", "a\nb: c", "\ud800", "\0", "*", "? a", "<<: 3"]),
    st.integers().map(str),
    st.floats().map(repr),
    st.lists(st.one_of(st.integers(-3, 3), st.floats(-2, 2), st.text(max_size=3)), max_size=4).map(json.dumps),
    st.text(max_size=12),
)
PLACES = [
    *KEYS,
    "modalities",
    "modalities.points",
    "modalities.points.config",
    "points.channels",
    "points.spread",
    "points",
]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=3))
def test_any_assignment_is_refused_or_can_be_read_back(pairs: list[tuple[str, str]]) -> None:
    try:
        config = resolve(RunOptions(("points",), assignments=tuple("=".join(pair) for pair in pairs)), REGISTRY)
    except UsageError:
        return
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
