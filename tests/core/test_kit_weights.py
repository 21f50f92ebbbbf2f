"""Published weights: where they are looked for, in which order, and what is never taken for them."""

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.weights import Weights, find_weights, read_weights, weights_folder

VARIABLE = "UNITE_MM_TEST_WEIGHTS"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Weights]:
    """Weights on a local server."""
    folder = tmp_path / "server"
    folder.mkdir()
    torch.save({"a": torch.arange(3.0)}, folder / "net.pth")
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/net.pth"
    yield Weights("weights of Net", "net.pth", url, digest, "points.net", VARIABLE, ("old-net.pth",), True, "wait")
    server.shutdown()
    server.server_close()
    thread.join()


def test_downloaded_into_torchs_cache_and_found_there(published: Weights, tmp_path: Path) -> None:
    path = find_weights(published)
    assert path == weights_folder() / "net.pth" == tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"
    assert read_weights(path)["a"].tolist() == [0.0, 1.0, 2.0]
    gone = replace(published, url="http://127.0.0.1:9/net.pth")
    assert find_weights(gone) == path


def test_a_named_file_comes_before_the_variable_and_that_before_the_cache(
    published: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = find_weights(published)
    one, two = tmp_path / "one.pth", tmp_path / "two.pth"
    for path in (one, two):
        path.write_bytes(cached.read_bytes())
    monkeypatch.setenv(VARIABLE, str(two))
    assert find_weights(published) == two and find_weights(published, str(one)) == one
    monkeypatch.setenv(VARIABLE, "")
    assert find_weights(published) == cached
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_weights(published, "~/one.pth") == one


def test_another_name_in_the_cache_serves_too(published: Weights) -> None:
    path = find_weights(published)
    os.rename(path, path.with_name("old-net.pth"))
    assert find_weights(replace(published, url="http://127.0.0.1:9/")) == path.with_name("old-net.pth")


@pytest.mark.parametrize("how", ["setting", "variable", "cache"])
def test_another_file_is_refused_where_it_must_be_exact(
    how: str, published: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = weights_folder() / "net.pth" if how == "cache" else tmp_path / "other.pth"
    other.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"b": torch.zeros(1)}, other)
    if how == "variable":
        monkeypatch.setenv(VARIABLE, str(other))
    named = str(other) if how == "setting" else None
    with pytest.raises(
        UsageError, match=r"not the published weights of Net \(SHA-256 \w{8}..., expected \w{8}"
    ) as caught:
        find_weights(published, named)
    assert caught.value.hint == "get net.pth again, or wait"
    assert find_weights(replace(published, exact=False), named) == other


def test_a_named_file_that_is_not_there_is_an_error(published: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^points.net: /absent.pth does not exist"):
        find_weights(published, "/absent.pth")
    monkeypatch.setenv(VARIABLE, "/gone.pth")
    with pytest.raises(UsageError, match=rf"^{VARIABLE}: /gone.pth does not exist"):
        find_weights(published)


def test_without_a_network_the_ways_out_are_named(published: Weights) -> None:
    with pytest.raises(UniteError, match=r"^weights of Net: net.pth could not be downloaded \(127.0.0.1:9: ") as caught:
        find_weights(replace(published, url="http://127.0.0.1:9/net.pth"))
    assert "\n" not in caught.value.message and not isinstance(caught.value, UsageError)
    assert caught.value.hint == (
        f"put net.pth into {weights_folder()}, name it with {VARIABLE}=FILE or --set points.net=FILE, or wait"
    )
    with pytest.raises(UniteError) as caught:
        find_weights(replace(published, url="http://127.0.0.1:9/net.pth", variable="", instead=""))
    assert caught.value.hint == f"put net.pth into {weights_folder()}, or name it with --set points.net=FILE"


def test_a_download_of_another_file_is_not_kept(published: Weights) -> None:
    with pytest.raises(UniteError, match="another file: its SHA-256"):
        find_weights(replace(published, sha256="0" * 64, exact=False))
    assert not list(weights_folder().glob("*.pth"))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("made-by-a-weights-file",)


@pytest.mark.parametrize("kind", ["page", "cut", "code", "list", "nested"])
def test_only_tensors_by_name_are_weights(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pth"
    held = {"code": Evil(), "list": [torch.zeros(1)], "nested": {"a": {"b": torch.zeros(1)}}}
    torch.save(held.get(kind, {"a": torch.zeros(999)}), path)
    if kind == "page":
        path.write_bytes(b"<html>not found</html>")
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(UniteError, match=r"net.pth: (cannot be read as weights|holds no tensors by name)") as caught:
        read_weights(path)
    words = ("npickl", "PytorchStream", "weights_only", "central directory")  # torch's own
    assert not [word for word in words if word in str(caught.value)]
    assert "\n" not in caught.value.message and not (tmp_path / "made-by-a-weights-file").exists()


def test_pipes_and_devices_are_no_weights(tmp_path: Path, published: Weights) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(UniteError, match="not a file"):
            read_weights(tmp_path / name)
        with pytest.raises(UsageError, match="is not a file"):
            find_weights(published, str(tmp_path / name))
