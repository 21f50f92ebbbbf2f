"""Which shards a source means: a folder, file, manifest, pattern or list; what lies on servers is fetched once."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlparse

from unite_mm.contract import DataRequest
from unite_mm.errors import UsageError
from unite_mm.kit.download import Remote, fetch
from unite_mm_image.data.limits import need_file
from unite_mm_image.data.shards import KINDS, MANIFEST, Manifest, find_shards, kind_of, read_manifest, shards_in

_LONGEST_LIST = 1 << 24
"""Bytes of a list of shards."""

_MOST = 100_000
"""Shards that a pattern in braces may stand for."""

_TRIES = 4
"""Times that a server is asked for a file before it is given up."""


@dataclass(frozen=True)
class Shards:
    """The shards of a source.

    Attributes:
        name: of the source.
        paths: the files, all .tar or all .parquet.
        manifest: what they hold, where it is known.
    """

    name: str
    paths: tuple[Path, ...]
    manifest: Manifest | None = None

    @property
    def parquet(self) -> bool:
        """Whether they are parquet files."""
        return self.paths[0].suffix == ".parquet"


def shards_of(request: DataRequest) -> Shards | None:
    """The shards that a source means, fetched if need be; None where it means something else.

    A source is a folder of tar or parquet files; one of them; `shards.json`, as a path or a URL; a path or URL with
    braces, as in `train-{000..146}.tar`; or a `.txt` file with any of these, one on each line, and behind a URL the
    SHA-256 of its file if it is known.

    Raises:
        UsageError: a file is missing, damaged, or not what the manifest says.
        UniteError: something cannot be fetched.
    """
    source = request.source
    path = Path(source).expanduser()
    if "{" in source and _is_shard(source) and not path.exists():
        return _found(_pattern_name(source), Path(), [(entry, "") for entry in expand(source)], request)
    if _is_url(source):
        return _from_server(request) if urlparse(source).path.endswith((".json", *KINDS)) else None
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return _in_folder(path)
        found = shards_in(path)
        return Shards(path.resolve().name, tuple(found)) if found else None
    if not path.exists():
        return None
    if path.name == MANIFEST:
        return _in_folder(path.parent)
    if path.suffix in KINDS:
        return Shards(path.name, (path,))
    return _listed(path, request) if path.suffix == ".txt" else None


def expand(pattern: str) -> list[str]:
    """The names that a pattern in braces stands for, as shells write them: `{000..146}` and `{a,b}`.

    Raises:
        UsageError: they are too many, or a brace is left open.
    """
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if match is None:
        if "{" in pattern or "}" in pattern:
            raise UsageError(f"{pattern[:200]}: braces hold neither a range nor a list", "write {000..146} or {a,b}")
        return [pattern]
    if match[3] is not None:
        chosen = match[3].split(",")
    else:
        first, last = int(match[1]), int(match[2])
        if abs(last - first) >= _MOST:
            raise UsageError(f"{pattern[:200]}: more than {_MOST:,} files", "give fewer")
        step, width = (1 if last >= first else -1), len(match[1]) if match[1].startswith("0") else 0
        chosen = [f"{number:0{width}d}" for number in range(first, last + step, step)]
    found: list[str] = []
    for one in chosen:
        found += expand(pattern[: match.start()] + one + pattern[match.end() :])
        if len(found) > _MOST:
            raise UsageError(f"{pattern[:200]}: more than {_MOST:,} files", "give fewer")
    return found


def _pattern_name(pattern: str) -> str:
    return re.sub(r"[{},]+", "_", pattern.rpartition("/")[2])


def _in_folder(folder: Path) -> Shards:
    paths, manifest = find_shards(folder)
    return Shards(folder.resolve().name, tuple(paths), manifest)


def _from_server(request: DataRequest) -> Shards:
    """Those that a manifest at a URL names, which lie beside it; or a single file."""
    url = request.source
    folder = _folder(request, url)
    if _is_shard(url):
        return Shards(_name(url), (_fetch(url, folder, request),))
    told = _fetch(url, folder, request, MANIFEST)
    manifest = read_manifest(told)
    for shard in manifest.shards:
        remote = Remote(shard.name, (urljoin(url, shard.name),), size=shard.bytes, sha256=shard.sha256, tries=_TRIES)
        fetch(remote, folder, request.progress)
    paths, _ = find_shards(folder)
    return Shards(_name(url), tuple(paths), manifest)


def _listed(path: Path, request: DataRequest) -> Shards | None:
    """Those that a text names; None if it names none."""
    need_file(path)
    if path.stat().st_size > _LONGEST_LIST:
        raise UsageError(f"{path}: too long for a list of shards", "give a file with one path or URL on each line")
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    entries = [_entry(line) for line in lines if line and not line.startswith("#")]
    if not any(_is_shard(entry) for entry, _ in entries):
        return None
    if odd := next((entry for entry, _ in entries if not _is_shard(entry)), None):
        raise UsageError(
            f"{path}: {odd[:120]!r} is no tar file and no parquet file", "give the path or URL of one on each line"
        )
    several = [(one, digest) for entry, digest in entries for one in expand(entry)]
    return _found(path.name, path.parent, several, request, path)


def _entry(line: str) -> tuple[str, str]:
    """Path or URL of a line, and the SHA-256 behind it or an empty text."""
    entry, _, digest = line.rpartition(" ")
    return (entry.strip(), digest.lower()) if re.fullmatch("[0-9a-fA-F]{64}", digest) else (line, "")


def _found(
    name: str, folder: Path, entries: Sequence[tuple[str, str]], request: DataRequest, where: Path | None = None
) -> Shards:
    """Shards by path or URL, those of servers fetched; paths count from a folder."""
    found = []
    for entry, digest in entries:
        if _is_url(entry):
            found.append(_fetch(entry, _folder(request, entry.rpartition("/")[0]), request, digest=digest))
            continue
        local = folder / Path(entry).expanduser()
        if not local.is_file():
            told = "" if where is None else f"{where}: "
            raise UsageError(f"{told}{entry} does not exist", "paths count from the folder of the list")
        found.append(local)
    kind_of(found, where or Path(name))
    return Shards(name, tuple(found))


def _fetch(url: str, folder: Path, request: DataRequest, name: str = "", digest: str = "") -> Path:
    hint = "check the address, or fetch the files by other means and name their folder"
    remote = Remote(name or _name(url), (url,), sha256=digest, title=url, hint=hint, tries=_TRIES)
    return fetch(remote, folder, request.progress)


def _folder(request: DataRequest, url: str) -> Path:
    """Where files of a server are kept: a folder for each address."""
    key = hashlib.sha256(url.encode(errors="replace")).hexdigest()[:16]
    return request.cache.expanduser() / "image" / "downloads" / f"shards-{key}"


def _name(url: str) -> str:
    return Path(urlparse(url).path).name or "shards"


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _is_shard(text: str) -> bool:
    """Whether a path or URL is that of a shard by its suffix."""
    return urlparse(text).path.endswith(KINDS)
