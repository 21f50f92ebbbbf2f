"""Exported models, and models that ship with plugins: written small, found by name, never written to."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.made_up_plugins import FakePlugin
from helpers.repository import ROOT, TOY

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.errors import UsageError
from unite_mm.registry import discover
from unite_mm.registry.models import model_folder, shipped_at, shipped_model
from unite_mm.sampling.generate import largest_batch
from unite_mm.storage.checkpoint import read_record, read_tensors
from unite_mm.storage.front_matter import without_front_matter
from unite_mm.storage.model_card import model_card
from unite_mm.storage.portable import portable_record, portable_report
from unite_mm.storage.runs import newest_checkpoint
from unite_mm_schemas.config import SamplingConfig
from unite_mm_schemas.metrics import Metric, MetricsReport, Score

NAME = "rings-tiny"


@dataclass
class Site:
    """A plugin `rings` that ships a model of two steps, and the run it comes from."""

    plugin: FakePlugin
    run: Path
    model: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("runs") / "rings"
    manifest: dict[str, Any] = {
        "name": "rings",
        "description": "Rings of points",
        "contract": 2,
        "configuration": "unite_mm_toy.config:PointsConfig",
        "implementation": "unite_mm_toy.points:Points",
        "default_preset": "plain",
        "presets": [{"name": "plain", "file": "plain.yaml", "description": "as it comes"}],
        "sources": [{"name": "ring", "description": "drawn", "offline": True, "licence": "CC0-1.0"}],
        "default_source": "ring",
        "formats": [{"suffix": ".csv", "description": "text"}],
    }
    files: dict[str, str | bytes] = {"__init__.py": "", "plain.yaml": (TOY / "unite_mm_toy" / "toy.yaml").read_bytes()}
    plugin = FakePlugin(
        root, "rings_of_points", manifest, files, ("rings", "PACKAGE:modality.yaml"), {}, "rings-plugin"
    )
    plugin.install()
    model = root / plugin.package / "models" / NAME
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        settings = ["--set", "sampling.steps=3", "--set", "train.checkpoint_every=1", "--set", "rings.spread=0.06"]
        assert run(["train", "--modality", "rings", "--max-steps", "2", *settings, "--out", str(folder)]) == 0
        assert run(["export", str(folder), "-o", str(model), "--dtype", "bfloat16"]) == 0
        manifest["models"] = [{"name": NAME, "folder": f"models/{NAME}", "description": "rings, two steps of training"}]
        plugin.install()
        yield Site(plugin, folder, model)


def state(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(folder)), path.stat().st_mtime_ns) for path in folder.rglob("*"))


# ------------------------------------------------------------------------------------------------------------ export


def test_an_export_holds_averaged_weights_a_record_and_a_card(site: Site, tmp_path: Path) -> None:
    assert run(["export", str(site.run), "-o", str(tmp_path / "full")]) == 0
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == [
        "README.md",
        "record.json",
        "weights.safetensors",
    ]
    where, *_ = newest_checkpoint(site.run)
    averaged, raw = read_tensors(where, "ema"), read_tensors(where, "weights")
    written, halved = read_tensors(tmp_path / "full", "weights"), read_tensors(site.model, "weights")
    assert written.keys() == halved.keys() == raw.keys()
    for name, tensor in written.items():
        assert torch.equal(tensor, averaged.get(name, raw[name]))
        kind = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
        assert halved[name].dtype == kind
        assert torch.equal(halved[name], tensor.to(kind))
    record = read_record(site.model)
    assert (record.kind, record.step) == ("export", 2)


def test_bfloat16_weights_load_as_float32_and_give_nearly_the_same_samples(site: Site, tmp_path: Path) -> None:
    assert run(["export", str(site.run), "-o", str(tmp_path / "full")]) == 0
    exact, rounded = UNITE.from_pretrained(tmp_path / "full"), UNITE.from_pretrained(NAME)
    assert {parameter.dtype for parameter in rounded.network.parameters()} == {torch.float32}
    for one, other in zip(exact.generate(8), rounded.generate(8), strict=True):
        assert torch.allclose(one, other, atol=0.1)
    for one, other in zip(exact.generate(8), UNITE.from_pretrained(site.run).generate(8), strict=True):
        assert torch.equal(one, other)


def test_a_step_is_chosen_and_others_are_named(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(site.run), "-o", str(tmp_path / "one"), "--step", "1"]) == 0
    assert read_record(tmp_path / "one").step == 1
    assert run(["export", str(site.run), "-o", str(tmp_path / "two"), "--step", "7"]) == 2
    assert re.search(r"--step 7: .* has no such checkpoint\n  it has: 1, 2", capsys.readouterr().err)


def test_flags_of_the_sampler_are_what_an_export_samples_with(site: Site, tmp_path: Path) -> None:
    flags = ["--steps", "3", "--temperature", "0.5", "--churn-interval", "0.2:0.7", "--churn", "1"]
    assert run(["export", str(site.run), "-o", str(tmp_path / "out"), *flags]) == 0
    original, exported = UNITE.from_pretrained(site.run), UNITE.from_pretrained(tmp_path / "out")
    given = {"steps": 3, "temperature": 0.5, "churn_interval": (0.2, 0.7), "churn": 1.0}
    assert exported.config.sampling == original.config.sampling.model_copy(update=given)
    for one, other in zip(exported.generate(4), original.generate(4, **given), strict=True):
        assert torch.equal(one, other)
    assert run(["export", str(site.run), "-o", str(tmp_path / "bad"), "--steps", "0"]) == 2
    assert not (tmp_path / "bad").exists()


def test_an_export_works_elsewhere_and_names_no_path_of_this_machine(site: Site, tmp_path: Path) -> None:
    run_folder = tmp_path / "fine"
    flags = ["--recipe", "decoder", "--init", str(site.run), "--max-steps", "1", "--data", "ring"]
    assert run(["train", *flags, "--out", str(run_folder)]) == 0
    assert str(site.run) in (run_folder / "config.json").read_text()
    assert run(["export", str(run_folder), "-o", str(tmp_path / "out")]) == 0
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").iterdir():
        for part in (tmp_path, site.run, ROOT, Path.home()):
            assert str(part).encode() not in path.read_bytes(), path.name
    assert len(UNITE.from_pretrained(tmp_path / "elsewhere").generate(2)) == 2


def test_paths_are_cut_down_to_names_and_nothing_else_is(tmp_path: Path, site: Site) -> None:
    record = read_record(site.model)
    card = record.modalities["rings"].card
    assert card is not None
    entry = record.modalities["rings"].model_copy(
        update={
            "card": card.model_copy(update={"notes": (f"read from {tmp_path}/points.csv, then F/C=C/F and a//b/c",)}),
            "statistics": {"names": ["/m/01g317", "C(/C=C/C)=O"], "count": 3},
        }
    )
    config = record.config.model_dump()
    config["modalities"]["rings"]["source"] = "/nowhere/at/all/mine.sdf"
    config["modalities"]["rings"]["config"]["list"] = "~/classes.txt"
    found = portable_record(
        record.model_copy(update={"modalities": {"rings": entry}, "config": type(record.config).model_validate(config)})
    )
    kept = found.modalities["rings"]
    assert kept.card is not None and kept.card.notes == ("read from points.csv, then F/C=C/F and a//b/c",)
    assert kept.statistics == {"names": ["/m/01g317", "C(/C=C/C)=O"], "count": 3}
    assert found.config.modalities["rings"].source == "mine.sdf"
    assert found.config.modalities["rings"].config["list"] == "classes.txt"
    report = MetricsReport(modality="rings", source=str(tmp_path), data=f"points of {tmp_path}/x.csv")
    again = portable_report(report, "mine")
    assert (again.source, again.data) == ("mine", "points of x.csv")


def test_the_card_says_what_it_is_how_to_make_it_and_how_to_use_it(site: Site) -> None:
    card = (site.model / "README.md").read_text()
    for part in (
        f"# {NAME}",
        "modality `rings`",
        "after 2 steps, written as bfloat16",
        f"unite-mm sample {NAME} -n 1000 -o samples.csv",
        f'UNITE.from_pretrained("{NAME}")',
        "Licence of the data: CC0-1.0",
        "| `modalities.rings.config.spread` | 0.05 | 0.06 |",
        "unite-mm train --modality rings --preset plain --max-steps 2 --set rings.spread=0.06",
        "Not evaluated yet",
    ):
        assert part in card, part


def test_the_card_begins_with_the_metadata_of_hubs(site: Site, tmp_path: Path) -> None:
    assert run(["export", str(site.run), "-o", str(tmp_path / "out"), "--licence", "MIT"]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: unite-mm\nlicense: mit\ntags:\n")
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["datasets"] == ["ring"] and "rings" in metadata["tags"] and "metrics" not in metadata
    assert "license" not in yaml.safe_load((site.model / "README.md").read_text().split("---\n")[1])
    assert without_front_matter(text).startswith("# out\n")
    assert without_front_matter("# a card\n---\n") == "# a card\n---\n"


def test_the_card_takes_the_table_of_an_evaluation(site: Site, tmp_path: Path) -> None:
    share = Metric(
        name="valid", title="valid | strict", value=0.5, count=5, total=10, interval=(0.2, 0.8), reference=0.98,
        definition="x", group="validity",
    )  # fmt: skip
    score = Score(kind="generation", metrics=(share,), reference="10 held out", notes=("a note",))
    report = MetricsReport(modality="rings", data="rings", step=2, source="/x/y", scores=(score,))
    text = model_card("m", read_record(site.model), report, parameters=1, dtype="float32")
    assert "| valid \\| strict | 50.00 % | 20.00 % to 80.00 % | 10 | 98.00 % |" in text
    assert "Reference: 10 held out" in text and "- a note" in text and "### Generation" in text
    path = tmp_path / "metrics.json"
    path.write_text(report.model_dump_json())
    assert run(["export", str(site.run), "-o", str(tmp_path / "out"), "--metrics", str(path), "--name", "mine"]) == 0
    kept = MetricsReport.model_validate_json((tmp_path / "out" / "metrics.json").read_text())
    assert (kept.source, kept.scores) == ("mine", report.scores)
    card = (tmp_path / "out" / "README.md").read_text()
    assert without_front_matter(card).startswith("# mine\n")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["metrics"] == ["valid"] and metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    assert run(["export", str(site.run), "-o", str(tmp_path / "out")]) == 0, "an earlier export is replaced"
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{}", "is no report: modality: is missing"),
        ('{"modality": "points", "step": 2}', "which the model does not have"),
        ('{"modality": "rings", "step": 1}', "scores of step 1, but the model is of step 2"),
        ('{"modality": "rings"}', "scores of a file of samples"),
    ],
)
def test_scores_of_another_model_are_refused(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_text(content)
    assert run(["export", str(site.run), "-o", str(tmp_path / "out"), "--metrics", str(path)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------- names


def test_names_and_paths_are_resolved(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_folder(NAME) == site.model == shipped_model(NAME).folder
    assert model_folder(site.run) == site.run
    for named in (NAME, site.model, str(site.model)):
        found = shipped_at(named)
        assert found is not None and found.name == NAME
    assert shipped_at(site.run) is None and shipped_at("nothing") is None
    shutil.copytree(site.run, tmp_path / NAME)
    assert model_folder(NAME) == Path(NAME), "a path that exists counts first"
    assert shipped_at(NAME) is None


@pytest.mark.parametrize(
    ("named", "hint"), [("ring-tiny", "did you mean 'rings-tiny'?"), ("runs/gone", "give a run folder"), ("xyz", "RUN")]
)
def test_what_is_neither_a_path_nor_a_name_is_told(
    site: Site, capsys: pytest.CaptureFixture[str], named: str, hint: str
) -> None:
    assert run(["sample", named, "-o", "x.csv"]) == 2
    err = capsys.readouterr().err
    assert f"error: {named} does not exist, and no model has that name\n" in err
    assert "`unite-mm models list`" in err
    assert hint == "RUN" or hint in err
    with pytest.raises(UsageError, match="no model has that name"):
        UNITE.from_pretrained(named)


def test_two_plugins_that_ship_one_name(site: Site, fake_plugin: Callable[[], FakePlugin]) -> None:
    other = fake_plugin()
    assert isinstance(other.manifest, dict)
    other.manifest["models"] = [{"name": NAME, "folder": "models", "description": "another"}]
    other.install()
    shutil.copytree(site.model, other.root / other.package / "models")
    with pytest.raises(UsageError, match=r"claimed by modality 'dots' of dots-plugin 2.0 and modality 'rings'"):
        model_folder(NAME)


def test_models_are_listed_and_shown(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(NAME))
    assert re.fullmatch(rf"{NAME} +rings +0\.\dM +0\.\d MB +rings, two steps of training", line)
    assert run(["models", "show", NAME]) == 0
    assert capsys.readouterr().out.startswith(f"# {NAME}\n")
    assert run(["models", "show", "rings-tniy"]) == 2
    assert "did you mean 'rings-tiny'?" in capsys.readouterr().err
    assert run(["plugins", "show", "rings"]) == 0
    assert "trained models" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------- nothing written


def test_every_command_takes_the_name_and_writes_nothing_beside_the_model(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = state(site.model)
    assert run(["sample", NAME, "-n", "3", "-o", "samples.csv"]) == 0
    assert run(["reconstruct", NAME, "samples.csv", "-o", "again.csv"]) == 0
    small = ["--samples", "10", "--reconstructions", "10", "--no-pictures"]
    assert run(["evaluate", NAME, *small]) == 0
    assert f"report.html are in {NAME}-evaluation" in capsys.readouterr().out
    assert run(["evaluate", str(site.model), *small, "-o", "named"]) == 0
    assert run(["export", NAME, "-o", "copy"]) == 0
    assert run(["train", "--recipe", "decoder", "--init", NAME, "--max-steps", "1", "--out", "finer"]) == 0
    assert run(["train", "--modality", "rings", "--init-trunk", NAME, "--max-steps", "1", "--out", "trunk"]) == 0
    names = {"samples.csv", "again.csv", f"{NAME}-evaluation", "named", "copy", "finer", "trunk"}
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == names
    assert state(site.model) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--resume", "--out", NAME], "is a model that ships with a plugin, no run"),
        (["train", "--resume", "--out", "MODEL"], "is a model that ships with a plugin, no run"),
        (["train", "--resume", "--out", "COPY"], "is an exported model or a single checkpoint, no run"),
        (["train", "--modality", "rings", "--out", "MODEL"], "is not empty"),
        (["export", "RUN", "-o", "MODEL"], "is a model that ships with a plugin"),
        (["export", "RUN", "-o", "RUN"], "is not empty"),
    ],
)
def test_commands_that_would_change_a_model_are_refused(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    shutil.copytree(site.model, tmp_path / "copy")
    places = {"MODEL": str(site.model), "RUN": str(site.run), "COPY": str(tmp_path / "copy")}
    before = state(site.model)
    assert run([places.get(word, word) for word in arguments]) == 2
    assert message in capsys.readouterr().err
    assert state(site.model) == before


# ---------------------------------------------------------------------------------------------------------- checking


def not_there(site: Site, folder: Path) -> None:
    """modality.yaml: the model 'rings-tiny' has no file 'models/rings-tiny/record.json'"""
    shutil.rmtree(folder)


def damaged(site: Site, folder: Path) -> None:
    """weights.safetensors is missing or damaged"""
    (folder / "weights.safetensors").write_bytes(b"x")


def a_checkpoint(site: Site, folder: Path) -> None:
    """the model rings-tiny is a checkpoint, several times as large as an export"""
    shutil.rmtree(folder)
    shutil.copytree(newest_checkpoint(site.run)[0], folder)


def no_record(site: Site, folder: Path) -> None:
    """record.json cannot be read"""
    (folder / "record.json").write_text("{")


def another_modality(site: Site, folder: Path) -> None:
    """the model rings-tiny has no modality 'rings', but points"""
    record = json.loads((folder / "record.json").read_text())
    record["modalities"] = {"points": record["modalities"].pop("rings")}
    (folder / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize("spoil", [not_there, damaged, a_checkpoint, no_record, another_modality])
def test_the_checks_of_a_plugin_find_a_model_that_is_wrong(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Site, Path], None]
) -> None:
    assert run(["plugins", "check", "rings"]) == 0
    whole = tmp_path / "whole"
    shutil.copytree(site.model, whole)
    try:
        spoil(site, site.model)
        assert run(["plugins", "check", "rings"]) == 1
        assert (spoil.__doc__ or "") in capsys.readouterr().out
    finally:
        shutil.rmtree(site.model, ignore_errors=True)
        shutil.copytree(whole, site.model)


# ------------------------------------------------------------------------------------------------------- our own ones


def test_our_own_models_have_cards_and_sample() -> None:
    """The models in the checkout, as many as there are."""
    for plugin in discover().plugins.values():
        if ROOT not in plugin.folder.parents:
            continue
        for entry in plugin.manifest.models:
            folder = plugin.folder / entry.folder
            assert (folder / "README.md").is_file() and (folder / "metrics.json").is_file()
            assert len(UNITE.from_pretrained(entry.name).generate(2, modality=plugin.name, steps=2)) == 2


@pytest.mark.parametrize(
    ("settings", "count", "threads", "expected"),
    [
        ({}, 1000, 1, 256),
        ({}, 1000, 2, 125),
        ({}, 100, 2, 32),
        ({}, 100_000, 2, 256),
        ({"batch_size": 8}, 1000, 2, 8),
        ({"solver": "dopri5"}, 1000, 2, 1),
        ({"solver": "dopri5", "joint_steps": True}, 1000, 2, 256),
    ],
)
def test_batches_of_sampling_are_even_over_threads(
    settings: dict[str, Any], count: int, threads: int, expected: int
) -> None:
    assert largest_batch(SamplingConfig(**settings), count, threads) == expected
