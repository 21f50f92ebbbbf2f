"""The page: everything in one HTML file that runs no script but its own and loads nothing."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from unite_mm.contract import Modality, ReportViews
from unite_mm.errors import UniteError, UsageError
from unite_mm.registry import discover
from unite_mm.reporting import charts, tables
from unite_mm.reporting.runs import Evaluated, Run
from unite_mm.reporting.setup import setup_of
from unite_mm.utils.files import write_text
from unite_mm.utils.text import printable
from unite_mm_schemas.metrics import MetricsReport
from unite_mm_schemas.views import Gallery

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (ASSETS / "uPlot.iife.min.js", ASSETS / "report.js")
STYLES = (ASSETS / "uPlot.min.css", ASSETS / "report.css")
LICENCES = (ASSETS / "uPlot.LICENSE.txt",)

_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
"""What JSON inside a page may not hold as it is: a tag would end the script, and old engines end lines there."""


@dataclass(frozen=True)
class Chapter:
    """One modality of the report; its runs are columns.

    Attributes:
        modality: its name.
        runs: names of the columns.
        entries: what was evaluated of each, None for runs without the modality.
        views: what the plugin adds; None where it adds nothing or is not installed.
    """

    modality: str
    runs: tuple[str, ...]
    entries: tuple[Evaluated | None, ...]
    views: ReportViews | None

    @cached_property
    def columns(self) -> list[tuple[int, str]]:
        """Number and name of each run that has scores."""
        return [
            (number, self.runs[number])
            for number, entry in enumerate(self.entries)
            if entry is not None and entry.metrics is not None
        ]

    @cached_property
    def reports(self) -> list[MetricsReport]:
        """The scores of each of these columns."""
        return [entry.metrics for entry in self.entries if entry is not None and entry.metrics is not None]

    @cached_property
    def score_tables(self) -> list[tables.ScoreTable]:
        """All scores."""
        return tables.score_tables(self.reports)

    @cached_property
    def headlines(self) -> list[tables.MetricRow]:
        """The most important scores."""
        return tables.headlines(self.score_tables, () if self.views is None else self.views.headlines)

    @cached_property
    def published(self) -> tables.PublishedTable | None:
        """What others have published of the same metrics."""
        if self.views is None:
            return None
        return tables.published_table(self.reports, [self.views.published(report) for report in self.reports])

    @cached_property
    def shares(self) -> list[charts.Chart]:
        """Histograms without a reference."""
        return charts.shares(self.columns, self.reports)

    @cached_property
    def pictures(self) -> list[tuple[str, str, Markup]]:
        """Run, title and data URI of each picture that stands for a gallery."""
        shown = zip(self.runs, self.entries, strict=True)
        return [
            (run, picture.title, Markup("data:image/png;base64," + base64.b64encode(picture.content).decode()))
            for run, entry in shown
            if entry is not None
            for picture in entry.pictures
        ]


def write_report_page(runs: Sequence[Run], path: Path) -> None:
    """Write the report of one or several runs as one HTML file.

    Raises:
        UniteError: a plugin's assets cannot be read.
        OSError: the file cannot be written.
    """
    write_text(path, report_page(runs))


def report_page(runs: Sequence[Run]) -> str:
    """The report of one or several runs, as HTML.

    Raises:
        UsageError: there is no run.
        UniteError: a plugin's assets cannot be read.
    """
    if not runs:
        raise UsageError("there is nothing to report", "name a run")
    names = dict.fromkeys(one.modality for run in runs for one in run.evaluations)
    chapters = [
        Chapter(name, tuple(run.name for run in runs), tuple(run.evaluated(name) for run in runs), _views(name, runs))
        for name in names
    ]
    blocks, galleries = _galleries(chapters)
    training = charts.curves(runs)
    drawn: dict[str, list[charts.Chart]] = {"training": training}
    for chapter in chapters:
        drawn[f"distributions-{chapter.modality}"] = charts.distributions(chapter.columns, chapter.reports)
        drawn[f"sweeps-{chapter.modality}"] = charts.sweeps(chapter.columns, chapter.reports)
    used = [chapter.views for chapter in chapters if chapter.views is not None and galleries[chapter.modality]]
    scripts = _texts([*SCRIPTS, *(path for views in used for path in views.scripts)])
    styles = _texts([*STYLES, *(path for views in used for path in views.styles)])
    licences = _texts([*LICENCES, *(path for views in used for path in views.licences)])
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template("report.html.j2").render(
        title=" and ".join(run.name for run in runs),
        runs=runs,
        setups=[setup_of(run) for run in runs],
        chapters=chapters,
        galleries=galleries,
        charts=drawn,
        blocks={"charts": _json(_printable(drawn)), **blocks},
        scripts=[Markup(text) for text in scripts.values()],
        styles=[Markup(text) for text in styles.values()],
        licences=[(path.name.partition(".")[0], Markup(escape(text))) for path, text in licences.items()],
        policy=_policy(list(scripts.values()), list(styles.values())),
    )


def _galleries(chapters: Sequence[Chapter]) -> tuple[dict[str, Markup], dict[str, dict[str, list[dict[str, Any]]]]]:
    """JSON by element, and by modality and kind which runs have one."""
    blocks: dict[str, Markup] = {}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for chapter in chapters:
        kinds: dict[str, list[dict[str, Any]]] = {}
        for number, entry in enumerate(chapter.entries):
            for gallery in () if entry is None or entry.views is None else entry.views.galleries:
                name = f"gallery-{len(blocks)}"
                renderer = "" if chapter.views is None else chapter.views.renderer
                blocks[name] = _json(_shown(gallery) | {"renderer": renderer})
                kinds.setdefault(gallery.kind, []).append(
                    {"id": name, "run": chapter.runs[number], "number": number, "title": gallery.title}
                )
        found[chapter.modality] = kinds
    return blocks, found


def _shown(gallery: Gallery) -> dict[str, Any]:
    """A gallery in JSON, every text of it printable; contents are the plugin's own."""
    content = gallery.model_dump(mode="json")
    items = [_printable({key: value for key, value in item.items() if key != "content"}) for item in content["items"]]
    contents = [{"content": item["content"]} for item in content["items"]]
    shown: dict[str, Any] = _printable({key: value for key, value in content.items() if key != "items"})
    return shown | {"items": [item | own for item, own in zip(items, contents, strict=True)]}


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {key: _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


def _json(value: Any) -> Markup:
    """JSON that may stand in a page: nothing in it can end its element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(_ESCAPED).encode("utf-8", "backslashreplace").decode())


def _views(name: str, runs: Sequence[Run]) -> ReportViews | None:
    """What the plugin of a modality adds; nothing where it is not installed or its settings are no longer valid."""
    plugin = discover().plugins.get(name)
    if plugin is None:
        return None
    configs = [run.record.config.modalities[name].config for run in runs
               if run.record is not None and name in run.record.config.modalities]  # fmt: skip
    try:
        modality: Modality = plugin.load_implementation()(plugin.validate(configs[0] if configs else {}), name)
        return modality.report_views()
    except UniteError:
        return None


def _texts(paths: Sequence[Path]) -> dict[Path, str]:
    """The texts of files, each once, in order.

    Raises:
        UniteError: one cannot be read.
    """
    found = {}
    for path in dict.fromkeys(paths):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UniteError(f"{path}, a part of the report, cannot be read", "install the plugin again") from error
        if "</script" in text.lower() or "</style" in text.lower():
            raise UniteError(f"{path}, a part of the report, holds a closing tag", "tell its author")
        found[path] = text
    return found


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """The content security policy: scripts and styles by their hashes, pictures inside the file, and nothing else."""

    def hashes(texts: Sequence[str]) -> str:
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in texts)

    return (
        f"default-src 'none'; script-src {hashes(scripts)}; style-src {hashes(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
