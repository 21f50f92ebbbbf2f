"""`unite-mm analyse`: what trained models look like inside."""

from pathlib import Path
from typing import Any

import click

from unite_mm.cli.options import Command, cache_option, chosen_device, device_option, seed_option, workers_option
from unite_mm.cli.terminal import say, say_lines
from unite_mm.cli.types import SOME_SAMPLES, TEXT, PathName
from unite_mm.errors import UsageError

EXAMPLES = """\b
  unite-mm analyse runs/unite runs/separate -o comparison
  unite-mm analyse qm9-tiny -o inside --only alignment,length
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=PathName())
@click.option("-o", "--output", required=True, type=PathName(file_okay=False), help="Folder for tables and pictures.")
@click.option(
    "--only",
    type=TEXT,
    metavar="PART,...",
    help="Of alignment, latents, length, probes, trajectories, dynamics.  [default: all]",
)
@click.option("--modality", metavar="NAME", help="Which modality, where a run has several.")
@click.option("--data", "source", type=TEXT, metavar="SOURCE", help="Other data than the runs'.")
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "train"]),
    default="test",
    show_default=True,
    help="Whose samples are looked at.",
)
@click.option("--samples", type=SOME_SAMPLES, default=512, show_default=True, help="How many of them.")
@click.option(
    "--fit-samples",
    type=SOME_SAMPLES,
    default=2000,
    show_default=True,
    help="Training samples that linear probes are fitted on.",
)
@click.option("--times", type=TEXT, metavar="T,...", help="Timesteps of the alignment.  [default: 0.25,0.5,0.75,0.95]")
@click.option("--pictures/--no-pictures", default=True, help="Draw curves and film strips.  [default: yes]")
@seed_option
@device_option
@cache_option
@workers_option
def analyse(runs: tuple[Path, ...], output: Path, **options: Any) -> None:
    """Look into models: alignment, probes, dynamics and more.

    How alike tokenizing and denoising are, what latents know, what weights weigh, how training went. Several runs
    are drawn into one picture. Every part can be left out; docs/analysis.md says how each is measured.
    """
    from unite_mm.analysis import AnalysisPlan, Subject
    from unite_mm.analysis import analyse as look_into
    from unite_mm.analysis.alignment import ALIGNMENT_TIMES
    from unite_mm.analysis.analyse import PARTS, TABLES
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.evaluation.report import check_results
    from unite_mm.utils.lock import locked

    plan = AnalysisPlan(
        parts=_parts(options["only"], PARTS),
        times=ALIGNMENT_TIMES if options["times"] is None else _times(options["times"]),
        fit_samples=options["fit_samples"],
        pictures=options["pictures"],
    )
    check_results(output, (), "name another folder with -o")
    device = chosen_device(options["device"])
    with TerminalProgress() as progress, locked(output):
        subjects = [
            Subject.open(
                run,
                cache=options["cache"],
                modality=options["modality"],
                source=options["source"],
                split=options["split"],
                samples=options["samples"],
                seed=options["seed"],
                device=device,
                workers=options["workers"],
                progress=progress,
            )
            for run in runs
        ]
        look_into(subjects, output, plan)
    say_lines((output / TABLES).read_text(encoding="utf-8"))
    say(f"tables, pictures and analysis.json are in {output}")


def _parts(text: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The parts asked for, in their own order.

    Raises:
        UsageError: there is no such part.
    """
    if text is None:
        return known
    asked = [part.strip() for part in text.split(",")]
    wrong = [part for part in asked if part not in known]
    if wrong:
        raise UsageError(f"--only {text}: there is no part {wrong[0]!r}", f"parts: {', '.join(known)}")
    return tuple(part for part in known if part in asked)


def _times(text: str) -> tuple[float, ...]:
    """Timesteps in [0, 1], increasing.

    Raises:
        UsageError: they are none.
    """
    try:
        times = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        times = (-1.0,)
    if not all(0 <= time <= 1 for time in times):
        raise UsageError(f"--times {text}: not timesteps from 0 to 1", "for example --times 0.25,0.5,0.75")
    return times
