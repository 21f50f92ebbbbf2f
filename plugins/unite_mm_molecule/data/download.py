"""QM9's raw files from the network: several mirrors, every answer checked before it is kept."""

import errno
import http.client
import os
import re
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from unite_mm.errors import UniteError
from unite_mm.progress import Progress

_TIMEOUT = 30.0
"""Seconds without a byte after which a mirror is given up."""

_BLOCK = 1 << 20
"""Bytes read at once."""

QM9_MOLECULES = 133_885
"""Molecules of the complete QM9."""

ALTERNATIVES = (
    "Give molecules of your own with --data (a folder or zip with QM9's raw files, or a .sdf, .xyz or .smi file), "
    "or use the set that ships with the package: --data embedded"
)


class Rejected(Exception):
    """An answer of a server that is not the file asked for."""


@dataclass(frozen=True)
class Remote:
    """A file on the network.

    Attributes:
        name: file name in the download folder.
        urls: where it can be had, tried in this order.
        check: raises `Rejected` if the file at a path is not what it should be.
    """

    name: str
    urls: tuple[str, ...]
    check: Callable[[Path], None]


def check_archive(path: Path, molecules: int = QM9_MOLECULES) -> None:
    """Check that a file is a sound zip with the complete gdb9.sdf.

    Args:
        path: the file.
        molecules: how many gdb9.sdf must hold.

    Raises:
        Rejected: it is not.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"PK\x03\x04":
        raise Rejected(f"not a zip file but {_describe(path)}")
    try:
        with zipfile.ZipFile(path) as archive:
            member = next((name for name in archive.namelist() if name.split("/")[-1] == "gdb9.sdf"), None)
            if member is None:
                raise Rejected("a zip file without gdb9.sdf")
            count, tail = 0, b""
            with archive.open(member) as content:  # read to the end, so its checksum is verified too
                while block := content.read(_BLOCK):
                    text = tail + block
                    count += text.count(b"$$$$")
                    tail = text[-3:]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise Rejected(f"a damaged zip file ({error})") from error
    if count != molecules:
        raise Rejected(f"an incomplete gdb9.sdf ({count} of {molecules} molecules)")


def check_uncharacterized(path: Path, least: int = 3_000) -> None:
    """Check that a file is the list of uncharacterized molecules (3,054 of them).

    Args:
        path: the file.
        least: fewest entries to accept.

    Raises:
        Rejected: it is not.
    """
    try:
        found = len(parse_uncharacterized(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError as error:
        raise Rejected("not a text file") from error
    if found < least:
        raise Rejected(f"not the list of uncharacterized molecules but {_describe(path)}")


def parse_uncharacterized(text: str) -> frozenset[int]:
    """Indices (from 0) of the molecules listed in uncharacterized.txt.

    Read as PyTorch Geometric does: nine header lines, two trailing lines, first column counts from 1. Lines that do not
    begin with a number are passed over.
    """
    numbers = (re.match(r"\s*(\d+)\b", line) for line in text.replace("\r\n", "\n").split("\n")[9:-2])
    return frozenset(int(match[1]) - 1 for match in numbers if match and int(match[1]) > 0)


ARCHIVE = Remote(
    name="qm9.zip",
    urls=(
        "https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/molnet_publish/qm9.zip",
        "https://s3.us-west-1.amazonaws.com/deepchemdata/datasets/molnet_publish/qm9.zip",
        "https://s3-us-west-1.amazonaws.com/deepchem.io/datasets/molnet_publish/qm9.zip",
    ),
    check=check_archive,
)
"""gdb9.sdf and gdb9.sdf.csv, as PyTorch Geometric downloads them."""

UNCHARACTERIZED = Remote(
    name="uncharacterized.txt",
    urls=(
        "https://ndownloader.figshare.com/files/3195404",
        "https://springernature.figshare.com/ndownloader/files/3195404",
        "https://figshare.com/ndownloader/files/3195404",
    ),
    check=check_uncharacterized,
)
"""The molecules whose relaxed geometry no longer belongs to their SMILES (Ramakrishnan et al. 2014)."""


def fetch(remote: Remote, folder: Path, progress: Progress) -> Path:
    """The file, downloaded on the first call. Safe when two processes do it at once.

    An answer is written aside, checked, and only then renamed into place: an error page is never kept.

    Args:
        remote: what to fetch.
        folder: where downloads are kept.
        progress: where to show it.

    Raises:
        UniteError: no mirror gave the file; the message says what each answered.
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


def _fetch_from_any(remote: Remote, target: Path, progress: Progress) -> Path:
    failures = []
    for url in remote.urls:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{remote.name}.part-") as aside:
            part = Path(aside) / remote.name
            try:
                _download(url, part, f"Downloading {remote.name}", progress)
                remote.check(part)
            except (Rejected, OSError, http.client.HTTPException, ValueError) as error:
                # urllib's errors, timeouts and a full disk are all OSErrors; the last is no mirror's fault.
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                failures.append(f"{url.split('/')[2]}: {error}")
                progress.say(f"{failures[-1]}; trying the next mirror" if url != remote.urls[-1] else failures[-1])
                continue
            os.replace(part, target)
            return target
    raise UniteError(f"{remote.name} of QM9 could not be downloaded ({'; '.join(failures)})", ALTERNATIVES)


def _download(url: str, path: Path, title: str, progress: Progress) -> None:
    """Write the answer of a server to a file."""
    request = urllib.request.Request(url, headers={"User-Agent": "unite-mm"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        if answer.status != 200:  # figshare answers 202 with nothing in it while it prepares a file
            raise Rejected(f"HTTP {answer.status}")
        size = answer.headers.get("Content-Length")
        received = 0
        with progress.task(title, int(size) if size else None) as advance:
            while block := answer.read(_BLOCK):
                file.write(block)
                received += len(block)
                advance(len(block))
    if received == 0:
        raise Rejected("an empty answer")
    if size and received != int(size):
        raise Rejected(f"{received} of {size} bytes")


def _describe(path: Path) -> str:
    """What a wrong answer seems to be."""
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return f"{path.stat().st_size} bytes of something else"
