"""`unite-mm study`: variants of a run at equal compute, over several seeds, as one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unite_mm.cli.options import Command, cache_option, set_option
from unite_mm.cli.terminal import say, say_lines
from unite_mm.cli.types import TEXT, PathName
from unite_mm.errors import UsageError

if TYPE_CHECKING:
    from unite_mm_schemas.config import RunConfig

MOST_JOBS = 1024
MOST_STEPS = 10**12
MOST_SEEDS = 1000

EXAMPLES = """\b
  unite-mm study sharing --modality qm9 --data embedded --preset tiny-implicit --max-steps 500 -o runs/sharing
  unite-mm study my-study.yaml -o runs/mine --jobs 2
  unite-mm study flow-draws --modality image --data shapes --preset shapes-tiny --dry-run
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("study", metavar="STUDY", type=TEXT)
@click.option("-o", "--output", type=PathName(file_okay=False), help="Folder for runs, table and curves.")
@click.option("--modality", metavar="NAME", help="Modality, in place of the study's own.")
@click.option("--data", type=TEXT, metavar="SOURCE", help="Data, in place of the study's own.")
@click.option("--preset", metavar="PRESET", help="Preset, in place of the study's own.")
@set_option
@click.option("--seeds", type=click.IntRange(1, MOST_SEEDS), metavar="N", help="Seeds 0 to N - 1.")
@click.option("--max-steps", type=click.IntRange(1, MOST_STEPS), metavar="N", help="Steps of the first variant.")
@click.option("--max-time", metavar="DURATION", help="Training time of every run, such as 30m: equal seconds.")
@click.option(
    "--jobs", type=click.IntRange(1, MOST_JOBS), metavar="N", help="Runs at once.  [default: as many as cores]"
)
@click.option("--dry-run", is_flag=True, help="Count what the study would cost; run nothing.")
@cache_option
def study(study: str, output: Path | None, dry_run: bool, cache: Path, **options: Any) -> None:
    """Compare variants of a run at equal compute, over seeds.

    STUDY is a YAML file or the name of a shipped study; docs/studies.md says what such a file holds. The same command
    continues a study that was stopped, and repeats no run that has ended.
    """
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.cli.tables import print_rows
    from unite_mm.config import parse_duration
    from unite_mm.studies.definition import Changes, Words, changed, read_study
    from unite_mm.studies.plan import COST_HEADER, cost_rows, variant_costs
    from unite_mm.studies.study import TEXT as TABLE
    from unite_mm.studies.study import Bench, run_study
    from unite_mm.utils.cores import cores
    from unite_mm.utils.lock import locked

    jobs, seconds = options["jobs"] or cores(), options["max_time"]
    if seconds is not None and options["max_steps"] is not None:
        raise UsageError("--max-steps and --max-time exclude each other")
    changes = Changes(
        modality=options["modality"],
        data=options["data"],
        preset=options["preset"],
        assignments=options["assignments"],
        seeds=options["seeds"],
        steps=options["max_steps"],
        seconds=None if seconds is None else parse_duration(seconds),
    )
    chosen = changed(read_study(study), changes)
    modality = _modality(chosen.base.modality)
    with TerminalProgress() as progress:
        if dry_run:
            costs = variant_costs(chosen, Words(chosen, modality), resolve_words, cache, progress)
            return print_rows(cost_rows(chosen, costs, jobs), COST_HEADER)
        if output is None:
            raise UsageError("a study needs a folder", "name it with -o; the same one continues it")
        with locked(output):
            run_study(chosen, modality, resolve_words, Bench(output, cache, jobs, progress))
    say_lines((output / TABLE).read_text(encoding="utf-8"))
    say(f"tables, curves and runs are in {output}")


def resolve_words(words: Sequence[str]) -> "RunConfig":
    """The configuration of a run that `train` with these words would start.

    Raises:
        UsageError: it is wrong.
    """
    from unite_mm.cli.planning import FLAGS
    from unite_mm.cli.train import run_options, train
    from unite_mm.config import resolve
    from unite_mm.registry import discover

    try:
        given = dict(train.make_context("train", list(words)).params)
    except click.UsageError as error:
        raise UsageError(f"flags: {error.format_message()}", "see unite-mm train --help") from error
    for name in ("out", "resume", "dry_run", "cache", "workers", *FLAGS):
        given.pop(name)
    return resolve(run_options(given), discover())


def _modality(named: str | None) -> str:
    """The modality of a study.

    Raises:
        UsageError: it names none, and several are installed.
    """
    from unite_mm.registry import discover

    known = list(discover().plugins)
    if named is None and len(known) != 1:
        raise UsageError("the study names no modality", f"add --modality NAME; there are: {', '.join(known)}")
    return known[0] if named is None else named
