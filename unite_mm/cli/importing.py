"""`unite-mm import-official`; what importers ask for beyond the file stands in the plugins' manifests."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unite_mm.cli.options import Command
from unite_mm.cli.terminal import say
from unite_mm.cli.types import NUMBER, PathName
from unite_mm.errors import UsageError
from unite_mm.utils.text import printable

if TYPE_CHECKING:
    from unite_mm_schemas.manifest import ImporterOption

NAME = "official"
"""Name of the importers that this command uses."""


class ImportCommand(Command):
    """Takes the options of every installed importer as well."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from unite_mm.registry import discover

        known = {option for parameter in self.params for option in parameter.opts}
        added = []
        for plugin in discover().plugins.values():
            importer = plugin.importer(NAME)
            for option in importer.options if importer else ():
                if f"--{option.name}" not in known:
                    known.add(f"--{option.name}")
                    added.append(_option(option))
        own = super().get_params(ctx)
        return [*own[:-2], *added, *own[-2:]]  # --debug and --help stay last


def _option(declared: "ImporterOption") -> click.Option:
    kinds: dict[str, Any] = {"integer": int, "number": NUMBER, "text": str}
    kind = click.Choice(declared.choices) if declared.choices else kinds[declared.type]
    return click.Option([f"--{declared.name}"], type=kind, help=printable(declared.description))


@click.command("import-official", cls=ImportCommand)
@click.argument("file", type=PathName())
@click.option("-o", "--output", required=True, type=PathName(file_okay=False), help="Folder to write.")
@click.option("--modality", metavar="NAME", help="Whose checkpoint, where several modalities import any.")
def import_official(file: Path, output: Path, modality: str | None, **options: Any) -> None:
    """Turn an official UNITE checkpoint into a model folder.

    Every command takes the folder. Code in the file never runs. Tensors that are missing, unexpected or of another
    shape are named, and nothing is written then.
    """
    from unite_mm.storage.importing import find_importer, import_checkpoint

    plugin = find_importer(NAME, modality)
    importer = plugin.importer(NAME)
    assert importer is not None
    names = {option.name.replace("-", "_") for option in importer.options}
    strange = [name for name, value in options.items() if value is not None and name not in names]
    if strange:
        raise UsageError(
            f"--{strange[0].replace('_', '-')}: modality {plugin.name!r} has no such option", "leave it out"
        )
    own = {name: value for name, value in options.items() if name in names}
    imported = import_checkpoint(plugin, NAME, file, own, output)
    for note in imported.notes:
        say(note)
    say(f"{sum(tensor.numel() for tensor in imported.state.values()):,} numbers imported: {output}")
