"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A table; columns of texts come first, to the left, and numbers to the right.

    Args:
        header: titles of the columns.
        rows: texts of the cells, as many in each as there are titles.
        texts: columns of texts.
    """
    lines = [_line(header), _line([":--"] * texts + ["--:"] * (len(header) - texts)), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
