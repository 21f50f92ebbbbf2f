"""The exported schemas and the configuration reference agree with the models."""

import json
from pathlib import Path

import pytest
from helpers.repository import ROOT
from pydantic import ValidationError

from unite_mm.registry import discover
from unite_mm_schemas.base import Schema
from unite_mm_schemas.card import DataCard
from unite_mm_schemas.config import RunConfig, SamplingConfig, TrainConfig, TrunkConfig
from unite_mm_schemas.export import SCHEMAS, configuration_reference, json_schema, write_schemas
from unite_mm_schemas.manifest import RESERVED_NAMES


def test_the_json_schemas_are_in_step(tmp_path: Path) -> None:
    written = write_schemas(tmp_path)
    assert [path.stem for path in written] == list(SCHEMAS)
    for path in written:
        stored = ROOT / "schemas" / "json" / path.name
        assert stored.read_text() == path.read_text(), "run: unite-mm schema --export schemas/json"
    assert {path.name for path in (ROOT / "schemas" / "json").iterdir()} == {path.name for path in written}


def test_the_configuration_reference_is_in_step() -> None:
    stored = (ROOT / "docs" / "configuration.md").read_text()
    plugins = discover().plugins
    expected = configuration_reference({name: plugins[name].load_configuration() for name in ("image", "qm9")})
    assert stored == expected, "run: unite-mm schema --markdown --modality image --modality qm9 > docs/configuration.md"


def test_the_reference_names_every_key_with_its_help() -> None:
    text = configuration_reference({})
    for section in ("trunk", "latent", "flow", "optim", "train", "sampling"):
        model = RunConfig.model_fields[section].annotation
        assert isinstance(model, type) and issubclass(model, Schema)
        for name, field in model.model_fields.items():
            assert field.description
            (row,) = [line for line in text.splitlines() if line.startswith(f"| `{section}.{name}` ")]
            assert " ".join(field.description.split()).replace("|", "\\|") in row
    assert "| `trunk.width` | integer, >= 8, <= 65536 | `128` |" in text
    assert "| `train.max_steps` | integer or null, >= 1, <= 1000000000000 | `null` |" in text
    assert '| `train.precision` | `32-true`, `bf16-mixed` | `"32-true"` |' in text
    assert "| `optim.betas` | list of number, number | `[0.9, 0.999]` |" in text


def test_the_reference_names_the_keys_of_every_kind_of_a_section() -> None:
    text = configuration_reference({})
    for key in ("regime.kind", "regime.stop_gradient", "recipe.kind", "recipe.init_trunk", "recipe.init"):
        assert f"| `{key}` |" in text
    assert "[]." not in text


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_has_a_help_text_and_unknown_keys_are_refused(name: str) -> None:
    schema = json_schema(name)
    objects = [schema, *schema.get("$defs", {}).values()]
    for entry in (entry for entry in objects if entry["type"] == "object"):
        assert entry["additionalProperties"] is False
        for key, field in entry["properties"].items():
            assert field.get("description"), f"{entry['title']}.{key}"


def test_no_section_of_a_run_can_be_the_name_of_a_modality() -> None:
    assert set(RESERVED_NAMES) == set(RunConfig.model_fields)


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (TrunkConfig, {"width": 128, "heads": 3}, "trunk.heads=3 must divide trunk.width=128"),
        (TrunkConfig, {"width": 12, "heads": 4}, "into even parts"),
        (TrunkConfig, {"in_context_tokens": 2, "depth": 4}, "trunk.in_context_start=4 must be below trunk.depth=4"),
        (TrainConfig, {"max_steps": 1, "max_time": 1.0}, "exclude each other"),
        (TrainConfig, {"batch_size": 5, "devices": 2}, "must be a multiple of train.devices=2"),
        (SamplingConfig, {"solver": "rk45"}, "solver"),
    ],
)
def test_rules_over_several_keys(model: type, values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model(**values)


def test_models_are_frozen_and_survive_json() -> None:
    card = DataCard(
        modality="m",
        name="n",
        description="d",
        read=3,
        kept=2,
        splits={"train": 2},
        split_hash="0",
        settings={"a": 1.5},
    )
    assert DataCard.model_validate(json.loads(card.model_dump_json())) == card
    with pytest.raises(ValidationError, match="frozen"):
        card.read = 4
