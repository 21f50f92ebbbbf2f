"""A whole study: its runs, then its table, its curves and what else it asks for, all in one folder."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from unite_mm.analysis import AnalysisPlan, Subject, analyse
from unite_mm.analysis.analyse import PARTS, REPORT
from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm.storage.runs import checkpoints_of
from unite_mm.studies.curves import curves_picture
from unite_mm.studies.definition import Words
from unite_mm.studies.execute import Execution, has_ended, read_run
from unite_mm.studies.plan import PlannedRun, Resolve, planned_runs, variant_costs
from unite_mm.studies.results import study_table
from unite_mm.studies.tables import study_text
from unite_mm.utils.files import file_sha256, write_text
from unite_mm_schemas.base import RECORD
from unite_mm_schemas.study import StudyConfig, StudyTable, VariantCost

DEFINITION, TABLE, TEXT, CURVES = "study.json", "table.json", "table.md", "curves.png"

ANALYSIS, MADE_OF = "analysis", "made-of.json"


@dataclass(frozen=True)
class Bench:
    """Where and how a study runs.

    Attributes:
        folder: for everything.
        cache: folder of prepared data.
        jobs: runs at once.
        progress: where to show the whole.
    """

    folder: Path
    cache: Path
    jobs: int
    progress: Progress


def run_study(study: StudyConfig, modality: str, resolve: Resolve, bench: Bench) -> StudyTable:
    """Run what of a study has not run yet, and write `table.md`, `table.json` and `curves.png`.

    Stopped at any moment, the next call goes on and ends with the same table. Variants and seeds may be added.

    Args:
        study: the study.
        modality: whose.
        resolve: what words of `train` mean.
        bench: where and how.

    Raises:
        UsageError: a variant cannot be trained, a run was begun with other settings, or a part of the analysis is
            unknown; nothing was started.
        UniteError: runs failed; the others have ended and are in the table.
    """
    unknown = [part for part in study.measure.analyse if part not in PARTS]
    if unknown:
        raise UsageError(f"measure.analyse: there is no part {unknown[0]!r}", f"parts: {', '.join(PARTS)}")
    words = Words(study, modality)
    bench.folder.mkdir(parents=True, exist_ok=True)
    costs = variant_costs(study, words, resolve, bench.cache, bench.progress, bench.folder)
    runs = planned_runs(study, words, costs, bench.folder)
    for run in runs:
        read_run(run)  # refuses other settings before anything starts
    # What was asked for; the runs' own records say what was done.
    write_text(bench.folder / DEFINITION, _as_text(study))

    def write_table() -> None:
        _write(study, modality, costs, runs, bench.folder)

    try:
        Execution(runs, bench.cache, bench.jobs, bench.progress, write_table).run()
    finally:
        table = _write(study, modality, costs, runs, bench.folder)
        curves_picture(runs, costs, study.length.equal, bench.folder / CURVES)
    if study.measure.analyse:
        _analyse(study, runs, bench)
    return table


def _as_text(study: StudyConfig) -> str:
    try:
        return StudyConfig.model_validate(study.model_dump()).model_dump_json(indent=1) + "\n"
    except ValidationError as error:
        raise UsageError("the study could not be written: it cannot be read back", "check every setting") from error


def _write(
    study: StudyConfig, modality: str, costs: dict[str, VariantCost], runs: list[PlannedRun], folder: Path
) -> StudyTable:
    """The table of what has ended so far."""
    found = {(run.variant, run.seed): record for run in runs if has_ended(run) and (record := read_run(run))}
    table = study_table(study, modality, costs, runs, found)
    write_text(folder / TABLE, table.model_dump_json(indent=1) + "\n")
    write_text(folder / TEXT, study_text(table, study.measure.metrics))
    return table


def _made_of(study: StudyConfig, runs: list[PlannedRun]) -> str:
    """What an analysis is of, as text that changes with the parts, the split, the runs and what these have learned."""
    learned = {
        run.variant: {path.name: file_sha256(path / RECORD) for path in checkpoints_of(run.folder)} for run in runs
    }
    made = {"parts": study.measure.analyse, "split": study.measure.split, "seed": study.seeds[0], "runs": learned}
    return json.dumps(made, indent=1) + "\n"


def _analyse(study: StudyConfig, runs: list[PlannedRun], bench: Bench) -> None:
    """Look into the first seed of every variant, unless the analysis at hand is of the same things."""
    folder = bench.folder / ANALYSIS
    chosen = [run for run in runs if run.seed == study.seeds[0]]
    made_of = _made_of(study, chosen)
    if _text_of(folder / MADE_OF) == made_of and (folder / REPORT).is_file():
        return
    subjects = [
        Subject.open(run.folder, cache=bench.cache, split=study.measure.split, progress=bench.progress)
        for run in chosen
    ]
    shutil.rmtree(folder, ignore_errors=True)  # pictures of other runs or parts
    analyse(subjects, folder, AnalysisPlan(parts=study.measure.analyse), [run.variant for run in chosen])
    write_text(folder / MADE_OF, made_of)


def _text_of(path: Path) -> str:
    """The text of a file; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
