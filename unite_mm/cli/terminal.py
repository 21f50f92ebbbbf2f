"""Everything that the commands print goes through here, so that no data can drive the terminal or forge a message."""

import io
import sys
import warnings
from typing import Any

import click

from unite_mm.utils.text import printable, printable_lines, shortened


def say(text: object = "", *, error: bool = False) -> None:
    """Print one line; what is not printable in it, a line end too, is shown as an escape.

    Args:
        text: the line.
        error: to standard error.
    """
    click.echo(printable(str(text)), err=error)


def say_lines(text: str) -> None:
    """Print a text whose lines are its own, such as a schema or a traceback."""
    for line in text.splitlines():
        say(line)


def message(kind: str, text: str, hint: str = "") -> str:
    """A message on one line, and its hint on a second one.

    Args:
        kind: what it begins with, such as `error`.
        text: what is wrong and where.
        hint: how to fix it; one with line ends of its own is put on one line.
    """
    first = f"{kind}: {shortened(printable(text))}"
    return f"{first}\n  {shortened(printable(hint))}" if hint else first


def prepare_streams() -> None:
    """Let output and Python's warnings survive every character: what an encoding lacks is shown as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    original = warnings.formatwarning

    def in_printable_lines(*arguments: Any, **named: Any) -> str:
        return f"{printable_lines(original(*arguments, **named).rstrip())}\n"

    warnings.formatwarning = in_printable_lines
