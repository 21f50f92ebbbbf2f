"""`unite-mm plugins`: what is installed, what it offers, and what is wrong with it."""

import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unite_mm.cli.new_plugin import new_plugin
from unite_mm.cli.options import Command, Settings, cache_option, set_option
from unite_mm.cli.terminal import say, trace
from unite_mm.cli.types import TEXT
from unite_mm.errors import UniteError, UsageError
from unite_mm.utils.text import printable

if TYPE_CHECKING:
    from unite_mm.conformance.report import Outcome
    from unite_mm.registry import Plugin

_LEAST_ROOM = 20
"""Columns that a last column must have to be wrapped."""


@click.group()
def plugins() -> None:
    """List, show and check modalities, or begin one of your own."""


plugins.add_command(new_plugin)


@plugins.command("list", cls=Command)
@click.pass_context
def list_plugins(context: click.Context) -> None:
    """List modalities with their distributions; broken ones with the reason.

    Imports none of them. With --debug, broken plugins show their traceback.
    """
    from unite_mm.registry import discover

    registry = discover()
    rows = [("name", "state", "contract", "distribution", "description")]
    for plugin in registry.plugins.values():
        manifest = plugin.manifest
        rows.append((plugin.name, "ok", str(manifest.contract), plugin.distribution, manifest.description))
    for entry in registry.broken:
        contract = "?" if entry.contract is None else str(entry.contract)
        rows.append((entry.name, "BROKEN", contract, entry.distribution, entry.message))
    if len(rows) == 1:
        say("no modality is installed: no distribution has an entry point in the group unite_mm.modalities")
        return
    print_columns(rows)
    if context.ensure_object(Settings).debug:
        for entry in registry.broken:
            say()
            say(f"{entry.name} of {entry.distribution}:")
            trace(entry.traceback)


@plugins.command(cls=Command)
@click.argument("name")
def show(name: str) -> None:
    """Show a modality: manifest, presets, data sources, formats, metrics, settings.

    Imports its configuration model, and nothing else of it.
    """
    from unite_mm.cli.tables import print_rows
    from unite_mm.registry import discover

    plugin = discover().get(name)
    print_rows(_facts(plugin))
    for title, header, rows in _lists(plugin):
        if rows:
            print_rows(rows, header, title)
    _show_settings(plugin)


@plugins.command(cls=Command)
@click.argument("name")
@click.option("--imports", is_flag=True, help="Load the plugin and try each of its parts on a few samples.")
@click.option("--preset", metavar="NAME", help="With --imports: try this preset.  [default: the default one]")
@click.option(
    "--data",
    "source",
    type=TEXT,
    metavar="SOURCE",
    help="With --imports: data to try it on.  [default: the first source that the manifest marks offline]",
)
@set_option
@cache_option
def check(
    name: str, imports: bool, preset: str | None, source: str | None, assignments: tuple[str, ...], cache: Path
) -> None:
    """Check a modality against the contract, and say what to change.

    Without --imports none of its code runs.
    """
    from unite_mm.conformance.static import check_statically
    from unite_mm.registry import discover

    registry = discover()
    if not imports and (preset or source or assignments):
        raise UsageError("--preset, --data and --set need --imports", "without it none of the plugin's code runs")
    outcomes = check_statically(registry, name)
    if preset is not None and name in registry.plugins:
        registry.get(name).preset(preset)
    for outcome in outcomes:
        _print_outcome(outcome)
    if imports and name in registry.plugins:
        from unite_mm.cli.progress import TerminalProgress
        from unite_mm.conformance.subject import Subject
        from unite_mm.conformance.suite import CHECKS

        with tempfile.TemporaryDirectory() as scratch, TerminalProgress() as progress:
            subject = Subject(
                registry,
                name,
                preset=preset,
                settings=assignments,
                source=source,
                cache=cache,
                scratch=Path(scratch),
                progress=progress,
            )
            for entry in CHECKS:
                outcomes.append(entry.outcome(subject))
                _print_outcome(outcomes[-1])
    _conclude(name, outcomes, imports)


def _conclude(name: str, outcomes: Sequence["Outcome"], imports: bool) -> None:
    """The sum of all checks.

    Raises:
        UniteError: there are mistakes.
    """
    mistakes = sum(len(outcome.findings) for outcome in outcomes)
    waiting = [outcome for outcome in outcomes if outcome.needs is not None]
    for cause in dict.fromkeys(outcome.needs for outcome in waiting):
        names = ", ".join(_words(outcome.name) for outcome in waiting if outcome.needs == cause)
        say(f"not run, waiting for {_words(cause or '')}: {names}")
    if mistakes:
        raise UniteError(f"{name}: {mistakes} mistake{'s' if mistakes > 1 else ''}", "fix and check again")
    say(f"{name}: no mistake in {len(outcomes)} checks")
    if not imports:
        say("  --imports also loads it and tries each of its parts")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _print_outcome(outcome: "Outcome") -> None:
    """The line of a check that passed, the mistakes of one that failed, nothing of one that did not run."""
    if outcome.findings:
        say(f"FAILED  {_words(outcome.name)}")
    elif outcome.needs is None:
        say(f"ok      {_words(outcome.name)}: {outcome.demand}")
    for finding in outcome.findings:
        say(f"        {finding.message}")
        if finding.hint:
            say(f"          {finding.hint}")
        for line in finding.traceback.splitlines():
            say(f"          | {line}")


def _facts(plugin: "Plugin") -> list[tuple[str, str]]:
    manifest = plugin.manifest
    return [
        ("name", plugin.name),
        ("description", manifest.description),
        ("distribution", plugin.distribution),
        ("contract", str(manifest.contract)),
        ("entry point", f"{plugin.name} = {plugin.entry}"),
        ("folder", str(plugin.folder)),
        ("configuration", manifest.configuration),
        ("implementation", manifest.implementation),
    ]


def _lists(plugin: "Plugin") -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Title, header and rows of everything that the manifest lists."""
    manifest = plugin.manifest
    presets: list[tuple[str, ...]] = [
        (f"{entry.name} (default)" if entry.name == manifest.default_preset else entry.name, entry.description)
        for entry in manifest.presets
    ]
    sources: list[tuple[str, ...]] = [
        (entry.name, f"{entry.description} (offline)" if entry.offline else entry.description)
        for entry in manifest.sources
    ]
    formats: list[tuple[str, ...]] = [
        (
            "a folder" if entry.suffix == "/" else entry.suffix,
            " and ".join(verb for verb, on in (("reads", entry.read), ("writes", entry.write)) if on),
            entry.description,
        )
        for entry in manifest.formats
    ]
    metrics: list[tuple[str, ...]] = [(entry.name, entry.kind, entry.definition) for entry in manifest.metrics]
    models: list[tuple[str, ...]] = [(entry.name, entry.description) for entry in manifest.models]
    importers: list[tuple[str, ...]] = [(entry.name, entry.description) for entry in manifest.importers]
    return [
        ("presets (--preset)", ("preset", "what for"), presets),
        ("data sources (--data)", ("source", "what it is"), sources),
        ("sample files", ("suffix", "", "what it holds"), formats),
        ("metrics", ("metric", "of", "definition"), metrics),
        ("trained models", ("model", "what it is"), models),
        ("foreign checkpoints", ("kind", "what they are"), importers),
    ]


def _show_settings(plugin: "Plugin") -> None:
    from unite_mm.cli.tables import print_rows
    from unite_mm_schemas.export import configuration_rows

    model = plugin.load_configuration()
    rows = configuration_rows(model, f"{plugin.name}.")
    print_rows(rows, ("setting (--set)", "type", "default", "what it does"), "settings")


def print_columns(rows: Iterable[Sequence[str]]) -> None:
    """Rows of texts in aligned columns; the last one is wrapped on a terminal, and as long as it likes elsewhere."""
    listed = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]) - 1)]
    for row in listed:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        before = "".join(f"{one}  " for one in cells)
        room = shutil.get_terminal_size().columns - len(before) if sys.stdout.isatty() else 0
        lines = textwrap.wrap(row[-1], room, break_on_hyphens=False) if room >= _LEAST_ROOM else [row[-1]]
        for line in lines or [""]:
            say(before + line)
            before = " " * len(before)
