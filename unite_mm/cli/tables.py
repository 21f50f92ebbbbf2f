"""Tables of results: value, 95 % interval, count and total; on request what each number means. 80 columns hold them."""

import textwrap
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unite_mm.utils.metric_text import bare, metric_groups, shown
from unite_mm.utils.text import printable
from unite_mm_schemas.card import DataCard
from unite_mm_schemas.metrics import Metric, MetricsReport, Score, Sweep

LOG_WIDTH = 120
"""Width of tables that no terminal limits."""

NARROW = 110
"""Width below which tables of scores leave something out."""

_NUMBER = 9
"""Columns that a number takes in a table of a sweep."""

_BESIDE_BINS = 14
"""Columns of a table of distributions that neither titles nor bins take: the distance, and blanks."""


def console() -> Console:
    """Standard output; in a file or pipe wide enough for the counts of scores."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=LOG_WIDTH)


def print_rows(rows: Iterable[Sequence[str]], header: Sequence[str] = (), title: str = "") -> None:
    """A plain table of texts."""
    table = Table(
        title=cell(title) if title else None, box=box.SIMPLE_HEAD, show_header=bool(header), title_justify="left"
    )
    listed = [list(row) for row in rows]
    width = len(header) or max((len(row) for row in listed), default=0)
    for index in range(width):
        table.add_column(cell(header[index] if header else ""), overflow="fold")
    for row in listed:
        table.add_row(*map(cell, row))
    console().print(table)


def print_report(report: MetricsReport, *, definitions: bool = False) -> None:
    """All scores of a report, with the description of the data.

    Args:
        report: the scores.
        definitions: whether what each number means stands below.
    """
    out = console()
    step = "" if report.step is None else f", step {report.step:,}"
    _say(out, f"{report.source}{step}")
    if report.data:
        _say(out, f"data: {report.data}")
    for score in report.scores:
        print_score(score, definitions=definitions)
    if report.sweep is not None:
        order = "lower" if report.sweep.lower_is_better else "higher"
        _say(out, f"sweep of {report.sweep.setting} by {report.sweep.title} ({order} is better)")
        out.print(_sweep_table(report.sweep, out.width))


def print_score(score: Score, *, definitions: bool = False) -> None:
    """One score, with what each number means below where that is asked for."""
    out = console()
    out.print(_score_table(score, narrow=out.width < NARROW))
    if score.histograms:
        out.print(_histogram_table(score, out.width))
    for line in _definitions(score) if definitions else ():
        _say(out, line, 2)
    if score.reference:
        _say(out, f"reference: {score.reference}", 2)
    for note in score.notes:
        _say(out, f"note: {note}", 2)


def print_card(card: DataCard) -> None:
    """A data-set card."""
    rows = [
        ("data set", card.name),
        ("description", card.description),
        ("read", f"{card.read:,}"),
        ("kept", f"{card.kept:,}"),
        *((f"  left out: {entry.reason}", _with_examples(entry.count, entry.examples)) for entry in card.excluded),
        *((f"  {split}", f"{count:,}") for split, count in card.splits.items()),
        ("split hash", card.split_hash),
        *((f"file {file.name}", f"{file.bytes:,} bytes, sha256 {file.sha256}") for file in card.files),
        *((f"setting {key}", str(value)) for key, value in card.settings.items()),
        *(("note", note) for note in card.notes),
        *(("note", f"the {split} split is empty") for split, count in card.splits.items() if not count),
    ]
    print_rows(rows)


def cell(text: object, style: str = "") -> Text:
    """A text for tables and bars: no markup in it counts."""
    return Text(printable(str(text)), style=style)


def _score_table(score: Score, *, narrow: bool = False) -> Table:
    """The numbers by group; beside them those of real data, where a score has any.

    Where it is narrow, units stand with the titles, and counts are left to `metrics.json`.
    """
    table = Table(title=cell(score.kind), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("metric", overflow="fold")
    beside = any(metric.reference is not None for metric in score.metrics)
    for header in ("value", "95 % interval", "of" if narrow else "count / total", *(["reference"] if beside else [])):
        table.add_column(header, justify="right", no_wrap=True)
    for group, metrics in metric_groups(score).items():
        if group:
            table.add_row(cell(group, "italic"))
        for metric in metrics:
            title, *cells = _metric_cells(metric, narrow)
            table.add_row(cell("  " * bool(group) + title), *map(cell, cells if beside else cells[:-1]))
    return table


def _metric_cells(metric: Metric, narrow: bool) -> tuple[str, str, str, str, str]:
    """Title, value, interval, counts, reference."""
    title, show, counts = metric.title, shown, [metric.count, metric.total]
    if narrow:
        title, counts = title + (f" ({metric.unit})" if metric.unit else ""), [metric.total]
        show = bare if metric.unit else shown
    value = "not measured" if metric.value is None else show(metric, metric.value)
    interval = "" if metric.interval is None else " - ".join(bare(metric, bound) for bound in metric.interval)
    reference = "" if metric.reference is None else bare(metric, metric.reference)
    return title, value, interval, " / ".join(f"{number:,}" for number in counts if number is not None), reference


def _histogram_table(score: Score, width: int) -> Table:
    """Each distribution with its bins, whose lines break between bins alone."""
    titles = max(len(printable(one.title)) for one in score.histograms)
    first = min(titles, round(0.38 * width))
    table = Table(title="distributions", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("distribution", width=first)
    table.add_column("TV", justify="right", no_wrap=True, min_width=5)
    table.add_column("samples (reference), per cent", no_wrap=True, overflow="fold")
    for histogram in score.histograms:
        reference = histogram.reference
        bins = list(dict.fromkeys([*histogram.samples, *(reference or {})]))
        cells = []
        for name in bins:
            beside = "" if reference is None else f" ({100 * reference.get(name, 0):.1f})"
            cells.append(printable(f"{name}: {100 * histogram.samples.get(name, 0):.1f}{beside}"))
        distance = "" if histogram.total_variation is None else f"{histogram.total_variation:.3f}"
        lines = _lines(cells, width - first - _BESIDE_BINS)
        table.add_row(cell(histogram.title), cell(distance), Text("\n".join(lines)))
    return table


def _lines(cells: Iterable[str], width: int) -> list[str]:
    """Texts side by side, in as many lines as they need; none is broken unless it is wider than a line."""
    lines = [""]
    for text in cells:
        joined = f"{lines[-1]}  {text}" if lines[-1] else text
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(text)
    return lines


def _definitions(score: Score) -> list[str]:
    """Lines that say what each number means, by group; metrics that share a definition share the line."""
    lines: list[str] = []
    for group, metrics in metric_groups(score).items():
        titles: dict[str, list[str]] = {}
        for metric in metrics:
            titles.setdefault(metric.definition, []).append(metric.title)
        if group:
            lines.append(group)
        lines += [f"{'  ' * bool(group)}{'; '.join(of)}: {definition}" for definition, of in titles.items()]
    return lines


def _sweep_table(sweep: Sweep, width: int) -> Table:
    """The metric that decides and as many others as fit; `metrics.json` and the report have all."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(cell(sweep.setting), justify="right", no_wrap=True)
    titles = {metric.name: metric.title for point in sweep.points for metric in point.score.metrics}
    names, left = [], width - len(sweep.setting) - 8
    for name in sorted(titles, key=lambda name: name != sweep.metric):
        left -= max(len(titles[name]), _NUMBER) + 3
        if left < 0:
            break
        names.append(name)
    for name in names:
        table.add_column(cell(titles[name]), justify="right", no_wrap=True)
    table.add_column("")
    for point in sweep.points:
        found = {metric.name: metric for metric in point.score.metrics}
        cells = []
        for name in names:
            value = found[name].value if name in found else None
            cells.append("" if value is None else shown(found[name], value))
        table.add_row(f"{point.value:g}", *map(cell, cells), "best" if point.value == sweep.best else "")
    return table


def _with_examples(count: int, examples: Sequence[str]) -> str:
    return f"{count:,}" + (f" ({'; '.join(examples)})" if examples else "")


def _say(out: Console, text: str, indent: int = 0) -> None:
    """One line; where a terminal would break it, it is broken between words, what follows further in."""
    line = printable(text)
    if not out.is_terminal or len(line) + indent <= out.width:
        out.print(" " * indent + line, markup=False, highlight=False, soft_wrap=True)
        return
    wrapped = textwrap.wrap(
        line, out.width, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2), break_on_hyphens=False
    )
    out.print("\n".join(wrapped), markup=False, highlight=False, soft_wrap=True)
