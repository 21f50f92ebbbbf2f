"""`unite-mm schema`: JSON Schemas and the configuration reference, for editors and readers."""

from pathlib import Path

import click

from unite_mm.cli.options import Command
from unite_mm.errors import UsageError


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--modality", metavar="NAME", help="The schema of this modality's own configuration.")
@click.option("--markdown", is_flag=True, help="A table of keys, types, defaults and help instead of JSON.")
@click.option("--export", type=click.Path(file_okay=False, path_type=Path), help="Write all schemas to this folder.")
def schema(name: str | None, modality: str | None, markdown: bool, export: Path | None) -> None:
    """Print JSON Schemas and the configuration reference.

    NAME is run (the default), manifest, data-card, checkpoint or metrics. With --markdown: the configuration reference
    of a run, and of the modality if one is named.
    """
    import json

    from unite_mm.registry import discover
    from unite_mm.validation import did_you_mean
    from unite_mm_schemas.export import SCHEMAS, configuration_reference, json_schema, schema_of, write_schemas

    if name is not None and name not in SCHEMAS:
        raise UsageError(f"there is no schema {name!r}", did_you_mean(name, SCHEMAS) or f"use: {', '.join(SCHEMAS)}")
    if name is not None and (modality is not None or markdown):
        raise UsageError("a schema's name goes with neither --modality nor --markdown")
    if export is not None:
        for path in write_schemas(export):
            click.echo(path)
        return
    own = None if modality is None else discover().get(modality).load_configuration()
    if markdown:
        click.echo(configuration_reference({modality: own} if modality and own else {}), nl=False)
    else:
        found = json_schema(name or "run") if own is None else schema_of(own)
        click.echo(json.dumps(found, indent=2))
