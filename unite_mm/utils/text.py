"""Text that comes from data, made safe to show: names, descriptions and keys may hold anything.

A terminal obeys control characters, and a line end begins a line that seems to be the program's own. Everything that
the command line prints goes through here.
"""

LONGEST_LINE = 2000
"""Characters of a message; of longer ones the middle is left out."""

_HEAD, _TAIL = 1200, 400


def printable(text: str) -> str:
    r"""A text on one line, everything in it that is not printable as an escape: `\x1b`, `\n`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_lines(text: str) -> str:
    """A text of several lines, each of them printable."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: str) -> str:
    """A text, without its middle where it is longer than any message should be."""
    if len(text) <= LONGEST_LINE:
        return text
    return f"{text[:_HEAD]} ... ({len(text) - _HEAD - _TAIL:,} characters left out) ... {text[-_TAIL:]}"
