"""Errors of libraries as part of a message of one line."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text; the name of its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """All of an error's text, line breaks replaced by spaces; the name of its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
