"""Metadata of other distributions that are damaged: libraries look for extensions among them and stop at the first."""

import importlib.metadata
import sys
from typing import Any

import importlib_metadata

from unite_mm.cli.terminal import message


def pass_over_damaged_metadata() -> None:
    """Let every distribution whose `entry_points.txt` cannot be read have none, and say so once.

    pydantic, torch and fsspec each read the entry points of all that is installed when they are loaded. A single file
    that an interrupted installation left half-written would break every command with an error that names no file.
    """
    told: set[str] = set()
    for module in (importlib.metadata, importlib_metadata):  # the second replaces the first where it is loaded
        _tolerate(module, told)


def _tolerate(module: Any, told: set[str]) -> None:
    original = module.Distribution.entry_points

    def readable(self: Any) -> Any:
        try:
            return original.__get__(self)
        except Exception as error:
            where = str(getattr(self, "_path", self))
            if where not in told:
                told.add(where)
                text = f"{where}/entry_points.txt cannot be read and is left out: {error}"
                print(message("warning", text, "reinstall or remove that distribution"), file=sys.stderr)
            return module.EntryPoints(())

    module.Distribution.entry_points = property(readable)
