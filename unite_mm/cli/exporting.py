"""`unite-mm export`: a trained model as a small folder that can go anywhere; `unite-mm push`: from there to a hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from unite_mm.cli.options import Command, sampling_config, sampling_options
from unite_mm.cli.terminal import say
from unite_mm.cli.types import PathName
from unite_mm.errors import UsageError

if TYPE_CHECKING:
    from unite_mm_schemas.checkpoint import CheckpointRecord
    from unite_mm_schemas.metrics import MetricsReport


@click.command(cls=Command)
@click.argument("run", type=PathName())
@click.option("-o", "--output", required=True, type=PathName(file_okay=False), help="Folder to write.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="How weights are written; bfloat16 halves the file, and loads as float32.",
)
@click.option(
    "--step", type=click.IntRange(min=0, max=10**9), metavar="N", help="Which checkpoint.  [default: the newest]"
)
@click.option(
    "--metrics",
    type=PathName(dir_okay=False),
    metavar="FILE",
    help="metrics.json of an evaluation of this model: a table in the card, and a copy beside it.",
)
@click.option("--name", metavar="NAME", help="What the card calls the model.  [default: the folder's name]")
@click.option(
    "--licence", metavar="SPDX", help="Licence of the model, such as MIT, for the card.  [default: not stated]"
)
@sampling_options
def export(
    run: Path,
    output: Path,
    dtype: str,
    step: int | None,
    metrics: Path | None,
    name: str | None,
    licence: str | None,
    **flags: Any,
) -> None:
    """Write a trained model as a small folder.

    It holds averaged weights, configuration, statistics and a model card. Flags of
    the sampler become what it samples with unless told otherwise.

    Every command takes the folder in place of a run. It holds no path of this machine, and nothing is pickled.
    """
    from unite_mm.api import UNITE
    from unite_mm.registry.models import model_folder, shipped_at
    from unite_mm.storage.pretrained import check_export

    if output.exists() and shipped_at(output) is not None:
        raise UsageError(f"{output} is a model that ships with a plugin", "name another folder with -o")
    check_export(output.resolve())
    folder = model_folder(run)
    model = UNITE.from_pretrained(folder if step is None else _checkpoint(folder, step))
    assert model.record is not None
    report = None if metrics is None else _report(metrics, model.record)
    kind: Literal["float32", "bfloat16"] = "bfloat16" if dtype == "bfloat16" else "float32"
    sampling = sampling_config(model.config.sampling, flags)
    model.save_pretrained(output, dtype=kind, sampling=sampling, metrics=report, name=name, licence=licence)
    size = sum(path.stat().st_size for path in output.iterdir())
    say(f"step {model.record.step:,}, averaged weights as {dtype}, {size / 1e6:.1f} MB: {output}")


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=PathName(file_okay=False))
@click.argument("name", metavar="ORG/NAME")
@click.option("--private", is_flag=True, help="Seen by its owners alone, where the repository is new.")
@click.option("--revision", metavar="BRANCH", help="Branch to write to.  [default: main]")
def push(folder: Path, name: str, private: bool, revision: str | None) -> None:
    """Copy an exported model to a Hugging Face hub.

    Weights, JSON and Markdown files there that the export lacks are removed. Commands
    then take it as `hf:ORG/NAME`. Needs the extra `hub` and a login (`hf auth login`).
    """
    from unite_mm.errors import UniteError
    from unite_mm.registry import hub
    from unite_mm.storage.checkpoint import read_record
    from unite_mm.storage.pretrained import check_export

    if not folder.is_dir():
        raise UsageError(f"{folder} does not exist", "write it with `unite-mm export RUN -o DIR`")
    check_export(folder)
    try:
        record = read_record(folder)
    except UniteError as error:
        raise UsageError(f"{folder} is no whole export: {error.message}", "write it with `unite-mm export`") from error
    address = hub.push(folder, name, private=private, revision=revision)
    at = f"@{revision}" if revision else ""
    say(f"step {record.step:,} pushed to hf:{name}{at}: {address}")


def _checkpoint(run: Path, step: int) -> Path:
    """The folder of one checkpoint of a run.

    Raises:
        UsageError: the run has none of that step.
    """
    from unite_mm.storage.runs import checkpoint_folder, checkpoints_of

    folder = checkpoint_folder(run, step)
    if not folder.is_dir():
        known = ", ".join(str(int(path.name.rpartition("-")[2])) for path in checkpoints_of(run))
        raise UsageError(
            f"--step {step}: {run} has no such checkpoint", f"it has: {known}" if known else "it is no run folder"
        )
    return folder


def _report(path: Path, record: "CheckpointRecord") -> "MetricsReport":
    """The report of an evaluation of the model that is exported.

    Raises:
        UsageError: it cannot be read, or is of another model.
    """
    from pydantic import ValidationError

    from unite_mm.utils.validation import one_line
    from unite_mm_schemas.metrics import MetricsReport

    try:
        report = MetricsReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", "name a metrics.json") from error
    except ValidationError as error:
        raise UsageError(f"{path} is no report: {one_line(error, MetricsReport)}", "name a metrics.json") from error
    if report.modality not in record.modalities:
        raise UsageError(f"{path}: scores of the modality {report.modality!r}, which the model does not have")
    if report.step != record.step:
        what = "of a file of samples" if report.step is None else f"of step {report.step:,}"
        raise UsageError(
            f"{path}: scores {what}, but the model is of step {record.step:,}", "evaluate it, or choose with --step"
        )
    return report
