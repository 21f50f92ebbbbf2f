"""Which shards a source means: a folder, a tar file, a manifest or a list; what lies on servers is fetched once."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlparse

from unite_mm.contract import DataRequest
from unite_mm.errors import UsageError
from unite_mm.kit.download import Remote, fetch
from unite_mm_image.data.limits import need_file
from unite_mm_image.data.shards import MANIFEST, Manifest, find_shards, is_shards, read_manifest

_LONGEST_LIST = 1 << 24
"""Bytes of a list of shards."""


@dataclass(frozen=True)
class Shards:
    """The shards of a source.

    Attributes:
        name: of the source.
        paths: the files.
        manifest: what they hold, where it is known.
    """

    name: str
    paths: tuple[Path, ...]
    manifest: Manifest | None


def shards_of(request: DataRequest) -> Shards | None:
    """The shards that a source means, fetched if need be; None where it means something else.

    A source is a folder of tar files; one tar file; `shards.json`, as a path or a URL; or a `.txt` file with a path or
    URL of a tar file on each line.

    Raises:
        UsageError: a file is missing, damaged, or not what the manifest says.
        UniteError: something cannot be fetched.
    """
    source = request.source
    if _is_url(source):
        return _from_server(request) if urlparse(source).path.endswith((".json", ".tar")) else None
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path) if (path / MANIFEST).is_file() or is_shards(path) else None
    if not path.exists():
        return None
    if path.name == MANIFEST:
        return _in_folder(path.parent)
    if path.suffix == ".tar":
        return Shards(path.name, (path,), None)
    return _listed(path, request) if path.suffix == ".txt" else None


def _in_folder(folder: Path) -> Shards:
    paths, manifest = find_shards(folder)
    return Shards(folder.resolve().name, tuple(paths), manifest)


def _from_server(request: DataRequest) -> Shards:
    """Those that a manifest at a URL names, which lie beside it; or a single tar file."""
    url = request.source
    folder = _folder(request, url)
    if urlparse(url).path.endswith(".tar"):
        return Shards(_name(url), (_fetch(url, folder, request),), None)
    told = _fetch(url, folder, request, MANIFEST)
    manifest = read_manifest(told)
    for shard in manifest.shards:
        remote = Remote(shard.name, (urljoin(url, shard.name),), size=shard.bytes, sha256=shard.sha256)
        fetch(remote, folder, request.progress)
    paths, _ = find_shards(folder)
    return Shards(_name(url), tuple(paths), manifest)


def _listed(path: Path, request: DataRequest) -> Shards | None:
    """Those that a text names; None if it names none."""
    need_file(path)
    if path.stat().st_size > _LONGEST_LIST:
        raise UsageError(f"{path}: too long for a list of shards", "give a file with one path or URL on each line")
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    if not any(urlparse(entry).path.endswith(".tar") for entry in entries):
        return None
    if odd := next((entry for entry in entries if not urlparse(entry).path.endswith(".tar")), None):
        raise UsageError(f"{path}: {odd[:120]!r} is no tar file", "give a path or URL of a tar file on each line")
    found = []
    for entry in entries:
        if _is_url(entry):
            found.append(_fetch(entry, _folder(request, entry.rpartition("/")[0]), request))
            continue
        local = path.parent / Path(entry).expanduser()
        if not local.is_file():
            raise UsageError(f"{path}: {entry} does not exist", "paths count from the folder of the list")
        found.append(local)
    return Shards(path.name, tuple(found), None)


def _fetch(url: str, folder: Path, request: DataRequest, name: str = "") -> Path:
    hint = "check the address, or fetch the files by other means and name their folder"
    return fetch(Remote(name or _name(url), (url,), title=url, hint=hint), folder, request.progress)


def _folder(request: DataRequest, url: str) -> Path:
    """Where files of a server are kept: a folder for each address."""
    key = hashlib.sha256(url.encode(errors="replace")).hexdigest()[:16]
    return request.cache.expanduser() / "image" / "downloads" / f"shards-{key}"


def _name(url: str) -> str:
    return Path(urlparse(url).path).name or "shards"


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))
