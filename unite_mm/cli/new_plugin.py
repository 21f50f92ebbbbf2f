"""`unite-mm plugins new`: a distribution to begin a modality of one's own with."""

from pathlib import Path

import click

from unite_mm.cli.options import Command
from unite_mm.cli.terminal import say
from unite_mm.cli.types import PathName


@click.command("new", cls=Command)
@click.argument("name")
@click.option("--out", type=PathName(), help="Folder to write.  [default: unite-mm-NAME]")
@click.option("--free-tokens", is_flag=True, help="Let input tokens stand for no register: as many as you like.")
def new_plugin(name: str, out: Path | None, free_tokens: bool) -> None:
    """Write an installable distribution with a modality NAME that trains, evaluates and samples as it stands.

    It knows regular polygons; the places to change are marked CHANGE.
    """
    from unite_mm.registry import discover
    from unite_mm.registry.scaffold import distribution_name, write_plugin

    folder = out or Path(distribution_name(name))
    for path in write_plugin(name, folder, discover(), free_tokens=free_tokens):
        say(path)
    say()
    say(f"install it  pip install -e {folder}")
    say(f"train it    unite-mm train --modality {name} --out runs/{name}")
    say(f"change it   grep -rn CHANGE {folder}")
