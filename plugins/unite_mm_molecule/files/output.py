"""Sample files and pictures are there whole or not at all."""

from collections.abc import Callable
from pathlib import Path

from unite_mm.errors import UniteError
from unite_mm.kit.files import write_aside


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then rename it into place.

    Raises:
        UniteError: the file cannot be written; an older one stays.
    """
    try:
        write_aside(path, write)
    except OSError as error:
        raise UniteError(
            f"{path}: cannot be written: {error.strerror or error}", "check the folder and its free space"
        ) from error
