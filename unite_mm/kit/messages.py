"""Errors of libraries as part of a message of one line."""

_LONGEST = 300
"""Characters of a library's text that are told: some quote what they have read."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its beginning; the name of its class where it has none."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[0] if len(lines[0]) <= _LONGEST else f"{lines[0][:_LONGEST]}..."


def one_line(error: BaseException) -> str:
    """All of an error's text, line breaks replaced by spaces; the name of its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
