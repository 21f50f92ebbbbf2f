"""`unite-mm evaluate`: a trained model, or a file of samples."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unite_mm.cli.options import (
    SAMPLING_FLAGS,
    Command,
    cache_option,
    device_option,
    labels_option,
    load_model,
    sampling_config,
    sampling_options,
    seed_option,
    set_option,
    workers_option,
)
from unite_mm.cli.terminal import say
from unite_mm.cli.types import MOST_SAMPLES, SAMPLES, TEXT, PathName
from unite_mm.errors import UsageError

if TYPE_CHECKING:
    from unite_mm.api import UNITE
    from unite_mm.progress import Progress
    from unite_mm_schemas.checkpoint import CheckpointRecord
    from unite_mm_schemas.metrics import MetricsReport

DEFAULT_SAMPLES = 1000


EXAMPLES = """\b
  unite-mm evaluate RUN --samples 10000
  unite-mm evaluate RUN --samples 10000 --labels balanced --sweep 1.0:4.0:0.2
  unite-mm evaluate --modality qm9 --samples FILE
  unite-mm evaluate --modality image --samples FOLDER --data FOLDER
  unite-mm evaluate --modality image --samples FOLDER --reconstructions-of FOLDER
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("run", type=PathName(), required=False)
@click.option(
    "--split",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="Split to reconstruct.",
)
@click.option(
    "--samples",
    type=TEXT,
    metavar="N|FILE",
    help=f"Samples to generate, or without RUN the file to score.  [default: {DEFAULT_SAMPLES}]",
)
@click.option("--reconstructions", type=SAMPLES, help="Samples to reconstruct.  [default: all]")
@click.option("--modality", metavar="NAME", help="Which modality, where there are several or without RUN.")
@click.option(
    "--data", "source", type=TEXT, metavar="SOURCE", help="Other data than the run's; without RUN the reference data."
)
@click.option(
    "--reference", type=TEXT, metavar="SOURCE", help="What generated samples are compared with.  [default: the data]"
)
@click.option(
    "--reconstructions-of",
    metavar="FILE",
    type=PathName(),
    help="Without RUN: --samples are reconstructions of the samples in FILE.",
)
@click.option(
    "--features",
    metavar="FILE",
    type=PathName(dir_okay=False, resolve_path=True),
    help="Network for distances between sets of samples; short for --set NAME.metrics.features=FILE.",
)
@set_option
@seed_option
@labels_option
@sampling_options
@click.option(
    "--sweep", metavar="START:STOP:STEP", help="Guidance scales to try, such as 1.0:4.0:0.2; reports the best."
)
@device_option
@click.option(
    "-o",
    "--output",
    type=PathName(file_okay=False),
    help="Folder for samples, pictures and metrics.json.  [default: RUN/evaluation; shipped models: NAME-evaluation]",
)
@click.option(
    "--report", type=PathName(dir_okay=False), help="Write the report here as well: metrics.json, or HTML for .html."
)
@click.option("--definitions", is_flag=True, help="Print what each number means.")
@click.option("--pictures/--no-pictures", default=True, help="Draw samples and reconstructions.  [default: yes]")
@cache_option
@workers_option
def evaluate(run: Path | None, report: Path | None, definitions: bool, **options: Any) -> None:
    """Score a model or a file of samples.

    A model reconstructs a held-out split and generates new samples; both are measured, with counts and 95 % intervals.
    The output folder also gets report.html, which shows all of it in a browser.
    """
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.cli.tables import print_report
    from unite_mm.evaluation.report import check_results
    from unite_mm.utils.lock import locked

    hint = "name another folder with -o, or another file with --report"
    reports = [] if report is None else [report]
    folder: Path | None = options["output"]
    with TerminalProgress() as progress, ExitStack() as stack:
        if run is None:
            check_results(folder, reports, hint)
            stack.enter_context(nullcontext() if folder is None else locked(folder))
            place = folder
            if place is None and report is not None:
                place = Path(stack.enter_context(tempfile.TemporaryDirectory()))  # the page is made of files
            found, record = _score_file(options, place, progress), None
        else:
            with progress.task("Loading the model", None):
                model, name = _model(run, options)
            record, place = model.record, folder or _own_folder(run, model, name)
            folder = place
            check_results(folder, reports, hint)
            stack.enter_context(locked(folder))
            found = _score_model(run, model, name, folder, options, progress)
        if place is not None:
            with progress.task("Writing the report", None):
                _write(found, run, record, place, folder is None, reports)
    print_report(found, definitions=definitions)
    if folder is not None:
        what = "" if run is None else f"samples{', pictures' * options['pictures']}, "
        say(f"{what}metrics.json and report.html are in {folder}")


def _write(
    found: "MetricsReport",
    run: Path | None,
    record: "CheckpointRecord | None",
    folder: Path,
    temporary: bool,
    reports: Sequence[Path],
) -> None:
    """Scores as JSON, and as the page that is made of what lies in the folder."""
    from unite_mm.evaluation.report import write_report
    from unite_mm.reporting.page import report_page
    from unite_mm.reporting.runs import evaluated_run
    from unite_mm.utils.files import write_text

    pages = [path for path in reports if path.suffix == ".html"] + ([] if temporary else [folder / "report.html"])
    for path in [folder / "metrics.json", *(path for path in reports if path.suffix != ".html")]:
        write_report(found, path)
    page = report_page([evaluated_run(Path(found.source).name, run, record, folder)]) if pages else ""
    for path in pages:
        write_text(path, page)


def _own_folder(run: Path, model: "UNITE", name: str) -> Path:
    """Where an evaluation goes unless `-o` says otherwise; each modality of a joint run has a folder of its own.

    A model that ships with a plugin is part of the installation, and one of a hub lies in a cache: their evaluations go
    into the current folder.
    """
    from unite_mm.registry.models import name_of

    installed = name_of(run)
    folder = run / "evaluation" if installed is None else Path(f"{installed}-evaluation")
    return folder if len(model.modalities) == 1 else folder / name


def _model(run: Path, options: dict[str, Any]) -> tuple["UNITE", str]:
    """The model and the modality to evaluate, after checking the flags as far as that goes without it.

    Raises:
        UsageError: flags contradict each other, or there is no model.
    """
    from unite_mm.evaluation.sweep import parse_range

    if options["reconstructions_of"] is not None:
        raise UsageError("--reconstructions-of cannot be used with RUN", "a model reconstructs its own data")
    if options["sweep"] is not None and options["guidance"] is not None:
        raise UsageError("--sweep tries guidance scales: leave --guidance out")
    _count(options["samples"])
    if options["sweep"] is not None:
        parse_range(options["sweep"])
    model = load_model(run, options["device"])
    return model, model.choose(options["modality"])


def _score_model(
    run: Path, model: "UNITE", name: str, folder: Path, options: dict[str, Any], progress: "Progress"
) -> "MetricsReport":
    from dataclasses import replace

    from unite_mm.config import with_settings
    from unite_mm.contract import DataRequest
    from unite_mm.evaluation.model import evaluate_model
    from unite_mm.evaluation.plan import Plan
    from unite_mm.evaluation.sweep import parse_range
    from unite_mm.registry import discover

    scales = () if options["sweep"] is None else parse_range(options["sweep"])
    plugin = discover().get(name)
    config = model.config.modalities[name].config
    flags = {} if options["features"] is None else {"features": str(options["features"])}
    modality = plugin.load_implementation()(with_settings(plugin, config, options["assignments"], flags), name)
    model.modalities[name] = modality
    plan = Plan(
        sampling=sampling_config(model.config.sampling, options),
        split=options["split"],
        samples=_count(options["samples"]),
        labels=options["labels"],
        sweep=scales,
        reconstructions=options["reconstructions"],
        seed=options["seed"],
        workers=options["workers"],
        pictures=options["pictures"],
    )
    source = plugin.source(options["source"] or model.config.modalities[name].source)
    request = DataRequest(source, options["cache"], progress, options["workers"])
    try:
        with progress.task("Opening the data", None):
            data = modality.open_data(request)
    except UsageError as error:
        if options["source"] is not None:
            raise
        hint = f"{error.hint}; " if error.hint else ""
        raise UsageError(error.message, f"{hint}if the data lie elsewhere now, name them with --data") from error
    reference = None
    if options["reference"] is not None:
        reference = modality.open_reference(replace(request, source=options["reference"]))
    suffixes = plugin.suffixes("write")
    if not suffixes:
        raise UsageError(f"modality {name!r} writes no files", "its manifest lists no format with `write`")
    other = options["source"] is not None
    found = evaluate_model(model, name, data, plan, folder, suffixes[0], progress, reference, other_data=other)
    return found.model_copy(update={"source": str(run)})


def _score_file(options: dict[str, Any], folder: Path | None, progress: "Progress") -> "MetricsReport":
    from unite_mm.config import resolve_plugin, with_settings
    from unite_mm.contract import DataRequest
    from unite_mm.evaluation.files import evaluate_file
    from unite_mm.registry import discover

    if options["modality"] is None or options["samples"] is None:
        raise UsageError("nothing to evaluate", "name a RUN folder, or --modality NAME --samples FILE")
    for name in (*SAMPLING_FLAGS, "reconstructions", "labels", "sweep"):
        if options.get(name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs a RUN", "a file of samples is only scored")
    if options["reference"] is not None:
        raise UsageError("--reference needs a RUN", "without one, --data names what samples are compared with")
    plugin = discover().get(options["modality"])
    path = Path(options["samples"])
    if not path.exists():
        raise UsageError(f"{path} does not exist", "--samples takes a file when no RUN is named")
    flags = {} if options["features"] is None else {"features": str(options["features"])}
    config = with_settings(plugin, resolve_plugin(plugin, assignments=options["assignments"]), (), flags)
    modality = plugin.load_implementation()(config, plugin.name)
    request = None
    if options["source"] is not None:
        request = DataRequest(options["source"], options["cache"], progress, options["workers"])
    elif options["reconstructions_of"] is None and plugin.manifest.default_source is not None:
        usual = DataRequest(plugin.manifest.default_source, options["cache"], progress, options["workers"])
        request = usual if modality.at_hand(usual) else None
    return evaluate_file(
        modality,
        path,
        progress,
        request=request,
        originals=options["reconstructions_of"],
        workers=options["workers"],
        folder=folder,
    )


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_SAMPLES
    if not text.isdecimal():
        raise UsageError(f"--samples {text}: with RUN, expected a number", "leave RUN out to score a file")
    if len(text) > len(str(MOST_SAMPLES)) or int(text) > MOST_SAMPLES:
        raise UsageError(f"--samples {text}: more than {MOST_SAMPLES:,}")
    return int(text)
