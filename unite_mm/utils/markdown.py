"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column to the left, numbers to the right.

    Args:
        header: titles of the columns.
        rows: texts of the cells, as many in each as there are titles.
    """
    lines = [_line(header), _line([":--", *["--:"] * (len(header) - 1)]), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
