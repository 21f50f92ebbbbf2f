"""`unite-mm data`: fetch, verify and describe data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unite_mm.cli.options import Command, cache_option, set_option, workers_option
from unite_mm.cli.terminal import say
from unite_mm.cli.types import TEXT, PathName
from unite_mm.errors import UniteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from unite_mm.contract import DataRequest, Modality, ModalityData
    from unite_mm.progress import Progress

F = TypeVar("F", bound="Callable[..., Any]")


@click.group()
def data() -> None:
    """Fetch, verify and describe data sets."""


def _data_options(function: F) -> F:
    """The options that say which data are meant."""
    for option in reversed(
        (
            click.option("--modality", required=True, metavar="NAME", help="Whose data."),
            click.option(
                "--data",
                "source",
                type=TEXT,
                metavar="SOURCE",
                help="A source it knows, or a path.  [default: its own]",
            ),
            click.option("--preset", metavar="NAME", help="Prepare as this preset asks.  [default: the default one]"),
            set_option,
            cache_option,
            workers_option,
        )
    ):
        function = option(function)
    return function


@data.command(cls=Command)
@_data_options
@click.option("--refresh", is_flag=True, help="Prepare again even if the cache holds the data.")
def fetch(refresh: bool, **options: Any) -> None:
    """Download and prepare a data set, once."""
    from unite_mm.cli.tables import print_card

    print_card(_open(options, refresh).card)


@data.command(cls=Command)
@_data_options
def info(**options: Any) -> None:
    """Show the data-set card; prepares the data if need be."""
    from unite_mm.cli.tables import print_card

    print_card(_open(options, refresh=False).card)


@data.command(cls=Command)
@_data_options
def verify(**options: Any) -> None:
    """Check prepared data: the card's sums, the size of each split, every batch, and the source files' hashes."""
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.evaluation.verification import verify_data

    opened = _open(options, refresh=False)
    source = Path(options["source"]).expanduser() if options["source"] else None
    with TerminalProgress() as progress:
        checks = verify_data(opened, source, progress)
    for check in checks:
        say(f"{'ok    ' if check.passed else 'FAILED'}  {check.title}: {check.detail}")
    failed = sum(not check.passed for check in checks)
    if failed:
        raise UniteError(f"{failed} of {len(checks)} checks failed", "prepare again: unite-mm data fetch --refresh")


@data.command(cls=Command)
@_data_options
@click.option("-o", "--output", required=True, type=PathName(file_okay=False), help="Folder to write; new or empty.")
@click.option(
    "--megabytes",
    type=click.IntRange(min=1, max=1_000_000),
    default=256,
    show_default=True,
    help="Size at which the next shard begins.",
)
def shard(output: Path, megabytes: int, **options: Any) -> None:
    """Write a data set as shards: few large files, with a manifest of hashes.

    Training reads them in place: --data FOLDER. They can lie on a server, too: --data https://.../shards.json.
    """
    from unite_mm.cli.progress import TerminalProgress

    with TerminalProgress() as progress:
        modality, request = _asked(options, progress)
        told = modality.write_shards(request, output, megabytes * 1_000_000)
    say(f"{told}: {output}")


def _open(options: dict[str, Any], refresh: bool) -> "ModalityData":
    from unite_mm.cli.progress import TerminalProgress

    with TerminalProgress() as progress:
        modality, request = _asked(options, progress, refresh)
        return modality.open_data(request)


def _asked(options: dict[str, Any], progress: "Progress", refresh: bool = False) -> "tuple[Modality, DataRequest]":
    """The modality as the options configure it, and the source that they name."""
    from unite_mm.config import resolve_plugin
    from unite_mm.contract import DataRequest
    from unite_mm.registry import discover

    plugin = discover().get(options["modality"])
    config = plugin.validate(resolve_plugin(plugin, options["preset"], options["assignments"]))
    modality = plugin.load_implementation()(config, plugin.name)
    source = plugin.source(options["source"])
    return modality, DataRequest(source, options["cache"], progress, options["workers"], refresh)
