"""Prepared data sets in the cache: made once, whole or not at all, made anew when damaged or when asked."""

import errno
import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from helpers.commands import FORKED
from helpers.processes import open_slowly

from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.cache import PluginCache, describe_file, folder_name
from unite_mm.progress import Silent


class Recorder:
    """A `Progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def task(self, title: str, total: int | None, done: int = 0) -> AbstractContextManager[Callable[[int], None]]:
        return Silent().task(title, total)

    def say(self, message: str) -> None:
        self.messages.append(message)

    def note(self, message: str) -> None:
        del message


class Numbers:
    """Prepares and reads one number in two files; counts how often."""

    def __init__(self) -> None:
        self.prepared = 0

    def prepare(self, folder: Path) -> None:
        assert list(folder.iterdir()) == []
        self.prepared += 1
        (folder / "card.json").write_text("{}")
        (folder / "number.json").write_text(json.dumps(self.prepared))

    def load(self, folder: Path) -> int:
        json.loads((folder / "card.json").read_text())
        return int(json.loads((folder / "number.json").read_text()))


def cache(root: Path, progress: Recorder | None = None, refresh: bool = False) -> PluginCache:
    return PluginCache(DataRequest("x", root, progress or Recorder(), refresh=refresh), "points")


def content(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "points").iterdir() if path.suffix != ".lock")


def test_a_folder_is_named_by_source_labels_and_a_hash_of_the_facts(tmp_path: Path) -> None:
    key = hashlib.sha256(json.dumps([1, "a b", [2.5, None]]).encode()).hexdigest()[:16]
    folder = cache(tmp_path).folder("my data.csv", [1, "a b", [2.5, None]], 32, "rgb")
    assert folder == tmp_path / "points" / f"my_data.csv-32-rgb-{key}"
    assert cache(tmp_path).folder("my data.csv", [1, "a b", [2.5, True]], 32, "rgb") != folder
    assert cache(tmp_path).folder("q", [1]).name.startswith("q-") and cache(tmp_path).downloads.name == "downloads"
    assert folder_name("../../x:y/é") == ".._.._x_y_é" and len(folder_name("a" * 99)) == 60


def test_prepared_folders_of_a_source_are_known_by_its_name_alone(tmp_path: Path) -> None:
    cache = PluginCache(DataRequest("any", tmp_path), "points")
    assert not cache.holds("ring [a]")
    for source, labels in (("ring [a] more", ()), ("ring [a]", (32,)), ("rin", ())):
        cache.folder(source, [1], *labels).mkdir(parents=True)
    cache.root.joinpath(f"{cache.folder('ring [a]', [2]).name}.lock").touch()
    assert not cache.holds("ring [a]")
    cache.folder("ring [a]", [2]).mkdir()
    assert cache.holds("ring [a]") and not cache.holds("ring")


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache(Path("~/c")).root == tmp_path / "c" / "points"


def test_made_once_opened_again_and_made_anew_on_request(tmp_path: Path) -> None:
    numbers = Numbers()
    folder = cache(tmp_path).folder("x", [1])
    assert [cache(tmp_path).open(folder, numbers.prepare, numbers.load) for _ in range(3)] == [1, 1, 1]
    assert cache(tmp_path, refresh=True).open(folder, numbers.prepare, numbers.load) == 2
    assert cache(tmp_path).open(folder, numbers.prepare, numbers.load) == 2
    assert content(tmp_path) == [folder.name]


@pytest.mark.parametrize("name", ["card.json", "number.json"])
@pytest.mark.parametrize("damage", [b"", b'{"a":', b"\xff\xfe"])
def test_a_damaged_folder_is_reported_and_made_anew(name: str, damage: bytes, tmp_path: Path) -> None:
    numbers, progress = Numbers(), Recorder()
    folder = cache(tmp_path).folder("x", [1])
    cache(tmp_path).open(folder, numbers.prepare, numbers.load)
    (folder / name).write_bytes(damage)
    assert cache(tmp_path, progress).open(folder, numbers.prepare, numbers.load) == 2
    assert progress.messages[0].startswith(f"{folder}: damaged (") and progress.messages[0].endswith("preparing again")
    assert "\n" not in progress.messages[0]
    (folder / name).unlink()
    quiet = Recorder()
    assert cache(tmp_path, quiet).open(folder, numbers.prepare, numbers.load) == 3 and quiet.messages == []


@pytest.mark.parametrize("error", [EOFError(), KeyError("a"), UsageError("b")])
def test_errors_without_words_do_not_hide_the_damage(error: Exception, tmp_path: Path) -> None:
    numbers, progress, raised = Numbers(), Recorder(), [error]

    def load(folder: Path) -> int:
        if raised and folder.exists():
            raise raised.pop()
        return numbers.load(folder)

    folder = cache(tmp_path).folder("x", [1])
    cache(tmp_path).open(folder, numbers.prepare, numbers.load)
    assert cache(tmp_path, progress).open(folder, numbers.prepare, load) == 1  # whole again under the lock
    assert len(progress.messages) == 1


def test_what_cannot_be_read_back_is_an_error(tmp_path: Path) -> None:
    def load(folder: Path) -> int:
        raise FileNotFoundError(errno.ENOENT, "gone")

    with pytest.raises(UniteError, match="cannot be read after it was written"):
        cache(tmp_path).open(cache(tmp_path).folder("x", [1]), Numbers().prepare, load)


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (UsageError("no point in it"), UsageError, "no point in it"),
        (OSError(errno.ENOSPC, "No space left on device"), UniteError, "cannot write to .*points: No space left"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_a_failed_preparation_leaves_nothing(
    raised: BaseException, expected: type[BaseException], message: str, tmp_path: Path
) -> None:
    def prepare(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise raised

    numbers = Numbers()
    folder = cache(tmp_path).folder("x", [1])
    with pytest.raises(expected, match=message):
        cache(tmp_path).open(folder, prepare, numbers.load)
    assert content(tmp_path) == []
    # Nor does it cost what was there before.
    cache(tmp_path).open(folder, numbers.prepare, numbers.load)
    with pytest.raises(expected, match=message):
        cache(tmp_path, refresh=True).open(folder, prepare, numbers.load)
    assert cache(tmp_path).open(folder, numbers.prepare, numbers.load) == 1


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    numbers = Numbers()
    folder = cache(tmp_path).folder("x", [1])
    killed, other = (tmp_path / "points" / f"{name}.part-0123" for name in (folder.name, "other"))
    for path in (killed, other):
        path.mkdir(parents=True)
    cache(tmp_path).open(folder, numbers.prepare, numbers.load)
    assert content(tmp_path) == sorted([folder.name, other.name])


def test_a_cache_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "points").write_text("a file")
    folder = cache(tmp_path).folder("x", [1])
    with pytest.raises(UniteError, match="cannot write to ") as caught:
        cache(tmp_path).open(folder, Numbers().prepare, lambda path: int((path / "n").read_text()))
    assert "cache folder" in caught.value.hint


def test_processes_that_ask_at_once_prepare_once(tmp_path: Path) -> None:
    answers = FORKED.Queue()
    processes = [FORKED.Process(target=open_slowly, args=(tmp_path, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(found) == [(0, 7), (0, 7), (1, 7)]


def test_a_file_is_described_by_size_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    described = describe_file(path)
    assert (described.name, described.bytes) == ("a.bin", 3)
    assert described.sha256 == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(UsageError, match=r"gone: cannot be read"):
        describe_file(tmp_path / "gone")


def test_a_folder_is_described_by_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "deep" / "b").write_text("22")
    first = describe_file(folder)
    assert (first.name, first.bytes) == ("set/", 3)
    (folder / ".hidden").write_text("x")
    assert describe_file(folder) == first
    (folder / "a").write_text("2")
    changed = describe_file(folder)
    (folder / "a").write_text("1")
    (folder / "deep" / "b").rename(folder / "deep" / "c")
    assert len({one.sha256 for one in (first, changed, describe_file(folder))}) == 3
