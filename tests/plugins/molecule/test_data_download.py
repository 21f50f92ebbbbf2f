"""Downloading QM9 from servers that answer wrongly: nothing but a sound file is ever kept."""

import http.server
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from helpers.molecule_files import NAMED, block, raw_zip, uncharacterized
from helpers.qm9_package import without_package

from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError
from unite_mm.kit.download import Rejected, Remote, fetch
from unite_mm.progress import Silent
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data import download
from unite_mm_molecule.data.download import check_archive, check_uncharacterized
from unite_mm_molecule.data.prepare import open_prepared

PAGE = b"<!DOCTYPE html><html><body>AccessDenied</body></html>"


@pytest.fixture(autouse=True)
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """QM9 is downloaded only where the package that holds it is not installed."""
    without_package(monkeypatch)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path; counts what it was asked for."""

    answers: ClassVar[dict[str, tuple[int, bytes, int | None]]]
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body, claimed = self.answers.get(self.path, (404, PAGE, None))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, type[Handler]]]:
    """Base address of a local server, and its handler."""
    archive = raw_zip(tmp_path / "made.zip", [block(name) for name in NAMED]).read_bytes()
    listed = uncharacterized(range(1, 3)).encode()

    class Local(Handler):
        asked: ClassVar[list[str]] = []
        answers: ClassVar[dict[str, tuple[int, bytes, int | None]]] = {
            "/page": (200, PAGE, None),
            "/busy": (202, b"", None),
            "/empty": (200, b"", None),
            "/forbidden": (403, PAGE, None),
            "/short": (200, archive[:200], len(archive)),
            "/torn": (200, archive[: len(archive) // 2], None),
            "/flipped": (200, archive[:200] + bytes(50) + archive[250:], None),
            "/few": (200, raw_zip(tmp_path / "few.zip", [block("water")]).read_bytes(), None),
            "/good": (200, archive, None),
            "/list": (200, listed, None),
        }

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Local)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", Local
    running.shutdown()
    running.server_close()
    thread.join()


def remote(base: str, *paths: str) -> Remote:
    urls = tuple(base + path for path in paths)
    return replace(download.ARCHIVE, urls=urls, check=partial(check_archive, molecules=len(NAMED)))


WRONG = {
    "/page": "not a zip file but a web page",
    "/busy": "HTTP 202",
    "/empty": "an empty answer",
    "/forbidden": "HTTP Error 403: Forbidden",
    "/gone": "HTTP Error 404: Not Found",
    "/short": "200 of",
    "/torn": "a damaged zip file",
    "/flipped": "a damaged zip file",
    "/few": "an incomplete gdb9.sdf (1 of 12 molecules)",
}


@pytest.mark.parametrize("path", WRONG)
def test_a_wrong_answer_is_dropped_and_the_next_mirror_asked(
    path: str, server: tuple[str, type[Handler]], tmp_path: Path
) -> None:
    base, handler = server
    folder = tmp_path / "downloads"
    with pytest.raises(UniteError) as caught:
        fetch(remote(base, path), folder, Silent())
    assert WRONG[path] in caught.value.message and caught.value.exit_code == 1
    assert "--data embedded" in caught.value.hint
    assert [file.name for file in folder.iterdir() if file.suffix != ".lock"] == []
    found = fetch(remote(base, path, "/good"), folder, Silent())
    assert found.read_bytes() == (tmp_path / "made.zip").read_bytes()
    assert sorted(file.name for file in folder.iterdir() if file.suffix != ".lock") == ["qm9.zip"]
    asked = len(handler.asked)
    assert fetch(remote(base, path, "/good"), folder, Silent()) == found and len(handler.asked) == asked


def test_qm9_is_downloaded_once_and_prepared(
    server: tuple[str, type[Handler]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, handler = server
    check = partial(check_uncharacterized, least=2)
    listed = replace(download.UNCHARACTERIZED, urls=(base + "/list",), check=check)
    monkeypatch.setattr(download, "ARCHIVE", remote(base, "/page", "/good"))
    monkeypatch.setattr(download, "UNCHARACTERIZED", listed)
    for _ in range(2):
        prepared = open_prepared(DataRequest("qm9", tmp_path / "cache", workers=1), MoleculeConfig(), "qm9")
        assert prepared.card.name == "qm9" and prepared.card.read == len(NAMED)
        assert prepared.card.excluded[0].examples == ("water: left out", "methane: left out")
        assert [file.name for file in prepared.card.files] == ["qm9.zip", "uncharacterized.txt"]
    assert handler.asked == ["/page", "/good", "/list"]


def test_qm9_without_its_list_of_uncharacterized_molecules_is_an_error(
    server: tuple[str, type[Handler]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = server
    listed = replace(download.UNCHARACTERIZED, urls=(base + "/busy", base + "/page"))
    monkeypatch.setattr(download, "ARCHIVE", remote(base, "/good"))
    monkeypatch.setattr(download, "UNCHARACTERIZED", listed)
    with pytest.raises(
        UniteError, match=r"^uncharacterized.txt of QM9 could not be downloaded .*HTTP 202; .*a web page"
    ):
        open_prepared(DataRequest("qm9", tmp_path / "cache", workers=1), MoleculeConfig(), "qm9")
    assert not list((tmp_path / "cache").rglob("card.json"))


def test_without_a_network_the_alternatives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError(OSError("Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(UniteError) as caught:
        open_prepared(DataRequest("qm9", tmp_path / "cache", workers=1), MoleculeConfig(), "qm9")
    assert "qm9.zip of QM9 could not be downloaded" in caught.value.message
    assert "Name or service not known" in caught.value.message and "\n" not in caught.value.message
    assert all(way in caught.value.hint for way in ("--data embedded", ".sdf", ".xyz", ".smi", "zip"))
    assert not list((tmp_path / "cache").rglob("card.json"))


def test_the_list_must_be_a_list(tmp_path: Path) -> None:
    path = tmp_path / "uncharacterized.txt"
    path.write_text(uncharacterized(range(1, 3055)))
    check_uncharacterized(path)
    for content in (PAGE, uncharacterized(range(1, 100)).encode(), b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(Rejected):
            check_uncharacterized(path)


def test_the_block_count_is_right_across_read_boundaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("gdb9.sdf", "x\n$$$$\n" * 50)
    for size in (1, 2, 3, 5, 7, 1000):
        monkeypatch.setattr(download, "_BLOCK", size)
        check_archive(path, molecules=50)
