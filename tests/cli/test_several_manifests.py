"""One implementation behind several manifests, each a modality under a name of its own: nothing gets in the way."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.made_up_plugins import FakePlugin

from unite_mm.cli.main import run

Say = pytest.CaptureFixture[str]

IMPORTER = {
    "name": "official",
    "function": "PACKAGE.importer:read",
    "description": "made up",
    "options": [{"name": "flavour", "description": "which one"}],
}

READER = """
from unite_mm.errors import UsageError

def read(path, options):
    raise UsageError(f"{path.name} holds nothing of the flavour {options['flavour']}")
"""


@pytest.fixture
def two(fake_plugin: Callable[[], FakePlugin]) -> FakePlugin:
    """The modalities dots and dashes, both of the toy's implementation."""
    made = fake_plugin()
    made.files |= {"__init__.py": "", "importer.py": READER}
    made.manifest |= {
        "configuration": "unite_mm_toy.config:PointsConfig",
        "implementation": "unite_mm_toy.points:Points",
        "presets": [],
        "sources": [{"name": "ring", "description": "drawn on the fly", "offline": True}],
        "default_source": "ring",
        "formats": [{"suffix": ".csv", "description": "text"}],
        "importers": [IMPORTER],
    }
    made.serve_also("dashes", description="Dashes")
    return made.install()


def test_both_are_listed_with_their_distribution(two: FakePlugin, capsys: Say) -> None:
    assert run(["plugins", "list"]) == 0
    rows = {line.split()[0]: " ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert rows["dots"] == "dots ok 2 dots-plugin 2.0 Dots"
    assert rows["dashes"] == "dashes ok 2 dots-plugin 2.0 Dashes"


@pytest.mark.parametrize("name", ["dots", "dashes"])
def test_each_passes_every_check(two: FakePlugin, name: str, capsys: Say) -> None:
    assert run(["plugins", "check", name, "--imports"]) == 0
    assert f"{name}: no mistake in" in capsys.readouterr().out


def test_a_misspelt_name_gets_the_nearest_of_them(two: FakePlugin, capsys: Say) -> None:
    assert run(["plugins", "show", "dashs"]) == 2
    assert "did you mean 'dashes'?" in capsys.readouterr().err
    assert run(["train", "--modality", "dots", "--set", "dashs.channels=2"]) == 2
    assert "--set dashs.channels=2: unknown key 'dashs'" in capsys.readouterr().err


def test_one_run_trains_both(two: FakePlugin, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = ["--set", "dots.channels=2", "--set", "dashes.channels=3", "--set", "train.batch_size=8"]
    small = ["--set", "trunk.width=16", "--set", "trunk.depth=1", "--set", "sampling.steps=1", "--max-steps", "1"]
    names = ["--modality", "dots", "--modality", "dashes"]
    assert run(["train", *names, *flags, *small, "--out", str(folder)]) == 0
    for name in ("dots", "dashes"):
        out = tmp_path / f"{name}.csv"
        assert run(["sample", str(folder), "-n", "2", "-o", str(out), "--modality", name]) == 0
        assert len(out.read_text().splitlines()) == 2


def test_import_official_asks_once_and_takes_the_one_that_is_named(
    two: FakePlugin, tmp_path: Path, capsys: Say
) -> None:
    assert run(["import-official", "--help"]) == 0
    assert capsys.readouterr().out.count("--flavour") == 1
    command = ["import-official", str(tmp_path / "x.pt"), "-o", str(tmp_path / "out")]
    assert run(command) == 2
    err = capsys.readouterr().err
    assert "several modalities import official checkpoints" in err
    assert "dashes, dots" in err
    assert run([*command, "--modality", "dashes", "--flavour", "mint"]) == 2
    assert "x.pt holds nothing of the flavour mint" in capsys.readouterr().err
