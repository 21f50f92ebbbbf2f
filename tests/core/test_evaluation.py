"""Evaluation, files, verification and what the terminal shows."""

import io
from pathlib import Path

import pytest
import torch
from helpers.repository import ROOT
from helpers.toy_models import make_model
from rich.console import Console
from unite_mm_toy.config import PointsConfig
from unite_mm_toy.points import Points

from unite_mm.cli import progress as shown
from unite_mm.cli import tables
from unite_mm.cli.progress import TerminalProgress
from unite_mm.cli.tables import print_report
from unite_mm.contract import DataRequest, ModalityData
from unite_mm.errors import UniteError, UsageError
from unite_mm.evaluation.model import evaluate_model
from unite_mm.evaluation.plan import Plan, chosen_indices
from unite_mm.evaluation.verification import verify_data
from unite_mm.kit.intervals import share
from unite_mm.progress import Progress, Silent, TaskContext
from unite_mm.utils.durations import duration
from unite_mm.utils.files import write_aside, write_text
from unite_mm.utils.metric_text import bare
from unite_mm_schemas.card import SourceFile
from unite_mm_schemas.config import SamplingConfig
from unite_mm_schemas.metrics import Histogram, Metric, MetricsReport, Score, Sweep, SweepPoint


@pytest.fixture
def data(tmp_path: Path) -> ModalityData:
    return Points(PointsConfig(samples=50), "points").open_data(DataRequest("ring", tmp_path))


def test_chosen_samples_are_spread_distinct_and_repeatable() -> None:
    assert chosen_indices(10, None, 0).tolist() == list(range(10))
    assert chosen_indices(10, 99, 0).tolist() == list(range(10))
    few = chosen_indices(10_000, 100, 0)
    assert len(set(few.tolist())) == 100
    assert few.tolist() == sorted(few.tolist())
    assert few.float().mean() == pytest.approx(5000, abs=1200)  # four standard errors: not the head of a sorted file
    assert few.tolist() == chosen_indices(10_000, 100, 0).tolist()
    assert few.tolist() != chosen_indices(10_000, 100, 1).tolist()


def test_a_picture_that_fails_costs_no_numbers(
    data: ModalityData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UniteError("no pencil")

    monkeypatch.setattr(Points, "save_picture", fail)
    monkeypatch.setattr(Points, "save_pairs_picture", fail)
    said = []
    monkeypatch.setattr(Silent, "say", lambda self, message: said.append(message))
    plan = Plan(SamplingConfig(steps=1), samples=3, reconstructions=0)
    report = evaluate_model(make_model(), "points", data, plan, tmp_path / "out", ".csv", Silent())
    assert report.scores[0].metrics[0].total is not None
    assert said == ["samples.png was not drawn: no pencil"]


def test_samples_are_written_before_they_are_scored(
    data: ModalityData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UniteError("no ruler")

    monkeypatch.setattr(Points, "score_generation", fail)
    plan = Plan(SamplingConfig(steps=1), samples=3, reconstructions=0)
    with pytest.raises(UniteError, match="no ruler"):
        evaluate_model(make_model(), "points", data, plan, tmp_path / "out", ".csv", Silent())
    assert len((tmp_path / "out" / "samples.csv").read_text().splitlines()) == 3


def test_an_empty_split_is_a_usage_error(data: ModalityData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(data), "size", lambda self, split: 0)
    with pytest.raises(UsageError, match="the test split of ring is empty"):
        evaluate_model(make_model(), "points", data, Plan(SamplingConfig()), tmp_path / "out", ".csv", Silent())


def test_files_are_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.json"
    write_text(target, "old")

    def torn(aside: Path) -> None:
        assert aside.suffix == ".json"
        aside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_aside(target, torn)
    assert [path.name for path in target.parent.iterdir()] == ["report.json"]
    assert target.read_text() == "old"

    def folder(aside: Path) -> None:
        aside.mkdir()
        (aside / "1.png").write_text("x")

    write_aside(tmp_path / "pictures", folder)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["1.png"]
    with pytest.raises(OSError, match="not empty"):
        write_aside(tmp_path / "pictures", folder)


def test_verification_finds_what_is_wrong(data: ModalityData, tmp_path: Path) -> None:
    assert all(check.passed for check in verify_data(data, None, Silent()))
    file = tmp_path / "ring.csv"
    file.write_text("1,2\n")
    sources = (
        SourceFile(name="ring.csv", bytes=4, sha256="0" * 64),
        SourceFile(name="absent.csv", bytes=4, sha256="0" * 64),
    )
    splits = {**data.card.splits, "test": 1}
    data.card = data.card.model_copy(update={"kept": 3, "splits": splits, "files": sources})
    failed = {check.title for check in verify_data(data, tmp_path, Silent()) if not check.passed}
    assert failed == {"counts of the card", "split test", "file ring.csv", "file absent.csv"}


def test_verification_finds_samples_without_registers(data: ModalityData) -> None:
    data.parts["train"][1][7] = 0
    (check,) = [check for check in verify_data(data, None, Silent()) if not check.passed]
    assert check.detail.endswith("1 empty")


REPORT = MetricsReport(
    modality="points",
    data="points [drawn]",
    source="runs/a",
    step=1200,
    scores=(
        Score(
            kind="generation",
            metrics=(
                Metric(
                    name="a", title="valid [strict]", value=0.5, count=5000, total=10000, interval=(0.49, 0.51),
                    definition="valid / all",
                ),
                Metric(name="b", title="RMSD", value=0.01234567, unit="angstrom", total=9, definition="mean distance"),
                Metric(name="c", title="novel", value=None, definition="new / valid"),
            ),
            histograms=(
                Histogram(name="h", title="rings", samples={"0": 0.25, "1": 0.75},
                          reference={"0": 1.0}, total_variation=0.75),
            ),
            notes=("pymatgen is absent",),
        ),
    ),
)  # fmt: skip


def test_the_table_shows_value_interval_counts_definition_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(REPORT, definitions=True)
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "runs/a, step 1,200" in lines
    assert "data: points [drawn]" in lines
    assert "valid [strict] 50.00 % 49.00 - 51.00 5,000 / 10,000" in lines
    assert "RMSD 0.01235 angstrom 9" in lines
    assert "novel not measured" in lines
    assert "rings 0.750 0: 25.0 (100.0) 1: 75.0 (0.0)" in lines
    assert "valid [strict]: valid / all" in lines
    assert "note: pymatgen is absent" in lines


VALID = share("a", "valid", 999, 1000, "valid / all")
GROUPED = REPORT.model_copy(
    update={
        "scores": (
            Score(
                kind="generation",
                metrics=(
                    VALID.model_copy(update={"reference": 0.981, "group": "own bonds"}),
                    share("b", "valid (table)", 15, 20, "by a table / all").model_copy(update={"group": "others"}),
                    *(
                        Metric(
                            name=name, title=name, value=12.25, unit="kcal/mol", interval=(11.0, 13.5), total=1234567,
                            reference=3.5, group="energies", definition="of the samples",
                        )
                        for name in ("median", "90 %")
                    ),
                ),
                reference="the same figures of 300 held-out points",
            ),
        )
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("width", "rows"),
    [
        (
            120,
            ["own bonds", "valid 99.90 % 99.44 - 99.98 999 / 1,000 98.10", "others", "energies",
             "valid (table) 75.00 % 53.13 - 88.81 15 / 20",
             "median 12.25 kcal/mol 11 - 13.5 1,234,567 3.5"],
        ),
        (
            80,
            ["own bonds", "valid 99.90 % 99.44 - 99.98 1,000 98.10", "others", "energies",
             "valid (table) 75.00 % 53.13 - 88.81 20", "median (kcal/mol) 12.25 11 - 13.5 1,234,567 3.5"],
        ),
    ],
)  # fmt: skip
def test_numbers_stand_in_groups_beside_those_of_real_data(
    width: int, rows: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "console", lambda: Console(width=width))
    print_report(GROUPED, definitions=True)
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert set(rows) <= set(lines)
    assert max(len(line) for line in out.splitlines()) <= width
    assert "metric value 95 % interval" in " ".join(lines) and "reference" in " ".join(lines)
    assert lines.count("own bonds") == 2 and "median; 90 %: of the samples" in lines
    assert "reference: the same figures of 300 held-out points" in lines


def test_definitions_are_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(REPORT)
    out = capsys.readouterr().out
    assert "valid / all" not in out and "mean distance" not in out and "pymatgen is absent" in out


LONG = "a sentence that is longer than any terminal is wide, and says so in many words, one after the other"
NINTH = {9: "ninth"}
SHIPPED = ROOT / "plugins" / "unite_mm_molecule" / "models" / "qm9-tiny" / "metrics.json"
SWEPT = REPORT.model_copy(
    update={
        "sweep": Sweep(
            setting="guidance", metric="m9", title="ninth", best=1.0,
            points=tuple(
                SweepPoint(value=scale, score=Score(kind="generation", metrics=tuple(
                    Metric(name=f"m{k}", title=NINTH.get(k, f"number {k} of many"), value=k / 7, definition="?")
                    for k in range(30)
                )))
                for scale in (1.0, 1.5)
            ),
        )
    }
)  # fmt: skip


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        GROUPED,
        SWEPT,
        REPORT.model_copy(update={"data": LONG, "scores": (Score(kind="generation", notes=(LONG,), reference=LONG),)}),
        MetricsReport.model_validate_json(SHIPPED.read_bytes()),
    ],
    ids=["plain", "grouped", "sweep", "long texts", "molecules"],
)
def test_eighty_columns_hold_everything(
    report: MetricsReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line is longer, no number is torn, no bin is apart from its share."""
    monkeypatch.setattr(tables, "console", lambda: Console(width=80, force_terminal=True, color_system=None))
    print_report(report, definitions=True)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    shown = [" ".join(line.split()) for line in lines]
    for score in report.scores:
        for metric in score.metrics:
            value = "not measured" if metric.value is None else bare(metric, metric.value)
            unit = f" ({metric.unit})" if metric.unit else ""
            assert any(line.startswith(f"{metric.title}{unit} {value}") for line in shown), metric.name
        for histogram in score.histograms:
            for name, part in histogram.samples.items():
                assert any(f"{name}: {100 * part:.1f}" in line for line in shown), name
    if report.sweep is not None:
        assert any(line.startswith("guidance ninth number 0 of many") for line in shown)
        assert any(line.startswith("1 1.286") and line.endswith("best") for line in shown)


def test_without_real_data_there_is_no_such_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(REPORT)
    assert "reference  " not in capsys.readouterr().out.split("distributions")[0]


def test_a_log_gets_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 2))
    monkeypatch.setattr(shown.time, "monotonic", lambda: float(next(now)))
    stream = io.StringIO()
    with TerminalProgress(Console(file=stream, width=200)) as progress, progress.task("Generating", 100) as advance:
        progress.note("loss 0.5")
        for _ in range(100):
            advance(1)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "Generating: 8/100, 0.5/s, 3:04 min left (loss 0.5)"
    assert lines[-1] == "Generating: 100 in 3:22 min"
    assert len(lines) == 100 * 2 // 16 + 1


@pytest.mark.parametrize("terminal", [False, True], ids=["log", "bars"])
def test_what_cannot_be_counted_is_named_all_the_same(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "WORTH_A_LINE", 0)
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=terminal, color_system=None)
    with TerminalProgress(console) as progress, progress.task("Opening the data", None):
        pass
    out = stream.getvalue()
    assert "Opening the data" in out and "left" not in out and "0/" not in out and "None" not in out
    assert terminal or out.startswith("Opening the data: 0.0 s")


def test_the_evaluation_names_what_is_waited_for(data: ModalityData, tmp_path: Path) -> None:
    titles: list[str] = []

    class Named(Silent):
        def task(self, title: str, total: int | None, done: int = 0) -> TaskContext:
            titles.append(title)
            return super().task(title, total, done)

    plan = Plan(SamplingConfig(steps=1), samples=3, reconstructions=3)
    evaluate_model(make_model(), "points", data, plan, tmp_path / "out", ".csv", Named())
    assert titles == [
        *("Reconstructing", "Drawing reconstructions", "Scoring reconstructions"),
        *("Generating", "Writing samples", "Drawing samples", "Scoring samples"),
    ]


def test_what_was_done_before_says_nothing_about_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run with 900 of 1,000 behind it."""
    now = iter(range(0, 10_000, 2))
    monkeypatch.setattr(shown.time, "monotonic", lambda: float(next(now)))
    stream = io.StringIO()
    with TerminalProgress(Console(file=stream, width=200)) as progress, progress.task("Training", 1000, 900) as advance:
        for _ in range(100):
            advance(1)
    assert stream.getvalue().splitlines()[0] == "Training: 908/1,000, 0.5/s, 3:04 min left"


def test_short_tasks_leave_no_line() -> None:
    stream = io.StringIO()
    with TerminalProgress(Console(file=stream)) as progress, progress.task("Quick", 3) as advance:
        advance(3)
    assert stream.getvalue() == ""


def test_bars_show_title_count_and_note() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    progress: Progress
    with TerminalProgress(console) as progress, progress.task("Training", 10) as advance:
        progress.note("step 3, loss [0.5]")
        advance(3)
        progress.say("a line [above]")
        progress._bars.refresh()
    out = stream.getvalue()
    assert "Training" in out
    assert "3/10" in out
    assert "step 3, loss [0.5]" in out
    assert "a line [above]" in out


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1:00 min"), (3725, "1:02:05 h")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_indices_are_tensors_the_data_can_use(data: ModalityData) -> None:
    assert len(data.samples("test", chosen_indices(data.size("test"), 5, 0))) == 5
    assert chosen_indices(3, 2, 0).dtype == torch.int64
