"""Discovery reads manifests only, never raises, and keeps what is broken apart; selection explains it."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.made_up_plugins import FakePlugin

from unite_mm.errors import UniteError, UsageError
from unite_mm.registry import Registry, discover, manifests

MakePlugin = Callable[[], FakePlugin]


def discovered(*plugins: FakePlugin) -> Registry:
    return discover([str(plugin.root) for plugin in plugins])


def test_a_valid_plugin_is_found_without_being_imported(fake_plugin: MakePlugin) -> None:
    made = fake_plugin().install()
    found = discovered(made).get("dots")
    assert (found.name, found.distribution) == ("dots", "dots-plugin 2.0")
    assert found.manifest.description == "Dots"
    assert found.presets() == {name: made.root / made.package / f"{name}.yaml" for name in ("plain", "wide")}
    assert found.suffixes("write") == [".csv", ".png"]
    assert found.suffixes("read") == [".csv"]
    assert made.package not in sys.modules


def test_discovery_is_confined_to_the_path(tmp_path: Path) -> None:
    assert discover([str(tmp_path)]) == Registry({})


# Each mutator breaks a valid plugin; its docstring is the message that must follow.


def missing_package(plugin: FakePlugin) -> None:
    """the package 'no_such_package' does not exist"""
    plugin.entry = ("dots", "no_such_package:modality.yaml")


def single_module(plugin: FakePlugin) -> None:
    """the package 'single_dots' is a single module"""
    (plugin.root / "single_dots.py").write_text("")
    plugin.entry = ("dots", "single_dots:modality.yaml")


def missing_file(plugin: FakePlugin) -> None:
    """holds no file 'other.yaml'"""
    plugin.entry = ("dots", "PACKAGE:other.yaml")


def dotted_package(plugin: FakePlugin) -> None:
    """is not of the form top_level_package:manifest.yaml"""
    plugin.entry = ("dots", "PACKAGE.inner:modality.yaml")


def path_outside(plugin: FakePlugin) -> None:
    """is not of the form top_level_package:manifest.yaml"""
    plugin.entry = ("dots", "PACKAGE:../modality.yaml")


def class_instead_of_manifest(plugin: FakePlugin) -> None:
    """is not of the form top_level_package:manifest.yaml"""
    plugin.entry = ("dots", "PACKAGE:Dots")


def invalid_yaml(plugin: FakePlugin) -> None:
    """modality.yaml is not valid YAML"""
    plugin.manifest = "name: [dots"


def binary_manifest(plugin: FakePlugin) -> None:
    """modality.yaml is not UTF-8 text"""
    plugin.files["modality.yaml"] = b"\xff\xfe\x00\x01"


def empty_manifest(plugin: FakePlugin) -> None:
    """modality.yaml must hold a mapping of keys"""
    plugin.manifest = ""


def misspelt_key(plugin: FakePlugin) -> None:
    """modality.yaml: implementaton: unknown key; did you mean 'implementation'? (and 1 more)"""
    plugin.manifest["implementaton"] = plugin.manifest.pop("implementation")


def missing_key(plugin: FakePlugin) -> None:
    """modality.yaml: description: is missing"""
    del plugin.manifest["description"]


def wrong_reference(plugin: FakePlugin) -> None:
    """modality.yaml: implementation: 'dots' is not of the form package.module:Class"""
    plugin.manifest["implementation"] = "dots"


def misspelt_key_of_a_preset(plugin: FakePlugin) -> None:
    """modality.yaml: presets.0.fil: unknown key; did you mean 'file'? (and 1 more)"""
    plugin.manifest["presets"] = [{"name": "plain", "fil": "plain.yaml", "description": "x"}]


def other_name(plugin: FakePlugin) -> None:
    """modality.yaml has the name 'spots', but its entry point 'dots'"""
    plugin.manifest["name"] = "spots"


def newer_contract(plugin: FakePlugin) -> None:
    """written for contract 99, but this unite-mm serves contracts up to 2: upgrade unite-mm"""
    plugin.manifest |= {"contract": 99, "a_key_of_the_future": 1}


def contract_as_text(plugin: FakePlugin) -> None:
    """modality.yaml: contract: input should be a valid integer"""
    plugin.manifest["contract"] = "first"


def ancient_contract(plugin: FakePlugin) -> None:
    """written for contract 0, but this unite-mm serves contract 2 and newer: upgrade the plugin"""
    plugin.manifest["contract"] = 0


def no_identifier(plugin: FakePlugin) -> None:
    """modality.yaml: name: 'my-dots' is no name: use lower-case letters, digits and _, beginning with a letter"""
    plugin.manifest["name"] = "my-dots"


def section_of_the_run(plugin: FakePlugin) -> None:
    """modality.yaml: name: 'train' is a section of every run's configuration: choose another name"""
    plugin.manifest["name"] = "train"


def suffix_without_dot(plugin: FakePlugin) -> None:
    """modality.yaml: formats.0.suffix: string should match pattern"""
    plugin.manifest["formats"] = [{"suffix": "csv", "description": "text"}]


def missing_preset_file(plugin: FakePlugin) -> None:
    """modality.yaml: the preset 'wide' has no file 'wide.yaml'"""
    del plugin.files["wide.yaml"]


def unknown_default_preset(plugin: FakePlugin) -> None:
    """modality.yaml: default_preset 'huge' is not among its presets"""
    plugin.manifest["default_preset"] = "huge"


def preset_twice(plugin: FakePlugin) -> None:
    """modality.yaml lists the preset 'plain' twice"""
    plugin.manifest["presets"] = [plugin.manifest["presets"][0]] * 2


def model_twice(plugin: FakePlugin) -> None:
    """modality.yaml lists the model 'one' twice"""
    plugin.manifest["models"] = [{"name": "one", "folder": "one", "description": "x"}] * 2


def model_without_a_folder(plugin: FakePlugin) -> None:
    """modality.yaml: the model 'one' has no file 'models/one/record.json'"""
    plugin.manifest["models"] = [{"name": "one", "folder": "models/one", "description": "x"}]


def model_outside(plugin: FakePlugin) -> None:
    """modality.yaml: the model 'one' lies outside the package: '../one'"""
    plugin.manifest["models"] = [{"name": "one", "folder": "../one", "description": "x"}]


MUTATORS = [
    missing_package,
    single_module,
    missing_file,
    dotted_package,
    path_outside,
    class_instead_of_manifest,
    invalid_yaml,
    binary_manifest,
    empty_manifest,
    misspelt_key,
    missing_key,
    wrong_reference,
    misspelt_key_of_a_preset,
    other_name,
    newer_contract,
    contract_as_text,
    ancient_contract,
    no_identifier,
    section_of_the_run,
    suffix_without_dot,
    missing_preset_file,
    unknown_default_preset,
    preset_twice,
    model_twice,
    model_without_a_folder,
    model_outside,
]


@pytest.mark.parametrize("mutate", MUTATORS, ids=lambda mutate: mutate.__name__)
def test_a_broken_plugin_is_explained_and_stops_no_other(
    mutate: Callable[[FakePlugin], None], fake_plugin: MakePlugin
) -> None:
    good, bad = fake_plugin(), fake_plugin()
    good.distribution = "good-plugin"
    good.entry, good.manifest["name"] = ("fine", good.entry[1]), "fine"
    mutate(bad)
    found = discovered(good.install(), bad.install())
    assert list(found.plugins) == ["fine"]
    (broken,) = found.broken
    assert (broken.name, broken.distribution) == ("dots", "dots-plugin 2.0")
    assert mutate.__doc__ in broken.message
    assert "\n" not in broken.message
    assert "Traceback" in broken.traceback
    assert broken.problems
    with pytest.raises(UsageError) as error:
        found.get("dots")
    assert "dots-plugin 2.0" in error.value.message
    assert mutate.__doc__ in error.value.message


def test_an_older_contract_than_served_is_refused(fake_plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "CONTRACT_VERSION", 4)
    monkeypatch.setattr(manifests, "OLDEST_CONTRACT_VERSION", 3)
    (broken,) = discovered(fake_plugin().install()).broken
    assert broken.message == (
        "written for contract 2, but this unite-mm serves contract 3 and newer: upgrade the plugin; docs/contract.md "
        "lists what its author has to rename"
    )


def test_a_name_that_two_distributions_claim_is_broken_for_both(fake_plugin: MakePlugin) -> None:
    first, second = fake_plugin(), fake_plugin()
    second.distribution, second.version = "other-plugin", "0.3"
    found = discovered(first.install(), second.install())
    assert not found.plugins
    assert [entry.distribution for entry in found.broken] == ["dots-plugin 2.0", "other-plugin 0.3"]
    for entry in found.broken:
        assert "claimed by dots-plugin 2.0 and other-plugin 0.3" in entry.message


@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_an_editable_install_seen_twice_is_one_plugin(fake_plugin: MakePlugin, tmp_path: Path, kind: str) -> None:
    made = fake_plugin().install()
    made.distribution = "Dots_Plugin"  # the same name, as other tools spell it
    made.write_metadata(tmp_path / "again", kind)
    found = discover([str(made.root), str(tmp_path / "again"), str(made.root)])
    assert list(found.plugins) == ["dots"]
    assert not found.broken


@pytest.mark.parametrize("stale_first", [True, False])
def test_left_over_metadata_of_an_older_state_do_not_hide_a_plugin(
    fake_plugin: MakePlugin, tmp_path: Path, stale_first: bool
) -> None:
    """The author has renamed package or manifest; the egg-info of an old editable install still names the former."""
    made = fake_plugin().install()
    value, made.entry = made.entry, ("dots", "package_of_old:modality.yaml")
    made.write_metadata(tmp_path / "stale", "egg-info")
    made.entry = value
    path = [str(tmp_path / "stale"), str(made.root)]
    found = discover(path if stale_first else path[::-1])
    assert list(found.plugins) == ["dots"]
    assert not found.broken


def test_an_editable_install_whose_folder_is_gone_is_broken_and_says_so(
    fake_plugin: MakePlugin, tmp_path: Path
) -> None:
    good, gone = fake_plugin().install(), fake_plugin()
    gone.distribution, gone.entry, gone.package = "spots-plugin", ("spots", "moved_away:modality.yaml"), "moved_away"
    (tmp_path / "stale").mkdir()
    gone.write_metadata(tmp_path / "stale")
    (tmp_path / "stale" / "__editable__.spots.pth").write_text(f"{tmp_path / 'moved'}\n")
    found = discover([str(good.root), str(tmp_path / "stale")])
    assert list(found.plugins) == ["dots"]
    (broken,) = found.broken
    assert broken.message.startswith("the package 'moved_away' does not exist: its folder was moved or removed")


def test_an_entry_point_listed_twice_in_one_file_is_one_plugin(fake_plugin: MakePlugin) -> None:
    made = fake_plugin().install()
    listing = made.root / "dots_plugin-2.0.dist-info" / "entry_points.txt"
    line = listing.read_text().splitlines()[1]
    listing.write_text(f"[unite_mm.modalities]\n{line}\n{line.replace(' = ', '=')}\n")
    found = discovered(made)
    assert list(found.plugins) == ["dots"]
    assert not found.broken


def test_one_implementation_serves_several_manifests(fake_plugin: MakePlugin) -> None:
    made = fake_plugin()
    made.serve_also("dashes", description="Dashes", default_preset="wide", sources=[])
    found = discovered(made.install())
    assert not found.broken
    assert list(found.plugins) == ["dashes", "dots"]
    dots, dashes = found.get("dots"), found.get("dashes")
    assert (dashes.distribution, dashes.folder) == (dots.distribution, dots.folder)
    assert dashes.manifest.implementation == dots.manifest.implementation
    assert (dashes.manifest.description, dashes.manifest.default_preset) == ("Dashes", "wide")
    with pytest.raises(UsageError) as error:
        found.get("dashs")
    assert error.value.hint == "did you mean 'dashes'? installed: dashes, dots"


def test_a_broken_manifest_leaves_the_other_ones_of_its_distribution_alone(fake_plugin: MakePlugin) -> None:
    made = fake_plugin()
    made.serve_also("dashes", contract="first")
    found = discovered(made.install())
    assert list(found.plugins) == ["dots"]
    assert [entry.name for entry in found.broken] == ["dashes"]
    assert found.broken[0].message.startswith("dashes.yaml: contract: input should be a valid integer")


def test_damaged_metadata_of_third_parties_is_passed_over(fake_plugin: MakePlugin) -> None:
    made = fake_plugin().install()
    for name, content in (("junk-1.0.dist-info", b"\xff\xfe"), ("odd-1.0.dist-info", b"[unite_mm.modalities]\nx")):
        (made.root / name).mkdir()
        (made.root / name / "entry_points.txt").write_bytes(content)
    assert "dots" in discovered(made).plugins


def test_a_distribution_without_metadata_is_named_by_its_folder(fake_plugin: MakePlugin) -> None:
    made = fake_plugin().install()
    (made.root / "dots_plugin-2.0.dist-info" / "METADATA").unlink()
    assert "dots_plugin-2.0.dist-info" in discovered(made).get("dots").distribution


@pytest.mark.parametrize(
    ("name", "hint"), [("dot", "did you mean 'dots'? installed: dots"), ("images", "installed: dots")]
)
def test_an_unknown_name_gets_a_suggestion(fake_plugin: MakePlugin, name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"unknown modality '{name}'") as error:
        discovered(fake_plugin().install()).get(name)
    assert error.value.hint == hint


def test_an_unknown_preset_gets_a_suggestion(fake_plugin: MakePlugin) -> None:
    found = discovered(fake_plugin().install()).get("dots")
    with pytest.raises(UsageError, match="has no preset 'wid'") as error:
        found.preset("wid")
    assert error.value.hint == "did you mean 'wide'? it has: plain, wide"


IMPORT_PROBLEMS = {
    "missing dependency": ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
    "bug": ("1 / 0", "ZeroDivisionError: division by zero"),
    "no class": ("", "AttributeError: module "),
    "no Modality": ("class Dots: pass", "is not a subclass of unite_mm.contract.Modality"),
}


@pytest.mark.parametrize("problem", IMPORT_PROBLEMS, ids=list(IMPORT_PROBLEMS))
def test_an_implementation_that_cannot_be_loaded_names_the_cause(fake_plugin: MakePlugin, problem: str) -> None:
    source, message = IMPORT_PROBLEMS[problem]
    made = fake_plugin()
    made.files |= {"__init__.py": "", "dots.py": source}
    found = discovered(made.install()).get("dots")
    with pytest.raises(UniteError) as error:
        found.load_implementation()
    assert "'dots' of dots-plugin 2.0" in error.value.message
    assert message in error.value.message
    if problem != "no Modality":
        assert "dots.py" in "".join(traceback.format_exception(error.value)) or problem == "no class"
        assert error.value.__cause__ is not None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("DotsConfig = dict", "is not a Pydantic model"),
        ("from pydantic import BaseModel\nclass DotsConfig(BaseModel): pass", "accepts unknown keys"),
    ],
)
def test_a_configuration_that_would_hide_typos_is_refused(fake_plugin: MakePlugin, source: str, message: str) -> None:
    made = fake_plugin()
    made.files |= {"__init__.py": "", "config.py": source}
    with pytest.raises(UniteError, match=message):
        discovered(made.install()).get("dots").load_configuration()


def test_the_toy_modality_is_discovered_and_loads() -> None:
    found = discover().get("points")
    config = found.validate({"channels": 6})
    made = found.load_implementation()(config, "points")
    assert (made.name, made.config.channels) == ("points", 6)
