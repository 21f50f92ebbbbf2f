"""Downloads from a local server that answers wrongly in many ways: nothing but the right file is ever kept."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from unite_mm.errors import UniteError
from unite_mm.kit.download import Rejected, Remote, describe_answer, fetch
from unite_mm.progress import Silent

GOOD = bytes(range(256)) * 20
PAGE = b"\n <!DOCTYPE HTML><html>AccessDenied</html>"


class Recorder(Silent):
    """A `Progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.bars: list[tuple[str, int | None, int]] = []

    @contextmanager
    def task(self, title: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        seen: list[int] = []
        yield seen.append
        self.bars.append((title, total, sum(seen)))

    def say(self, message: str) -> None:
        self.messages.append(message)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: status, body, and the length it claims (-1: none)."""

    answers: ClassVar[dict[str, tuple[int, bytes, int]]] = {
        "/good": (200, GOOD, len(GOOD)),
        "/unsized": (200, GOOD, -1),
        "/page": (200, PAGE, len(PAGE)),
        "/empty": (200, b"", 0),
        "/busy": (202, b"", 0),
        "/short": (200, GOOD[:100], len(GOOD)),
        "/torn": (200, GOOD[:100], 100),
        "/longer": (200, GOOD * 900, -1),
        "/flipped": (200, GOOD[:-1] + b"x", len(GOOD)),
    }
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body, claimed = self.answers.get(self.path, (404, PAGE, len(PAGE)))
        self.send_response(status)
        if claimed >= 0:
            self.send_header("Content-Length", str(claimed))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def base() -> Iterator[str]:
    """Address of a local server."""
    Handler.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def remote(base: str, *paths: str, check: Callable[[Path], None] | None = None) -> Remote:
    digest = hashlib.sha256(GOOD).hexdigest()
    urls = tuple(base + path for path in paths)
    return Remote("data.bin", urls, check, len(GOOD), digest, "data.bin of the set", "use your own")


def kept(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


WRONG = {
    "/page": "a web page instead of the file",
    "/empty": "an empty answer",
    "/busy": "HTTP 202",
    "/gone": "HTTP Error 404: Not Found",
    "/short": f"100 of {len(GOOD)} bytes",
    "/torn": f"100 bytes instead of {len(GOOD)}",
    "/longer": f"more than the {len(GOOD)} bytes of the file",
    "/flipped": "another file: its SHA-256 begins with ",
}


@pytest.mark.parametrize("path", WRONG)
def test_a_wrong_answer_is_dropped_and_the_next_mirror_asked(path: str, base: str, tmp_path: Path) -> None:
    folder, progress = tmp_path / "new" / "downloads", Recorder()
    with pytest.raises(UniteError, match=r"^data.bin of the set could not be downloaded \(127.0.0.1") as caught:
        fetch(remote(base, path), folder, Silent())
    assert WRONG[path] in caught.value.message and caught.value.hint == "use your own" and kept(folder) == []
    assert fetch(remote(base, path, "/good"), folder, progress).read_bytes() == GOOD
    assert len(progress.messages) == 1 and progress.messages[0].endswith("; trying the next mirror")
    assert kept(folder) == ["data.bin"]


def test_an_address_is_asked_again_where_that_may_help(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("unite_mm.kit.download.time.sleep", pauses.append)
    progress = Recorder()
    tried = replace(remote(base, "/short", "/gone", "/good"), tries=3)
    assert fetch(tried, tmp_path, progress).read_bytes() == GOOD
    assert Handler.asked == ["/short"] * 3 + ["/gone", "/good"]  # what is missing stays missing
    assert pauses == [1, 2]
    endings = [message.rpartition("; ")[2] for message in progress.messages]
    assert endings == ["asking again", "asking again", "trying the next mirror", "trying the next mirror"]


def test_downloaded_once_with_progress(base: str, tmp_path: Path) -> None:
    progress = Recorder()
    first = fetch(remote(base, "/good"), tmp_path, progress)
    assert progress.bars == [("Downloading data.bin", len(GOOD), len(GOOD))]
    assert fetch(remote(base, "/good"), tmp_path, progress) == first and Handler.asked == ["/good"]


def test_size_and_hash_are_optional(base: str, tmp_path: Path) -> None:
    progress = Recorder()
    assert fetch(Remote("a", (base + "/unsized",)), tmp_path, progress).read_bytes() == GOOD
    assert progress.bars[0][1:] == (None, len(GOOD))
    digest = hashlib.sha256(GOOD).hexdigest()
    assert fetch(Remote("b", (base + "/good",), sha256=digest[:8].upper()), tmp_path, progress).is_file()
    with pytest.raises(UniteError, match=r"^c could not be downloaded .*a web page"):
        fetch(Remote("c", (base + "/page",)), tmp_path, progress)


def test_the_own_check_has_the_first_word(base: str, tmp_path: Path) -> None:
    def check(path: Path) -> None:
        if path.read_bytes() != GOOD:
            raise Rejected(f"no data but {describe_answer(path)}")

    with pytest.raises(UniteError, match=r"no data but a web page; .*no data but 100 bytes of something else"):
        fetch(remote(base, "/page", "/torn", check=check), tmp_path, Silent())
    assert fetch(remote(base, "/good", check=check), tmp_path, Silent()).is_file()


def test_a_server_that_cannot_be_reached_is_named(base: str, tmp_path: Path) -> None:
    with pytest.raises(UniteError, match=r"127.0.0.1:9: .*refused"):
        fetch(remote("http://127.0.0.1:9", "/good"), tmp_path, Silent())


def test_threads_that_ask_at_once_download_once(base: str, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fetch, args=(remote(base, "/good"), tmp_path, Silent())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Handler.asked == ["/good"] and kept(tmp_path) == ["data.bin"]


def test_a_folder_that_cannot_be_written_is_an_error(base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UniteError, match="cannot write to ") as caught:
        fetch(remote(base, "/good"), tmp_path / "file" / "downloads", Silent())
    assert "cache folder" in caught.value.hint and Handler.asked == []
