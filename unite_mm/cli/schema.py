"""`unite-mm schema`: JSON Schemas and the configuration reference, for editors and readers."""

from pathlib import Path

import click

from unite_mm.cli.options import Command
from unite_mm.cli.terminal import say, say_lines
from unite_mm.cli.types import PathName
from unite_mm.errors import UsageError


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option(
    "--modality", "modalities", multiple=True, metavar="NAME", help="The schema of this modality's own configuration."
)
@click.option("--markdown", is_flag=True, help="A table of keys, types, defaults and help instead of JSON.")
@click.option("--export", type=PathName(file_okay=False), help="Write all schemas to this folder.")
def schema(name: str | None, modalities: tuple[str, ...], markdown: bool, export: Path | None) -> None:
    """Print JSON Schemas and the configuration reference.

    NAME is run (the default), manifest, data-card, checkpoint or metrics. With --markdown: the configuration reference
    of a run, and of the modalities named.
    """
    import json

    from unite_mm.registry import discover
    from unite_mm.utils.validation import did_you_mean
    from unite_mm_schemas.export import SCHEMAS, configuration_reference, json_schema, schema_of, write_schemas

    if name is not None and name not in SCHEMAS:
        raise UsageError(f"there is no schema {name!r}", did_you_mean(name, SCHEMAS) or f"use: {', '.join(SCHEMAS)}")
    if name is not None and (modalities or markdown):
        raise UsageError("a schema name cannot be combined with --modality or --markdown")
    if export is not None:
        for path in write_schemas(export):
            say(path)
        return
    if len(modalities) > 1 and not markdown:
        raise UsageError("several modalities have no schema in common", "give one --modality, or add --markdown")
    registry = discover() if modalities else None
    own = {modality: registry.get(modality).load_configuration() for modality in modalities} if registry else {}
    if markdown:
        say_lines(configuration_reference(own))
    else:
        found = next((schema_of(model) for model in own.values()), None) or json_schema(name or "run")
        say_lines(json.dumps(found, indent=2))
