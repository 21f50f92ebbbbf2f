"""The HTML report without a browser: what is in it, that nothing of data is run, and that it loads nothing."""

import base64
import hashlib
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from unite_mm_toy.points import Points

from unite_mm.cli.main import run
from unite_mm.contract import ReportViews
from unite_mm.errors import UniteError
from unite_mm.evaluation.views import Galleries, read_views
from unite_mm.kit.intervals import share
from unite_mm.progress import Silent
from unite_mm.reporting.charts import MOST_POINTS, curves
from unite_mm.reporting.page import report_page
from unite_mm.reporting.runs import Evaluated, Run, load_run
from unite_mm.reporting.tables import headlines, published_table, score_tables
from unite_mm_schemas.metrics import Histogram, Metric, MetricsReport, Score, Sweep, SweepPoint
from unite_mm_schemas.views import Fact, Gallery, GalleryItem, Published, Tag, Views

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)",
    "\x1b[2J\x07",
    "{{ 7 * 7 }}",
    "\u2028\u202e\ud800",
    "javascript:alert(1)",
]


class Reader(HTMLParser):
    """Elements with their attributes, and the texts of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "": []}
        self.data: dict[str, str] = {}
        self._inside, self._name = "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside, self._name = tag, dict(attrs).get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside, self._name = "", ""

    def handle_data(self, data: str) -> None:
        if self._name:
            self.data[self._name] = self.data.get(self._name, "") + data
        else:
            self.texts[self._inside].append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def gallery(count: int = 3, text: str = "a sample", kind: str = "samples") -> Gallery:
    items = tuple(
        GalleryItem(title=text, tags=("odd",) if k % 2 else (), facts=(Fact(label=text, text=text),), content={"k": k})
        for k in range(count)
    )
    return Gallery(kind=kind, title=text, total=count, tags=(Tag(name="odd", title=text),), items=items, notes=(text,))


def report(text: str = "valid", value: float = 0.5) -> MetricsReport:
    metric = share("a", text, round(1000 * value), 1000, f"{text} / all")
    score = Score(
        kind="generation",
        metrics=(
            metric.model_copy(update={"group": text, "reference": 0.75}),
            Metric(name="b", title="distance", value=2.5, unit="angstrom", total=9, definition="mean"),
            Metric(name="c", title="absent", value=None, definition="?"),
        ),
        histograms=(
            Histogram(name="h", title=text, samples={text: 0.25, "1": 0.75}, reference={"1": 1}, total_variation=0.25),
            Histogram(name="w", title="what is wrong", samples={"valid": 0.9, text: 0.1}),
        ),
        notes=(text,),
    )
    return MetricsReport(modality="points", data=text, source="x", step=5, settings={"samples": 1000}, scores=(score,))


def page_of(text: str, *, count: int = 3) -> str:
    evaluated = Evaluated("points", report(text), Views(modality="points", galleries=(gallery(count, text),)))
    return report_page([Run(text, evaluations=(evaluated,))])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert run(["train", "--modality", "points", "--max-steps", "10", "--set", "train.seed=1",
                "--out", str(folder)]) == 0  # fmt: skip
    assert run(["evaluate", str(folder), "--samples", "20", "--reconstructions", "10", "--steps", "2"]) == 0
    return folder


def test_evaluate_writes_a_report_and_a_plugin_without_views_gets_tables_and_its_pictures(evaluated: Path) -> None:
    page = (evaluated / "evaluation" / "report.html").read_text(encoding="utf-8")
    reader = read(page)
    assert not (evaluated / "evaluation" / "views.json").exists()
    assert sum(tag == "img" and str(values["src"]).startswith("data:image/png") for tag, values in reader.elements) == 2
    visible = " ".join(" ".join(reader.texts[""]).split())
    for text in ("on the ring", "points with radius within 0.25 of 1 / all points", "points on a ring", "step 10"):
        assert text in visible
    assert str(evaluated) not in page  # a report is to be given away


def test_the_report_of_a_run_shows_its_curves_configuration_data_and_command(evaluated: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert run(["report", str(evaluated), "-o", str(path)]) == 0
    reader = read(path.read_text(encoding="utf-8"))
    visible = " ".join(" ".join(reader.texts[""]).split())
    for text in (
        "train.max_steps",
        "against the preset toy",
        "unite-mm train --modality points",
        "test split 200",
        "seed 1",
    ):
        assert text in visible, text
    charts = json.loads(reader.data["charts"])["training"]
    assert {"flow", "reconstruction"} <= {chart["title"] for chart in charts if chart["large"]}
    kinds = {one["kind"] for chart in charts for one in chart["series"]}
    assert kinds == {"training", "validation"}


def test_an_evaluation_of_an_earlier_step_is_told(evaluated: Path) -> None:
    found = load_run(evaluated)
    assert found.record is not None
    later = replace(found, record=found.record.model_copy(update={"step": 50}))
    assert "step 50" in report_page([later]) and "evaluated at step 10" in report_page([later])
    assert "evaluated at step" not in report_page([found])


def test_runs_stand_side_by_side(evaluated: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    again = evaluated / "evaluation"
    assert run(["report", str(evaluated), str(again), str(evaluated), "-o", str(path)]) == 0
    reader = read(path.read_text(encoding="utf-8"))
    visible = " ".join(reader.texts[""])
    names = [evaluated.name + " (1)", "evaluation", evaluated.name + " (3)"]
    assert evaluated.as_posix() not in visible
    assert all(name in visible for name in names)
    columns = [values for tag, values in reader.elements if tag == "th" and values.get("class") == "num own"]
    assert len(columns) == 3 * len([1 for tag, values in reader.elements if values.get("class") == "scores"])


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_data_are_shown_and_never_run(text: str) -> None:
    plain, page = read(page_of("plain")), page_of(text)
    reader = read(page)
    assert [tag for tag, _ in reader.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(values) for _, values in reader.elements] == [sorted(values) for _, values in plain.elements]
    assert reader.texts["script"] == plain.texts["script"] and reader.texts["style"] == plain.texts["style"]
    assert "\x1b" not in page and "\x07" not in page and "\u202e" not in page
    shown = text.encode("unicode_escape").decode() if not text.isprintable() else text
    assert shown in " ".join(reader.texts[""])
    assert json.loads(reader.data["gallery-0"])["items"][0]["title"] == shown
    assert json.loads(reader.data["charts"])["distributions-points"][0]["title"] == shown
    for data in reader.data.values():
        assert not re.search("[<>&\u2028\u2029]", data)
    page.encode("utf-8")


def test_the_page_loads_nothing_and_runs_only_its_own_scripts() -> None:
    reader = read(page_of("plain"))
    policy = next(v["content"] for _, v in reader.elements if v.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; ")
    for kind in ("script", "style"):
        (allowed,) = re.findall(rf"{kind}-src ([^;]*)", policy)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in reader.texts[kind]]
        assert allowed.split() == [f"'sha256-{digest}'" for digest in digests]
    assert "unsafe" not in policy and "http" not in policy and "img-src data:;" in policy
    for tag, values in reader.elements:
        assert not [name for name in values if name.startswith("on") or name == "style"], tag
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "data", "srcset", "action"):
            assert (values.get(name) or "#").startswith(("#", "data:image/")), (tag, values)
    assert not re.search(r"@import|url\(", " ".join(reader.texts["style"]))


def test_ten_thousand_samples_stay_small_and_quick() -> None:
    start = time.process_time()
    page = page_of("a sample of many", count=10_000)
    assert time.process_time() - start < 5
    assert len(page) < 20_000_000
    assert len(json.loads(read(page).data["gallery-0"])["items"]) == 10_000


@pytest.mark.parametrize("count", [0, 1])
def test_few_samples_are_no_trouble(count: int) -> None:
    assert json.loads(read(page_of("one", count=count)).data["gallery-0"])["total"] == count


def test_views_that_fail_cost_no_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Broken(ReportViews):
        def samples(self, *_: object) -> Gallery | None:
            raise RuntimeError("no pencil")

        def reconstructions(self, *_: object) -> Gallery | None:
            return gallery(2, kind="reconstructions")

    said: list[str] = []
    monkeypatch.setattr(Silent, "say", lambda _, message: said.append(message))
    monkeypatch.setattr(Points, "report_views", lambda _: Broken())
    modality = Points.__new__(Points)
    modality.name = "points"
    galleries = Galleries(modality, Silent())
    galleries.add_samples([1], None)
    galleries.add_reconstructions([1], [1])
    galleries.add_reconstructions([], [])
    assert said == ["the report has no gallery of samples: RuntimeError: no pencil"]
    galleries.write(tmp_path)
    found = read_views(tmp_path)
    assert found is not None and [one.kind for one in found.galleries] == ["reconstructions"]
    Galleries(modality, Silent()).write(tmp_path)
    assert read_views(tmp_path) is None


def test_damaged_views_are_named(tmp_path: Path) -> None:
    (tmp_path / "views.json").write_text("{")
    with pytest.raises(UniteError, match=r"views\.json cannot be read"):
        read_views(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report NOWHERE -o x.html", "does not exist"),
        ("report EMPTY -o x.html", "holds neither a checkpoint nor an exported model"),
        ("report EMPTY -o EMPTY", "is a directory"),
        ("report -o x.html", "Missing argument"),
    ],
)
def test_mistakes_are_named(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    assert run(words.split()) == 2
    assert message.lower() in capsys.readouterr().err.lower()
    assert not (tmp_path / "x.html").exists()


def test_scores_that_are_no_report_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    assert run(["report", str(tmp_path), "-o", str(tmp_path / "x.html")]) == 1
    assert "is no report" in capsys.readouterr().err


def test_published_figures_stand_beside_measured_ones_alone() -> None:
    figures = [
        Published(system="theirs", kind="generation", metric="a", value=0.6, source="a paper"),
        Published(system="theirs", kind="generation", metric="c", value=0.7, source="a paper"),
        Published(system="others", kind="reconstruction", metric="a", value=0.7, source="another"),
        Published(system="more", kind="generation", metric="b", value=3.0, source="a third"),
    ]
    table = published_table([report(), report(value=0.4)], [figures, figures])
    assert table is not None
    assert table.systems == ("theirs", "more")
    assert table.rows == (
        ("valid", ("50.00 %", "40.00 %"), ("60.00 %", "")),
        ("distance", ("2.5 Å", "2.5 Å"), ("", "3 Å")),
    )
    assert table.sources == (("theirs", "a paper"), ("more", "a third"))
    assert published_table([report()], [figures[1:3]]) is None
    of_other_data = published_table([report(), report(value=0.4)], [figures, []])
    assert of_other_data is not None
    assert [own for _, own, _ in of_other_data.rows] == [("50.00 %", ""), ("2.5 Å", "")]


def test_headlines_are_those_wanted_that_were_measured_or_the_first() -> None:
    assert [row.name for row in headlines(score_tables([report()]), ["c", "b", "absent"])] == ["b"]
    assert [row.name for row in headlines(score_tables([report()]), [])] == ["a", "b"]
    assert headlines([], []) == []


def test_long_curves_are_thinned_and_odd_lines_passed_over(tmp_path: Path) -> None:
    lines = [json.dumps({"kind": "train", "step": k, "flow": 2.0 + k % 2, "seconds": 1.0}) for k in range(5000)]
    odd = [
        "{",
        "[]",
        '{"step": "x"}',
        '{"kind": "train", "step": 7, "flow": NaN}',
        '{"kind": "train", "step": 7, "x": true}',
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join([*lines, *odd]))
    (chart,) = curves([Run("a", curves=path)])
    (series,) = chart["series"]
    assert len(series["x"]) == len(series["y"]) <= MOST_POINTS
    assert sum(series["y"]) / len(series["y"]) == pytest.approx(2.5, abs=0.01)


def test_a_sweep_is_a_curve() -> None:
    points = tuple(SweepPoint(value=scale, score=report(value=scale / 4).scores[0]) for scale in (1.0, 2.0))
    swept = report().model_copy(update={"sweep": Sweep(setting="guidance", metric="a", title="valid", points=points,
                                                       lower_is_better=False, best=2.0)})  # fmt: skip
    charts = json.loads(read(report_page([Run("a", evaluations=(Evaluated("points", swept),))])).data["charts"])
    (chart,) = charts["sweeps-points"]
    assert (chart["series"][0]["x"], chart["series"][0]["y"]) == ([1.0, 2.0], [0.25, 0.5])
    assert chart["note"] == "higher is better; best at 2"


def test_samples_of_a_modality_that_is_not_installed_are_shown_by_their_facts() -> None:
    views = Views(modality="unknown", galleries=(gallery(),))
    reader = read(report_page([Run("a", evaluations=(Evaluated("unknown", None, views),))]))
    assert json.loads(reader.data["gallery-0"])["renderer"] == ""
