"""`unite-mm report`: runs as one HTML file."""

from pathlib import Path

import click

from unite_mm.cli.options import Command
from unite_mm.cli.terminal import say
from unite_mm.cli.types import PathName

EXAMPLES = """\b
  unite-mm report runs/first -o report.html
  unite-mm report qm9-tiny runs/first runs/second -o compared.html
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("runs", metavar="RUN...", type=PathName(), nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=PathName(dir_okay=False), help="HTML file to write.")
def report(runs: tuple[Path, ...], output: Path) -> None:
    """Write runs, their scores and samples as one HTML file.

    It needs no network. Several runs stand side by side. What is shown of samples was kept by `unite-mm evaluate`; a
    folder that it wrote for a file of samples counts as a run, too.
    """
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.evaluation.report import check_results
    from unite_mm.reporting.page import write_report_page
    from unite_mm.reporting.runs import load_runs

    check_results(None, [output], "name another file with -o")
    with TerminalProgress() as progress, progress.task("Writing the report", None):
        write_report_page(load_runs(runs), output)
    say(f"{len(runs)} run{'s' * (len(runs) > 1)}, {output.stat().st_size / 1e6:.1f} MB: {output}")
