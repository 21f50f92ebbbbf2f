"""`plugins new` writes a distribution that works as it stands, marks what to change, and refuses bad names."""

import ast
import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.distributions import importable, install

from unite_mm.cli.main import run
from unite_mm.conformance.subject import Subject
from unite_mm.registry import discover
from unite_mm.registry.scaffold import write_plugin
from unite_mm.testing import ConformanceSuite
from unite_mm_schemas.manifest import ModalityManifest

NAME = "sketches"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "plugin"
    assert run(["plugins", "new", NAME, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def installed(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("sketches") / "site"
    install(written, site)
    with importable(site):
        yield


def test_it_writes_a_distribution_of_under_150_lines_of_python(written: Path) -> None:
    files = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    package = f"unite_mm_{NAME}"
    inside = {f"{package}/{name}" for name in ("__init__.py", "config.py", "modality.py", "modality.yaml")}
    tests = {f"tests/test_{name}.py" for name in (NAME, "conformance")}
    assert files == {"README.md", "pyproject.toml", f"{package}/presets/tiny.yaml", *inside, *tests}
    lines = [line for path in written.rglob("*.py") for line in path.read_text().splitlines()]
    assert len(lines) < 150
    assert max(map(len, lines)) <= 120


def test_every_placeholder_is_filled_and_places_to_change_are_marked(written: Path) -> None:
    for path in written.rglob("*"):
        if path.is_file() and path.name not in ("__init__.py", "test_conformance.py"):
            text = path.read_text()
            assert "$" not in text and "PACKAGE" not in text, path
            assert "CHANGE" in text, path
            assert NAME in text or path.name == "tiny.yaml", path


def test_every_part_of_the_contract_is_marked_or_plain(written: Path) -> None:
    source = (written / f"unite_mm_{NAME}" / "modality.py").read_text()
    marked = {line.split("(")[0].split(":")[0].split()[-1] for line in source.splitlines() if "# CHANGE" in line}
    classes = {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    assert classes - marked == {"ModalityModules", "Modality"}  # of which the methods are marked
    assert marked >= {"open_data", "losses", "prior", "statistics", "write", "score_reconstruction", "score_generation"}


def test_it_is_listed_and_its_own_tests_pass(
    installed: None, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plugins", "list"]) == 0
    assert f"unite-mm-{NAME} 0.1.0" in capsys.readouterr().out
    tests = runpy.run_path(str(written / "tests" / f"test_{NAME}.py"))
    tests["test_the_metric_tells_regular_polygons_from_others"]()


@pytest.mark.usefixtures("installed")
class TestConformance(ConformanceSuite):
    modality = NAME


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, site = tmp_path_factory.mktemp("free") / "plugin", tmp_path_factory.mktemp("free") / "site"
    assert run(["plugins", "new", "strokes", "--free-tokens", "--out", str(folder)]) == 0
    install(folder, site)
    with importable(site):
        yield folder


@pytest.mark.usefixtures("free")
class TestFreeTokens(ConformanceSuite):
    modality = "strokes"

    def test_tokens_have_positions_of_their_own(self, subject: Subject) -> None:
        tokens, layout = subject.tokens, subject.modules.layout
        assert tokens.values.shape[1] == 2 * subject.batch.registers.mask.shape[1]
        assert not set(tokens.positions.tolist()) & set(layout.positions.tolist())
        assert subject.config.trunk.pointer_bias == 0


def test_it_learns(installed: None, tmp_path: Path) -> None:
    out, corners = tmp_path / "run", tmp_path / "corners.csv"
    settings = ["--set", "train.log_every=1", "--set", "optim.warmup_steps=5", "--max-steps", "60", "--out", str(out)]
    assert run(["train", "--modality", NAME, *settings]) == 0
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [entry["reconstruction"] for entry in records if "gradient_norm" in entry]
    assert losses[-1] < losses[0] / 2
    flags = ["--condition", "large", "--guidance", "2", "--picture", str(tmp_path / "picture.png")]
    assert run(["sample", str(out), "-n", "5", "-o", str(corners), *flags]) == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert run(["reconstruct", str(out), str(corners), "-o", str(tmp_path / "again.csv")]) == 0
    lengths = [[len(line.split(",")) for line in path.read_text().splitlines()] for path in tmp_path.glob("*.csv")]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Curves", "'Curves' cannot name a modality"),
        ("my-curves", "for example my_curves"),
        ("2d", "cannot name a modality"),
        ("", "cannot name a modality"),
        ("class", "for example my_class"),
        ("flow", "'flow' is a section of the run configuration"),
        ("points", "the modality 'points' exists already, in unite-mm-toy 0.1"),
        ("toy", "a package 'unite_mm_toy' exists already"),
    ],
)
def test_a_bad_name_is_refused(name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "new", name, "--out", str(tmp_path / "plugin")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_refused_and_an_empty_one_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    used, empty, file = tmp_path / "used", tmp_path / "empty", tmp_path / "file"
    for folder in (used, empty):
        folder.mkdir()
    (used / "mine.txt").touch()
    file.touch()
    assert run(["plugins", "new", "curves", "--out", str(used)]) == 2
    assert f"{used} is not empty" in capsys.readouterr().err
    assert [path.name for path in used.iterdir()] == ["mine.txt"]
    assert run(["plugins", "new", "curves", "--out", str(file)]) == 2
    assert f"{file} is a file" in capsys.readouterr().err
    assert run(["plugins", "new", "curves", "--out", str(empty)]) == 0
    assert (empty / "pyproject.toml").is_file()


def test_the_default_folder_is_named_after_the_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["plugins", "new", "my_curves"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["unite-mm-my-curves"]


def test_a_name_that_yaml_reads_as_something_else_is_still_a_name(tmp_path: Path) -> None:
    write_plugin("on", tmp_path / "plugin", discover())
    text = (tmp_path / "plugin" / "unite_mm_on" / "modality.yaml").read_text()
    assert ModalityManifest.model_validate(yaml.safe_load(text)).name == "on"
