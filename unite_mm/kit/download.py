"""Files from the network: several mirrors, every answer checked before it is kept.

A broken download starts again from its beginning with the next mirror; nothing of it stays.
"""

import errno
import hashlib
import http.client
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from unite_mm.errors import UniteError
from unite_mm.kit.messages import one_line
from unite_mm.progress import Progress

_TIMEOUT = 30.0
"""Seconds without a byte after which a mirror is given up."""

_PAUSE = 1.0
"""Seconds before an address is asked again; twice as many each time."""

_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers of servers that may be others later."""

_BLOCK = 1 << 20
"""Bytes read at once."""


class Rejected(Exception):
    """An answer of a server that is not the file asked for; the text says what it is instead."""


@dataclass(frozen=True)
class Remote:
    """A file on the network.

    Attributes:
        name: file name in the download folder.
        urls: where it can be had, tried in this order.
        check: raises `Rejected` if the file at a path is not what it should be.
        size: in bytes, where known.
        sha256: hash of the content, or its first hex digits; empty: unknown.
        title: what messages call the file; empty: its name.
        hint: what a user can do where it cannot be downloaded.
        tries: how often each address is asked where the failure may pass: no connection, a broken or damaged answer, a
            busy server.
    """

    name: str
    urls: tuple[str, ...]
    check: Callable[[Path], None] | None = None
    size: int | None = None
    sha256: str = ""
    title: str = ""
    hint: str = ""
    tries: int = 1


def fetch(remote: Remote, folder: Path, progress: Progress) -> Path:
    """The file, downloaded on the first call. Safe when two processes do it at once.

    An answer is written aside, checked, and only then renamed into place: an error page is never kept.

    Args:
        remote: what to fetch.
        folder: where downloads are kept.
        progress: where to show it.

    Raises:
        UniteError: no mirror gave the file, the message says what each answered; or the folder cannot be written.
    """
    target = folder / remote.name
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{remote.name}.lock"):
            return target if target.exists() else _fetch_from_any(remote, target, progress)
    except OSError as error:
        hint = "Free space, or name another cache folder."
        raise UniteError(f"cannot write to {folder}: {error.strerror or error}", hint) from error


def describe_answer(path: Path) -> str:
    """What a wrong answer seems to be, in words: a web page, or its size."""
    return "a web page" if _is_web_page(path) else f"{path.stat().st_size} bytes of something else"


def _fetch_from_any(remote: Remote, target: Path, progress: Progress) -> Path:
    failures: list[str] = []
    attempts = [(url, number) for url in remote.urls for number in range(remote.tries)]
    final = ""
    for url, number in attempts:
        if url == final:
            continue
        if number:
            time.sleep(_PAUSE * 2 ** (number - 1))
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{remote.name}.part-") as aside:
            part = Path(aside) / remote.name
            try:
                digest = _download(url, part, f"Downloading {remote.name}", progress, remote.size)
                _check(remote, part, digest)
            except (Rejected, OSError, http.client.HTTPException, ValueError) as error:
                # urllib's errors, timeouts and a full disk are all OSErrors; the last is no mirror's fault.
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                told = f"{url.split('/')[2]}: {one_line(error)}"
                if number + 1 < remote.tries and _may_pass(error):
                    progress.say(f"{told}; asking again")
                    continue
                final = url
                failures.append(told)
                progress.say(f"{told}; trying the next mirror" if url != remote.urls[-1] else told)
                continue
            os.replace(part, target)
            return target
    raise UniteError(f"{remote.title or remote.name} could not be downloaded ({'; '.join(failures)})", remote.hint)


def _may_pass(error: Exception) -> bool:
    """Whether a server that is asked again may answer otherwise."""
    return not isinstance(error, urllib.error.HTTPError) or error.code in _PASSING


def _download(url: str, path: Path, title: str, progress: Progress, most: int | None = None) -> str:
    """Write the answer of a server to a file; the SHA-256 of the content.

    Raises:
        Rejected: there is no answer, an empty one, a part of one, or one of more than `most` bytes.
        OSError, http.client.HTTPException: there is no connection, or it breaks.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "unite-mm"})
    digest, received = hashlib.sha256(), 0
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        if answer.status != 200:  # figshare answers 202 with nothing in it while it prepares a file
            raise Rejected(f"HTTP {answer.status}")
        size = answer.headers.get("Content-Length")
        with progress.task(title, int(size) if size else None) as advance:
            while block := answer.read(_BLOCK):
                file.write(block)
                digest.update(block)
                received += len(block)
                if most is not None and received > most:
                    raise Rejected(f"more than the {most} bytes of the file")
                advance(len(block))
    if received == 0:
        raise Rejected("an empty answer")
    if size and received != int(size):
        raise Rejected(f"{received} of {size} bytes")
    return digest.hexdigest()


def _check(remote: Remote, path: Path, digest: str) -> None:
    """Compare a file with what is known of it; the plugin's own check first, as it has the clearest words.

    Raises:
        Rejected: it is another one.
    """
    if remote.check is not None:
        remote.check(path)
    if _is_web_page(path):
        raise Rejected("a web page instead of the file")
    if remote.size is not None and path.stat().st_size != remote.size:
        raise Rejected(f"{path.stat().st_size} bytes instead of {remote.size}")
    if not digest.startswith(remote.sha256.lower()):
        raise Rejected(f"another file: its SHA-256 begins with {digest[:8]}, not {remote.sha256[:8]}")


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))
