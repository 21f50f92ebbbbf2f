"""`unite-mm plugins`: what is installed, and what is wrong with it. Imports no implementation."""

from typing import TYPE_CHECKING

import click

from unite_mm.cli.new_plugin import new_plugin
from unite_mm.cli.options import Command, Settings

if TYPE_CHECKING:
    from unite_mm.registry import Plugin


@click.group()
def plugins() -> None:
    """List the installed modalities, or begin one of your own."""


plugins.add_command(new_plugin)


@plugins.command("list", cls=Command)
@click.pass_context
def list_plugins(context: click.Context) -> None:
    """List modalities with their presets, data sources and formats; broken plugins with the reason.

    With --debug, broken plugins show their traceback.
    """
    from unite_mm.registry import discover

    registry = discover()
    for plugin in registry.plugins.values():
        _show(plugin)
    for entry in registry.broken:
        click.echo(f"{entry.name}  BROKEN  [{entry.distribution}]\n  {entry.message}")
        if context.ensure_object(Settings).debug:
            click.echo(entry.traceback)
    if not registry.plugins and not registry.broken:
        click.echo("no modality is installed: no distribution has an entry point in the group unite_mm.modalities")


def _show(plugin: "Plugin") -> None:
    manifest = plugin.manifest
    click.echo(f"{plugin.name}  {manifest.description}  [{plugin.distribution}]")
    presets = [
        f"{entry.name}{' (default)' if entry.name == manifest.default_preset else ''}" for entry in manifest.presets
    ]
    rows = {
        "presets": presets,
        "data": [entry.name for entry in manifest.sources],
        "reads": plugin.suffixes("read"),
        "writes": plugin.suffixes("write"),
        "metrics": [entry.name for entry in manifest.metrics],
    }
    for title, values in rows.items():
        if values:
            click.echo(f"  {title:<8} {', '.join(values)}")
