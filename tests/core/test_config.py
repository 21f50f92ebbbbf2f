"""Resolution of the configuration: what wins over what, and how errors read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.made_up_plugins import FakePlugin

from unite_mm.config import (
    Layer,
    RunOptions,
    parse_duration,
    resolve,
    resolve_plugin,
    resolve_resumed,
    settings_that_differ,
    trunk_layer,
)
from unite_mm.errors import UsageError
from unite_mm.registry import Registry, discover
from unite_mm_schemas.config import RunConfig

MakePlugin = Callable[[], FakePlugin]


@pytest.fixture
def registry(fake_plugin: MakePlugin) -> Registry:
    """Two modalities: dots (presets plain, wide) and spots (presets plain, tall)."""
    dots, spots = fake_plugin(), fake_plugin()
    dots.files["__init__.py"] = spots.files["__init__.py"] = ""
    spots.distribution, spots.entry = "spots-plugin", ("spots", spots.entry[1])
    spots.manifest["name"] = "spots"
    spots.manifest["presets"] = [
        {"name": "plain", "file": "plain.yaml", "description": "as it comes"},
        {"name": "tall", "file": "wide.yaml", "description": "taller"},
    ]
    return discover([str(plugin.install().root) for plugin in (dots, spots)])


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_every_layer_wins_over_the_one_before(registry: Registry, tmp_path: Path) -> None:
    def width_and_steps(**options: object) -> tuple[int, int | None]:
        config = resolve(RunOptions(modalities=("dots",), **options), registry)
        return config.trunk.width, config.train.max_steps

    file = write(tmp_path, "trunk: {width: 64}\ntrain: {max_steps: 30}\n")
    assert width_and_steps() == (128, 10)
    assert width_and_steps(preset="wide") == (256, 20)
    assert width_and_steps(preset="wide", file=file) == (64, 30)
    assigned = ("trunk.width=32", "train.max_steps=40")
    assert width_and_steps(preset="wide", file=file, assignments=assigned) == (32, 40)
    flags = {"train": {"max_steps": 50}}
    assert width_and_steps(preset="wide", file=file, assignments=assigned, flags=flags) == (32, 50)
    assert width_and_steps(assignments=("trunk.width=32", "trunk.width=48")) == (48, 10)


def test_the_trunk_of_another_run_counts_above_the_presets_and_below_everything_else(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = resolve(RunOptions(modalities=("spots",), assignments=("trunk.width=64", "trunk.depth=7")), registry)
    base = (trunk_layer(other, Path("other")),)
    file = write(tmp_path, "trunk: {depth: 2}\n")
    config = resolve(RunOptions(modalities=("dots",), preset="wide", file=file, base=base), registry)
    assert (config.trunk.width, config.trunk.depth, config.recipe.init_trunk) == (64, 2, str(tmp_path / "other"))
    assert config.modalities["dots"].config["channels"] == 8
    wrong = Layer("--init-trunk other", {"trunk": {"widht": 3}})
    with pytest.raises(UsageError, match=r"trunk\.widht: unknown key; .*\(--init-trunk other\)"):
        resolve(RunOptions(modalities=("dots",), base=(wrong,)), registry)


def test_the_plugins_configuration_is_stored_complete(registry: Registry) -> None:
    def own(**options: object) -> dict[str, object]:
        return resolve(RunOptions(modalities=("dots",), **options), registry).modalities["dots"].config

    assert own() == {"channels": 4, "shade": "grey"}
    assert own(preset="wide") == {"channels": 8, "shade": "grey"}
    assert own(preset="wide", assignments=("dots.shade=red",)) == {"channels": 8, "shade": "red"}
    assert own(assignments=("modalities.dots.config.channels=2",)) == {"channels": 2, "shade": "grey"}


@pytest.mark.parametrize(
    "text",
    ["modality: {channels: 5}", "modalities: {dots: {config: {channels: 5}}}", '{"modality": {"channels": 5}}'],
)
def test_a_file_sets_the_plugins_keys_either_way(registry: Registry, tmp_path: Path, text: str) -> None:
    config = resolve(RunOptions(modalities=("dots",), file=write(tmp_path, text)), registry)
    assert config.modalities["dots"].config["channels"] == 5


def test_a_resolved_configuration_resolves_to_itself(registry: Registry, tmp_path: Path) -> None:
    config = resolve(RunOptions(modalities=("dots",), preset="wide", assignments=("flow.draws=3",)), registry)
    saved = tmp_path / "config.json"
    saved.write_text(config.model_dump_json())
    assert resolve(RunOptions(file=saved), registry) == config


def test_several_modalities_share_the_first_ones_preset_and_keep_their_own_keys(registry: Registry) -> None:
    config = resolve(RunOptions(modalities=("dots", "spots"), preset="wide"), registry)
    assert (config.trunk.width, config.train.max_steps) == (256, 20)
    assert config.modalities["dots"].config["channels"] == 8
    assert config.modalities["spots"].config["channels"] == 4  # it has no preset `wide`: its default one
    swapped = resolve(RunOptions(modalities=("spots", "dots"), preset="tall"), registry)
    assert list(swapped.modalities) == ["spots", "dots"]
    assert swapped.modalities["spots"].config["channels"] == 8
    set_both = resolve(RunOptions(modalities=("dots", "spots"), assignments=("spots.channels=1",)), registry)
    assert [run.config["channels"] for run in set_both.modalities.values()] == [4, 1]


@pytest.mark.parametrize(
    ("assignments", "flags", "expected"),
    [
        (("train.max_time=60",), {}, (None, 60.0)),
        (("train.max_time=2m",), {}, (None, 120.0)),
        (("train.max_time=60",), {"max_steps": 7}, (7, None)),
        (("train.max_time=60", "train.max_steps=5"), {}, (5, None)),
        ((), {"max_time": 5.0}, (None, 5.0)),
    ],
)
def test_the_last_length_replaces_the_other_kind(
    registry: Registry, assignments: tuple[str, ...], flags: dict, expected: tuple
) -> None:
    options = RunOptions(modalities=("dots",), assignments=assignments, flags={"train": flags})
    train = resolve(options, registry).train
    assert (train.max_steps, train.max_time) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("optim.learning_rate=1e-3", 1e-3),
        ("optim.betas=[0.9, 0.95]", (0.9, 0.95)),
        ("optim.muon_learning_rate=null", None),
        ("optim.ema_ramp=false", False),
        ("optim={clip: 1.0}", 1.0),
    ],
)
def test_values_are_read_as_yaml(registry: Registry, text: str, value: object) -> None:
    config = resolve(RunOptions(modalities=("dots",), assignments=(text,)), registry)
    key = text.partition("=")[0].partition(".")[2] or "clip"
    assert getattr(config.optim, key) == value


def test_sources_that_exist_are_stored_absolute(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("")
    (tmp_path / "drawn").write_text("a file that happens to be called like a source")

    def source(*texts: str, modalities: tuple[str, ...] = ("dots",)) -> list[str | None]:
        config = resolve(RunOptions(modalities=modalities, sources=texts), registry)
        return [run.source for run in config.modalities.values()]

    assert source("mine.csv") == [str(tmp_path / "mine.csv")]
    assert source("drawn") == ["drawn"]
    assert source("dots=drawn") == ["drawn"]
    assert source("a=b.csv") == ["a=b.csv"]
    assert source("spots=drawn", modalities=("dots", "spots")) == [None, "drawn"]


# What is asked for, and the message that must follow (the whole of it).
ERRORS = {
    "unknown section": (
        {"assignments": ("truck.width=3",)},
        "--set truck.width=3: unknown key 'truck'\n  did you mean 'trunk'?",
    ),
    "key without its section": (
        {"assignments": ("learning_rate=3",)},
        "--set learning_rate=3: unknown key 'learning_rate'\n  did you mean 'optim.learning_rate'?",
    ),
    "misspelt modality": (
        {"assignments": ("dost.channels=3",)},
        "--set dost.channels=3: unknown key 'dost'\n  did you mean 'dots'?",
    ),
    "misspelt key": (
        {"assignments": ("trunk.widht=3",)},
        "trunk.widht: unknown key; did you mean 'width'? (--set trunk.widht=3)",
    ),
    "key of another section": (
        {"assignments": ("trunk.learning_rate=3",)},
        "trunk.learning_rate: unknown key; did you mean 'optim.learning_rate'? (--set trunk.learning_rate=3)",
    ),
    "key like no other": ({"assignments": ("trunk.xyzzy=3",)}, "trunk.xyzzy: unknown key (--set trunk.xyzzy=3)"),
    "misspelt key of the plugin": (
        {"assignments": ("dots.chanels=3",)},
        "modalities.dots.config.chanels: unknown key; did you mean 'channels'? (--set dots.chanels=3)",
    ),
    "misspelt key of a modality": (
        {"assignments": ("modalities.dots.sorce=x",)},
        "modalities.dots.sorce: unknown key; did you mean 'source'? (--set modalities.dots.sorce=x)",
    ),
    "wrong type": (
        {"assignments": ("trunk.width=wide",)},
        "trunk.width: input should be a valid integer, unable to parse string as an integer, not 'wide' "
        "(--set trunk.width=wide)",
    ),
    "out of bounds": (
        {"assignments": ("flow.draws=0",)},
        "flow.draws: input should be greater than or equal to 1, not 0 (--set flow.draws=0)",
    ),
    "out of bounds in the plugin": (
        {"assignments": ("dots.channels=0",)},
        "modalities.dots.config.channels: input should be greater than or equal to 1, not 0 (--set dots.channels=0)",
    ),
    "no choice": (
        {"assignments": ("train.precision=fp8",)},
        "train.precision: input should be '32-true' or 'bf16-mixed', not 'fp8' (--set train.precision=fp8)",
    ),
    "a rule over two keys": (
        {"assignments": ("trunk.heads=3",)},
        "trunk.heads=3 must divide trunk.width=128 into even parts (--set trunk.heads=3)",
    ),
    "unknown kind": (
        {"assignments": ("regime.kind=seperate",)},
        "regime.kind: unknown kind 'seperate'; did you mean 'separate'? there are: unite, separate, "
        "unified-latents, two-stage, frozen-features "
        "(--set regime.kind=seperate)",
    ),
    "key of another kind": (
        {"assignments": ("recipe.init=x",)},
        "recipe.init: unknown key; kind 'decoder' has it (--set recipe.init=x)",
    ),
    "misspelt key of a kind": (
        {"assignments": ("regime.kind=separate", "regime.stop_gradent=false")},
        "regime.stop_gradent: unknown key; did you mean 'stop_gradient'? (--set regime.stop_gradent=false)",
    ),
    "a rule of a kind": (
        {"assignments": ("recipe.freeze_trunk=true",)},
        "recipe.freeze_trunk needs recipe.init_trunk: a trunk that never learned is of no use "
        "(--set recipe.freeze_trunk=true)",
    ),
    "what a kind needs": (
        {"assignments": ("recipe.kind=decoder",)},
        "recipe.init: is missing (--set recipe.kind=decoder)",
    ),
    "a section that is no mapping": (
        {"assignments": ("trunk=3",)},
        "trunk: must be a mapping of keys, not 3 (--set trunk=3)",
    ),
    "a bad flag": (
        {"flags": {"train": {"max_steps": 0}}},
        "train.max_steps: input should be greater than or equal to 1, not 0 (the command line)",
    ),
    "no equals sign": (
        {"assignments": ("trunk.width",)},
        "--set trunk.width: not of the form key=value\n  for example --set trunk.width=192",
    ),
    "empty key": ({"assignments": ("=3",)}, "--set =3: not of the form key=value\n  for example --set trunk.width=192"),
    "bad value": (
        {"assignments": ("trunk.width=[1",)},
        "--set trunk.width=[1: the value is not valid YAML\n  put it in quotes",
    ),
    "bad duration": (
        {"assignments": ("train.max_time=soon",)},
        "train.max_time: 'soon' is not a duration (--set train.max_time=soon)\n  write 90s, 30m, 1h or 1h30m",
    ),
    "no length": (
        {"assignments": ("train.max_steps=null",)},
        "no run length given\n  add --max-steps N or --max-time 30m",
    ),
    "unknown preset": (
        {"preset": "wild"},
        "modality 'dots' has no preset 'wild'\n  did you mean 'wide'? it has: plain, wide",
    ),
    "unknown regime": (
        {"regime": "seperate"},
        "--regime seperate: there is no such regime\n  did you mean 'separate'?",
    ),
    "unselected modality": (
        {"assignments": ("modalities.spots.weight=2",)},
        "modalities.spots: this modality is not selected (--set modalities.spots.weight=2)",
    ),
    "unknown modality": (
        {"modalities": ("dot",)},
        "unknown modality 'dot'\n  did you mean 'dots'? installed: dots, spots",
    ),
    "no modality": ({"modalities": ()}, "no modality given\n  add --modality NAME; there are: dots, spots"),
    "whose source": (
        {"modalities": ("dots", "spots"), "sources": ("drawn",)},
        "--data drawn: ambiguous, the run has several modalities\n  write --data NAME=drawn",
    ),
}


@pytest.mark.parametrize("case", ERRORS, ids=list(ERRORS))
def test_errors_say_what_and_where(registry: Registry, case: str) -> None:
    options, message = ERRORS[case]
    with pytest.raises(UsageError) as error:
        resolve(RunOptions(**{"modalities": ("dots",), **options}), registry)
    assert str(error.value) == message


FILE_ERRORS = {
    "misspelt": ("trunk: {widht: 3}", "trunk.widht: unknown key; did you mean 'width'? (FILE)"),
    "misspelt section": ("trunc: {width: 3}", "trunc: unknown key; did you mean 'trunk'? (FILE)"),
    "not yaml": ("trunk: [", "FILE is not valid YAML: "),
    "a list": ("- trunk", "FILE must hold a mapping of keys such as `trunk:`"),
    "numbers as keys": ("1: 2", "1: unknown key (FILE)"),
    "modality is no mapping": ("modality: 3", "FILE: `modality:` must be a mapping of keys"),
    "other modality": (
        "modalities: {spots: {}}",
        "FILE configures the modality 'spots', which --modality does not select",
    ),
    "other version": ("schema_version: 1", "schema_version: input should be 2, not 1 (FILE)"),
    "modalities is no mapping": ("modalities: 3", "modalities: must be a mapping of keys, not 3 (FILE)"),
}


@pytest.mark.parametrize("case", FILE_ERRORS, ids=list(FILE_ERRORS))
def test_errors_of_a_file_name_it(registry: Registry, tmp_path: Path, case: str) -> None:
    text, message = FILE_ERRORS[case]
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as error:
        resolve(RunOptions(modalities=("dots",), file=file), registry)
    assert str(error.value).startswith(message.replace("FILE", str(file)))


def test_unreadable_files_are_usage_errors(registry: Registry, tmp_path: Path) -> None:
    binary = tmp_path / "run.yaml"
    binary.write_bytes(b"\xff\xfe")
    for path, message in [
        (tmp_path / "absent.yaml", "cannot read"),
        (tmp_path, "cannot read"),
        (binary, "not UTF-8"),
    ]:
        with pytest.raises(UsageError, match=message):
            resolve(RunOptions(modalities=("dots",), file=path), registry)


def test_empty_files_and_sections_change_nothing(registry: Registry, tmp_path: Path) -> None:
    plain = resolve(RunOptions(modalities=("dots",)), registry)
    for text in ("", "# nothing\n", "trunk:\nmodality:\n"):
        assert resolve(RunOptions(modalities=("dots",), file=write(tmp_path, text)), registry) == plain


def test_a_preset_may_not_configure_other_modalities(fake_plugin: MakePlugin) -> None:
    made = fake_plugin()
    made.files["plain.yaml"] = "modalities: {spots: {}}"
    with pytest.raises(UsageError, match="preset dots/plain: a preset sets its own modality's keys"):
        resolve(RunOptions(modalities=("dots",)), discover([str(made.install().root)]))


def test_resume_changes_length_and_records_only(registry: Registry) -> None:
    saved = resolve(RunOptions(modalities=("dots",)), registry)
    flags = {"train": {"max_steps": 99}}
    longer = resolve_resumed(saved, RunOptions(flags=flags, assignments=("train.log_every=5",)), registry)
    assert (longer.train.max_steps, longer.train.log_every) == (99, 5)
    assert longer.model_copy(update={"train": saved.train}) == saved
    timed = resolve_resumed(saved, RunOptions(flags={"train": {"max_time": 60.0}}), registry)
    assert (timed.train.max_steps, timed.train.max_time) == (None, 60.0)
    assert resolve_resumed(saved, RunOptions(modalities=("dots",), assignments=("trunk.width=128",)), registry) == saved


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ({"sources": ("elsewhere.txt",)}, "modalities.dots.source", "elsewhere.txt"),
        ({"assignments": ("modalities.dots.source=elsewhere.txt",)}, "modalities.dots.source", "elsewhere.txt"),
        ({"assignments": ("optim.learning_rate=1e-5",)}, "optim.learning_rate", 1e-5),
        ({"assignments": ("optim.clip=0.5",)}, "optim.clip", 0.5),
        ({"assignments": ("optim.warmup_steps=7",)}, "optim.warmup_steps", 7),
    ],
)
def test_resume_may_change_rates_clipping_and_where_the_data_lie(
    registry: Registry, options: dict, key: str, value: object
) -> None:
    saved = resolve(RunOptions(modalities=("dots",)), registry)
    changed = settings_that_differ(saved, resolve_resumed(saved, RunOptions(**options), registry))
    assert [(name, after) for name, _, after in changed] == [(key, value)]


def test_a_run_of_before_a_setting_was_added_resumes_with_its_default(registry: Registry) -> None:
    saved = resolve(RunOptions(modalities=("dots",)), registry)
    own = saved.modalities["dots"]
    assert "channels" in own.config
    older = {key: value for key, value in own.config.items() if key != "channels"}
    before = saved.model_copy(update={"modalities": {"dots": own.model_copy(update={"config": older})}})
    now = resolve_resumed(before, RunOptions(), registry)
    assert set(now.modalities["dots"].config) == set(own.config)
    assert now.model_copy(update={"modalities": {}}) == saved.model_copy(update={"modalities": {}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assignments": ("trunk.width=64",)}, "trunk.width cannot change on --resume"),
        ({"assignments": ("regime.kind=separate",)}, "regime.kind cannot change on --resume"),
        ({"start": Layer("--init other", {})}, "--resume takes the configuration of the run folder"),
        ({"assignments": ("dots.channels=5",)}, "modalities.dots.config.channels cannot change on --resume"),
        ({"preset": "wide"}, "--resume takes the configuration of the run folder"),
        ({"regime": "separate"}, "--resume takes the configuration of the run folder"),
        ({"assignments": ("optim.optimizer=adamw",)}, "optim.optimizer cannot change on --resume"),
        ({"base": (Layer("--init-trunk other", {}),)}, "--resume takes the configuration of the run folder"),
        ({"modalities": ("spots",)}, "the run was started with dots"),
    ],
)
def test_resume_refuses_to_change_what_the_run_computes(registry: Registry, options: dict, message: str) -> None:
    saved = resolve(RunOptions(modalities=("dots",)), registry)
    with pytest.raises(UsageError, match=message):
        resolve_resumed(saved, RunOptions(**options), registry)


def test_the_default_preset_serves_work_without_a_run(fake_plugin: MakePlugin) -> None:
    made = fake_plugin()
    made.files["__init__.py"] = ""
    made.manifest["default_preset"] = "wide"
    assert resolve_plugin(discover([str(made.install().root)]).get("dots"))["channels"] == 8


def test_a_plugins_configuration_alone(registry: Registry) -> None:
    plugin = registry.get("dots")
    assert resolve_plugin(plugin) == resolve(RunOptions(modalities=("dots",)), registry).modalities["dots"].config
    assert resolve_plugin(plugin, "wide", ("dots.shade=red",)) == {"channels": 8, "shade": "red"}
    with pytest.raises(UsageError, match=r"only dots\.KEY=VALUE can be set here"):
        resolve_plugin(plugin, assignments=("trunk.width=3",))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90", 90), ("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("1.5h", 5400), ("1d2h3m4s", 93784)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "0s", "-3m", "3 m", "30m1h", "1w", "m", "1e3"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("name", "preset"), [(name, preset) for name, plugin in discover().plugins.items() for preset in plugin.presets()]
)
def test_every_installed_preset_resolves(name: str, preset: str) -> None:
    config = resolve(RunOptions(modalities=(name,), preset=preset), discover())
    assert RunConfig.model_validate(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    ("presets", "expected"),
    [
        (("wide", "spots=tall"), (256, 8, 8)),
        (("spots=tall",), (128, 4, 8)),
        (("dots=wide", "spots=plain"), (256, 8, 4)),
        (("spots=plain", "dots=wide"), (256, 8, 4)),
        (("wide",), (256, 8, 4)),
        ((), (128, 4, 4)),
    ],
)
def test_each_modality_may_have_its_preset(registry: Registry, presets: tuple[str, ...], expected: tuple) -> None:
    config = resolve(RunOptions(("dots", "spots"), preset=presets or None), registry)
    channels = [config.modalities[name].config["channels"] for name in ("dots", "spots")]
    assert (config.trunk.width, *channels) == expected


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        (("spots=wild",), "modality 'spots' has no preset 'wild'\n  it has: plain, tall"),
        (("spots=",), "modality 'spots' has no preset ''"),
        (("spot=tall",), "--preset spot=tall: 'spot' is no modality of this run\n  did you mean 'spots'?"),
        (("wide", "tall"), "--preset tall: a second preset\n  several modalities take NAME=PRESET each"),
        (("spots=tall", "spots=plain"), "--preset spots=plain: a second preset"),
    ],
)
def test_presets_that_fit_no_modality(registry: Registry, presets: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve(RunOptions(("dots", "spots"), preset=presets), registry)
    assert str(error.value).startswith(message)
