"""Sections that are one of several models, told apart by `kind`: how layers merge, and how errors read.

The schema is made up: no section of a run has to be such a union for these tests to mean something.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from helpers.made_up_plugins import FakePlugin
from pydantic import Field, ValidationError

from unite_mm.config import RunOptions, resolve, resolve_resumed
from unite_mm.config.layers import Merged, merge
from unite_mm.config.options import Layer
from unite_mm.errors import UsageError
from unite_mm.registry import Registry, discover
from unite_mm.utils.schema_tree import with_default_kinds
from unite_mm.utils.validation import all_errors, first_error
from unite_mm_schemas.base import Schema


class Kettle(Schema):
    kind: Literal["kettle"] = "kettle"
    whistle: bool = True


class Urn(Schema):
    kind: Literal["urn"] = "urn"
    cups: int = Field(30, ge=1)
    tap: str = "brass"


class Leaf(Schema):
    kind: Literal["leaf"]
    grams: float = Field(2.0, gt=0)


class Bag(Schema):
    kind: Literal["bag", "sachet"]
    strings: int = 1


Boiler = Annotated[Kettle | Urn, Field(discriminator="kind")]


class Tea(Schema):
    boiler: Kettle | Urn = Field(Kettle(), discriminator="kind")
    spare: Boiler | None = None
    shelf: tuple[Boiler, ...] = ()
    stock: dict[str, Annotated[Leaf | Bag, Field(discriminator="kind")]] = Field(default_factory=dict)
    minutes: int = 4


def says(values: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        Tea.model_validate(values)
    return first_error(caught.value, Tea)


THERE_ARE = "there are: kettle, urn"


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({"boiler": {"kind": "urn", "cups": 0}}, "boiler.cups", "input should be greater than or equal to 1, not 0"),
        ({"boiler": {"kind": "urn", "cup": 3}}, "boiler.cup", "unknown key; did you mean 'cups'?"),
        ({"boiler": {"kind": "kettle", "cups": 3}}, "boiler.cups", "unknown key; kind 'urn' has it"),
        ({"boiler": {"kind": "kettle", "cupps": 3}}, "boiler.cupps", "unknown key; did you mean 'cups' of kind 'urn'?"),
        ({"boiler": {"kind": "urn", "minutes": 3}}, "boiler.minutes", "unknown key; did you mean 'minutes'?"),
        ({"boiler": {"kind": "urn", "xyzzy": 3}}, "boiler.xyzzy", "unknown key"),
        ({"boiler": {"kind": "kettel"}}, "boiler.kind", f"unknown kind 'kettel'; did you mean 'kettle'? {THERE_ARE}"),
        ({"boiler": {"kind": "stove"}}, "boiler.kind", f"unknown kind 'stove'; {THERE_ARE}"),
        ({"boiler": {"kind": 3}}, "boiler.kind", f"unknown kind '3'; {THERE_ARE}"),
        ({"boiler": {"cups": 3}}, "boiler.kind", f"is missing; {THERE_ARE}"),
        ({"boiler": "urn"}, "boiler", "must be a mapping of keys, not 'urn'"),
        ({"boiler": {"kind": "urn", "tap": {}}}, "boiler.tap", "input should be a valid string, not a mapping"),
        ({"spare": {"kind": "urn", "cup": 3}}, "spare.cup", "unknown key; did you mean 'cups'?"),
        ({"spare": {"kind": "stove"}}, "spare.kind", f"unknown kind 'stove'; {THERE_ARE}"),
        (
            {"shelf": [{"kind": "kettle"}, {"kind": "urn", "cup": 3}]},
            "shelf.1.cup",
            "unknown key; did you mean 'cups'?",
        ),
        ({"shelf": [{"kind": "stove"}]}, "shelf.0.kind", f"unknown kind 'stove'; {THERE_ARE}"),
        ({"stock": {"leaf": {"kind": "leaf", "gram": 3}}}, "stock.leaf.gram", "unknown key; did you mean 'grams'?"),
        (
            {"stock": {"green": {"kind": "sachet", "string": 3}}},
            "stock.green.string",
            "unknown key; did you mean 'strings'?",
        ),
        (
            {"stock": {"green": {"kind": "tin"}}},
            "stock.green.kind",
            "unknown kind 'tin'; there are: leaf, bag, sachet",
        ),
        ({"minutes": None}, "minutes", "input should be a valid integer, not None"),
        ({"tap": "steel"}, "tap", "unknown key; did you mean 'boiler.tap'?"),
    ],
)
def test_errors_name_keys_that_a_user_writes(values: Any, path: str, message: str) -> None:
    assert says(values) == (path, message)


def test_every_error_of_a_union_is_in_the_list() -> None:
    with pytest.raises(ValidationError) as caught:
        Tea.model_validate({"boiler": {"kind": "urn", "cups": 0, "lid": 1}, "minutes": "x"}, strict=False)
    paths = [path for path, _ in all_errors(caught.value, Tea, "tea.")]
    assert paths == ["tea.boiler.lid", "tea.boiler.cups", "tea.minutes"]


BELOW = {"boiler": {"kind": "urn", "cups": 12, "tap": "steel"}, "minutes": 3}


@pytest.mark.parametrize(
    ("above", "boiler"),
    [
        ({"kind": "kettle"}, {"kind": "kettle"}),
        ({"kind": "kettle", "whistle": False}, {"kind": "kettle", "whistle": False}),
        ({"kind": "urn", "cups": 5}, {"kind": "urn", "cups": 5, "tap": "steel"}),
        ({"cups": 5}, {"kind": "urn", "cups": 5, "tap": "steel"}),
        (None, {"kind": "urn", "cups": 12, "tap": "steel"}),
    ],
)
def test_a_section_of_another_kind_replaces_the_one_below(above: Any, boiler: dict[str, Any]) -> None:
    assert merge(BELOW, {"boiler": above}) == {"boiler": boiler, "minutes": 3}
    assert BELOW["boiler"] == {"kind": "urn", "cups": 12, "tap": "steel"}


def test_sections_inside_one_of_another_kind_go_with_it() -> None:
    below = {"kind": "a", "inner": {"kind": "x", "depth": 1}, "size": 1}
    other = {"kind": "b", "inner": {"depth": 2}}
    assert merge({"at": below}, {"at": other}) == {"at": other}
    assert merge({"at": below}, {"at": {"inner": {"kind": "y"}}}) == {"at": {**below, "inner": {"kind": "y"}}}


def test_what_was_replaced_is_not_blamed_for_an_error() -> None:
    merged = Merged({"boiler": {"kind": "kettle"}})
    merged.add(Layer("the preset", {"boiler": {"kind": "urn", "cups": 12}}))
    assert str(merged.error("boiler.cups", "too many")) == "boiler.cups: too many (the preset)"
    merged.add(Layer("the file", {"boiler": {"kind": "kettle"}}))
    merged.add(Layer("--set minutes=3", {"minutes": 3}))
    assert str(merged.error("boiler.cups", "is missing")) == "boiler.cups: is missing (the file)"
    assert str(merged.error("boiler.kind", "is odd")) == "boiler.kind: is odd (the file)"
    assert str(merged.error("minutes", "is odd")) == "minutes: is odd (--set minutes=3)"
    assert isinstance(merged.error("elsewhere", "is odd"), UsageError)
    assert str(merged.error("elsewhere", "is odd")) == "elsewhere: is odd"


def test_a_section_that_does_not_say_its_kind_is_of_the_default_one() -> None:
    assert with_default_kinds({"boiler": {"whistle": False}, "minutes": 3}, Tea) == {
        "boiler": {"kind": "kettle", "whistle": False},
        "minutes": 3,
    }
    for unchanged in ({}, {"boiler": {"kind": "urn"}}, {"boiler": 3}, {"spare": {"cups": 3}}, {"cups": {}}):
        assert with_default_kinds(unchanged, Tea) == unchanged


PLUGIN = """
from typing import Literal
from pydantic import Field
from unite_mm_schemas.base import Schema

class Kettle(Schema):
    kind: Literal["kettle"] = "kettle"
    whistle: bool = True

class Urn(Schema):
    kind: Literal["urn"] = "urn"
    cups: int = Field(30, ge=1)
    tap: str = "brass"

class DotsConfig(Schema):
    channels: int = 4
    boiler: Kettle | Urn = Field(Kettle(), discriminator="kind")
"""


@pytest.fixture
def registry(fake_plugin: Callable[[], FakePlugin]) -> Registry:
    made = fake_plugin()
    made.files |= {"__init__.py": "", "config.py": PLUGIN}
    made.files["wide.yaml"] = "train: {max_steps: 2}\nmodality: {boiler: {kind: urn, cups: 12, tap: steel}}\n"
    return discover([str(made.install().root)])


@pytest.mark.parametrize(
    ("preset", "assignments", "boiler"),
    [
        ("plain", (), {"kind": "kettle", "whistle": True}),
        ("plain", ("dots.boiler.whistle=false",), {"kind": "kettle", "whistle": False}),
        ("plain", ("dots.boiler.kind=urn",), {"kind": "urn", "cups": 30, "tap": "brass"}),
        ("plain", ("dots.boiler={kind: urn, cups: 2}",), {"kind": "urn", "cups": 2, "tap": "brass"}),
        ("plain", ("dots.boiler.kind=urn", "dots.boiler.cups=2"), {"kind": "urn", "cups": 2, "tap": "brass"}),
        ("plain", ("dots.boiler.cups=2", "dots.boiler.kind=urn"), {"kind": "urn", "cups": 2, "tap": "brass"}),
        ("wide", ("dots.boiler.cups=2",), {"kind": "urn", "cups": 2, "tap": "steel"}),
        ("wide", ("dots.boiler.kind=kettle",), {"kind": "kettle", "whistle": True}),
        ("wide", ("dots.boiler.kind=kettle", "dots.boiler.kind=urn"), {"kind": "urn", "cups": 30, "tap": "brass"}),
    ],
)
def test_layers_choose_the_kind_and_its_settings(
    registry: Registry, preset: str, assignments: tuple[str, ...], boiler: dict[str, Any]
) -> None:
    options = RunOptions(modalities=("dots",), preset=preset, assignments=assignments)
    assert resolve(options, registry).modalities["dots"].config["boiler"] == boiler


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("dots.boiler.cups=2",), "boiler.cups: unknown key; kind 'urn' has it (--set dots.boiler.cups=2)"),
        (
            ("dots.boiler.kind=stove",),
            "boiler.kind: unknown kind 'stove'; there are: kettle, urn (--set dots.boiler.kind=stove)",
        ),
        (
            ("dots.boiler.cups=0", "dots.boiler.kind=urn"),
            "boiler.cups: input should be greater than or equal to 1, not 0 (--set dots.boiler.cups=0)",
        ),
    ],
)
def test_errors_name_what_set_the_key(registry: Registry, assignments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(RunOptions(modalities=("dots",), assignments=assignments), registry)
    assert caught.value.message == f"modalities.dots.config.{message}"


def test_a_resumed_run_keeps_its_kind(registry: Registry) -> None:
    saved = resolve(RunOptions(modalities=("dots",), preset="wide"), registry)
    assert resolve_resumed(saved, RunOptions(assignments=("dots.boiler.kind=urn",)), registry) == saved
    with pytest.raises(UsageError, match=r"modalities\.dots\.config\.boiler\.kind cannot change on --resume"):
        resolve_resumed(saved, RunOptions(assignments=("dots.boiler.kind=kettle",)), registry)
