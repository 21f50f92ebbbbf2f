"""Models of a hub, served by a small server of this process: fetched by name, pushed, refused."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from unite_mm import UNITE
from unite_mm.cli.main import run
from unite_mm.errors import UniteError, UsageError
from unite_mm.registry import hub as hubs
from unite_mm.registry.hub import parse_hub_name
from unite_mm.registry.models import model_folder

library = pytest.importorskip("huggingface_hub")

from helpers.hub_server import Hub, serving  # noqa: E402 - needs the library


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model of the toy modality, of one step."""
    root = tmp_path_factory.mktemp("models")
    settings = ["--max-steps", "1", "--set", "sampling.steps=2"]
    assert run(["train", "--modality", "points", "--out", str(root / "run"), *settings]) == 0
    assert run(["export", str(root / "run"), "-o", str(root / "rings")]) == 0
    return root / "rings"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub without repositories."""
    with pytest.MonkeyPatch.context() as patch, serving(patch, str(tmp_path / "hub-cache")) as found:
        yield found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_pushed_and_fetched_folder_is_equal_byte_for_byte(
    hub: Hub, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["push", str(export), "lab/rings"]) == 0
    assert "pushed to hf:lab/rings: http://127.0.0.1" in capsys.readouterr().out
    assert hub.repositories["lab/rings"]["main"] == contents(export)
    assert contents(model_folder("hf:lab/rings")) == contents(export)
    assert run(["sample", "hf:lab/rings", "-n", "2", "-o", "a.csv"]) == 0
    assert run(["sample", str(export), "-n", "2", "-o", "b.csv"]) == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    assert len(UNITE.from_pretrained("hf:lab/rings").generate(1)) == 1
    small = ["--samples", "4", "--reconstructions", "4", "--no-pictures"]
    assert run(["evaluate", "hf:lab/rings", *small]) == 0
    assert (tmp_path / "rings-evaluation" / "metrics.json").is_file()
    assert run(["export", "hf:lab/rings", "-o", "again"]) == 0
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == (export / "weights.safetensors").read_bytes()


def test_revisions_are_kept_apart(hub: Hub, export: Path, tmp_path: Path) -> None:
    assert run(["push", str(export), "lab/rings"]) == 0
    pinned = hub.commit("lab/rings", "main")
    assert run(["push", str(export), "lab/rings", "--revision", "next"]) == 0
    hub.repositories["lab/rings"]["next"]["README.md"] = b"# another card\n"
    for revision, text in (("main", "# rings"), (pinned, "# rings"), ("next", "# another card")):
        assert text in (model_folder(f"hf:lab/rings@{revision}") / "README.md").read_text()
    hub.repositories["lab/rings"]["main"]["README.md"] = b"# newer\n"
    assert "# newer" in (model_folder("hf:lab/rings") / "README.md").read_text()


def test_a_private_repository_needs_its_token(hub: Hub, export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["push", str(export), "lab/rings", "--private"]) == 0
    assert hub.private == {"lab/rings"} and model_folder("hf:lab/rings").is_dir()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UsageError, match="hf:lab/rings: there is no such model, or it is private"):
        model_folder("hf:lab/rings")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "old/model.PT", "a.pkl", "last.ckpt"])
def test_a_repository_with_a_pickle_is_refused_before_anything_is_fetched(
    hub: Hub, export: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["lab/bad"] = {"main": {**contents(export), name: b"\x80\x04."}}
    assert run(["sample", "hf:lab/bad", "-o", "x.csv"]) == 2
    assert f"hf:lab/bad holds '{name}'" in capsys.readouterr().err
    assert not [asked for asked in hub.requests if "/resolve/" in asked]


def test_files_of_other_kinds_are_not_fetched(hub: Hub, export: Path) -> None:
    hub.repositories["lab/more"] = {"main": {**contents(export), "run.py": b"print()", "film.mp4": b"0" * 100}}
    assert contents(model_folder("hf:lab/more")) == contents(export)


def test_without_a_network_what_was_fetched_is_used(
    hub: Hub, export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["lab/rings"] = {"main": contents(export)}
    folder = model_folder("hf:lab/rings")
    monkeypatch.setattr(library.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert model_folder("hf:lab/rings") == folder
    with pytest.raises(UniteError, match="hf:lab/other cannot be fetched, and was not before"):
        model_folder("hf:lab/other")
    assert run(["push", str(export), "lab/rings"]) == 1
    assert "hf:lab/rings was not pushed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ("hf:lab/none", "there is no such model, or it is private"),
        ("hf:lab/rings@v9", "no such branch, tag or commit"),
        ("hf:lab/gated", "its owners decide who may use it"),
        ("hf:rings", "no name of a model on a hub"),
        ("hf:lab/rings@", "no name of a model on a hub"),
        ("hf:../x", "no name of a model on a hub"),
        ("hf:lab/rings@a b", "no name of a model on a hub"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_a_line(
    hub: Hub, export: Path, named: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories |= {"lab/rings": {"main": contents(export)}, "lab/gated": {"main": contents(export)}}
    hub.gated.add("lab/gated")
    assert run(["sample", named, "-o", "x.csv"]) == 2
    err = capsys.readouterr().err
    assert text in err and len(err.strip().splitlines()) <= 2


def test_a_hub_that_breaks_off_is_said_in_a_line(
    hub: Hub, export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After it has told what there is to fetch."""
    hub.repositories["lab/rings"] = {"main": contents(export)}

    def broken(*_: object, **__: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    assert run(["sample", "hf:lab/rings", "-o", "x.csv"]) == 1
    assert "hf:lab/rings cannot be fetched: no space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["gone", "lab/rings"], "gone does not exist"),
        (["EMPTY", "lab/rings"], "is no whole export"),
        (["EXPORT", "rings"], "no name of a model on a hub"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_pushed_is_said_in_a_line(
    hub: Hub, export: Path, tmp_path: Path, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "EXPORT": str(export)}
    assert run(["push", *(places.get(word, word) for word in words)]) == 2
    assert text in capsys.readouterr().err
    assert not hub.repositories


def test_pushing_needs_a_login(
    hub: Hub, export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert run(["push", str(export), "lab/rings"]) == 2
    assert "hf auth login" in capsys.readouterr().err


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(hubs, "find_spec", lambda name: None if name == "huggingface_hub" else real(name))
    with pytest.raises(UsageError, match="hubs need huggingface_hub") as caught:
        model_folder("hf:lab/rings")
    assert caught.value.hint == 'pip install "unite-mm[hub]"'


def test_names_are_parsed() -> None:
    found = parse_hub_name("hf:lab-1/rings.v2@refs/pr/3")
    assert (found.name, found.revision, str(found)) == ("lab-1/rings.v2", "refs/pr/3", "hf:lab-1/rings.v2@refs/pr/3")
