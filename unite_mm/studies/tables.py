"""The table of a study in Markdown: means over seeds, shares over samples and differences, each in a table."""

from collections.abc import Callable, Sequence

from unite_mm.utils.markdown import markdown_table
from unite_mm_schemas.study import StudyCell, StudyTable

EQUAL = {
    "operations": "Equal operations: matrix products, convolutions and attention, forward and backward, as counted.",
    "seconds": "Equal seconds of training on one machine.",
    "steps": "Equal steps; the operations differ.",
}


def study_text(table: StudyTable, metrics: Sequence[str] = ()) -> str:
    """The tables.

    Args:
        table: the results.
        metrics: names of those that are shown, in their order, with or without the kind of their score; empty: all.
    """
    parts = [f"# {table.title or 'Study'}", f"Data: {table.data or 'not known yet'}. {EQUAL[table.equal]}"]
    parts.append(_runs(table))
    chosen = _chosen(table, metrics)
    if not chosen:
        return "\n\n".join(parts) + "\n"
    count = len(table.seeds)
    ended = min(sum(step is not None for step in row.steps) for row in table.rows)
    part = "" if ended == count else ", where they have ended"
    parts += [
        "## Over seeds",
        f"Mean of {count} seed{'s' * (count > 1)}{part}; in brackets its 95 % interval over the seeds (Student's t): "
        "what training once more may change.",
        _table(table, chosen, _over_seeds),
    ]
    shares = [name for name in chosen if any(_cell(row.cells, name).share for row in table.rows)]
    if shares:
        parts += [
            "## Shares over samples",
            "All seeds together; in brackets the binomial 95 % interval (Wilson) of these very models, which knows "
            "nothing of other seeds.",
            _table(table, shares, _over_samples),
        ]
    if len(table.rows) > 1 and count > 1:
        parts += [
            f"## Differences to {table.rows[0].variant}",
            "Seed by seed; in brackets the 95 % interval over the seeds (paired, Student's t).",
            _table(table, chosen, _difference),
        ]
    parts += ["## Definitions", "\n".join(f"- {name}: {table.definitions[name]}" for name in chosen)]
    return "\n\n".join(parts) + "\n"


def _runs(table: StudyTable) -> str:
    rows = []
    for row in table.rows:
        steps = sorted({step for step in row.steps if step is not None})
        made = " to ".join(f"{step:,}" for step in dict.fromkeys((steps[0], steps[-1]))) if steps else "not ended"
        ended = sum(step is not None for step in row.steps)
        rows.append(
            (
                row.variant,
                row.description,
                "" if row.parameters is None else f"{row.parameters:,}",
                made,
                "" if row.operations is None else f"{row.operations:.3g}",
                f"{ended} of {len(table.seeds)}",
            )
        )
    return markdown_table(("variant", "what it is", "parameters", "steps", "operations", "seeds ended"), rows, texts=2)


def _chosen(table: StudyTable, metrics: Sequence[str]) -> list[str]:
    known = list(table.definitions)
    if not metrics:
        return known
    return [name for wanted in metrics for name in known if wanted in (name, name.partition("/")[2])]


def _table(table: StudyTable, metrics: Sequence[str], shown: Callable[[StudyCell], str]) -> str:
    cells = {name: next(_cell(row.cells, name) for row in table.rows) for name in metrics}
    titles = [
        f"{name.partition('/')[0]}: {cell.title}" + (f" ({cell.unit})" if cell.unit else " (%)" * cell.share)
        for name, cell in cells.items()
    ]
    rows = [(row.variant, *(shown(_cell(row.cells, name)) for name in metrics)) for row in table.rows]
    return markdown_table(("variant", *titles), rows)


def _cell(cells: Sequence[StudyCell], name: str) -> StudyCell:
    return next(cell for cell in cells if cell.metric == name)


def _over_seeds(cell: StudyCell) -> str:
    return _with(cell, cell.mean, cell.seeds_interval)


def _over_samples(cell: StudyCell) -> str:
    value = cell.count / cell.total if cell.count is not None and cell.total else None
    text = _with(cell, value, cell.binomial_interval)
    return f"{text} of {cell.total:,}" if cell.total and text else text


def _difference(cell: StudyCell) -> str:
    return _with(cell, cell.difference, cell.difference_interval, "+")


def _with(cell: StudyCell, value: float | None, interval: tuple[float, float] | None, sign: str = "") -> str:
    if value is None:
        return ""
    ends = "" if interval is None else " [" + ", ".join(_number(cell, end, sign) for end in interval) + "]"
    return _number(cell, value, sign) + ends


def _number(cell: StudyCell, value: float, sign: str) -> str:
    return f"{100 * value:{sign}.2f}" if cell.share else f"{value:{sign}.4g}"
