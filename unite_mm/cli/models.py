"""`unite-mm models`: trained models that ship with plugins."""

import math
from pathlib import Path

import click

from unite_mm.cli.options import Command
from unite_mm.cli.plugins import print_columns
from unite_mm.cli.terminal import say, say_lines
from unite_mm.errors import UniteError

CARD = "README.md"
"""As in `unite_mm.storage.model_card`, which needs torch."""


@click.group()
def models() -> None:
    """List and show the models that ship with plugins.

    Every command takes their names in place of a run.
    """


@models.command("list", cls=Command)
def list_models() -> None:
    """List the models that are installed: name, modality, parameters, size.

    Loads none of them, and imports no plugin.
    """
    from unite_mm.registry.models import shipped_models

    found = shipped_models()
    if not found:
        say("no model is installed: no plugin ships one")
        return
    rows = [("name", "modality", "parameters", "size", "description")]
    for model in found:
        size = sum(path.stat().st_size for path in model.folder.iterdir() if path.is_file())
        rows.append(
            (
                model.name,
                model.plugin.name,
                f"{_numbers(model.folder) / 1e6:.1f}M",
                f"{size / 1e6:.1f} MB",
                model.description,
            )
        )
    print_columns(rows)


@models.command(cls=Command)
@click.argument("name")
def show(name: str) -> None:
    """Show the card of a model: data, training, figures, use."""
    from unite_mm.registry.models import shipped_model
    from unite_mm.storage.front_matter import without_front_matter

    model = shipped_model(name)
    path = model.folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UniteError(f"the model {name!r} has no card: {path} cannot be read", "tell its author") from error
    say_lines(without_front_matter(text))
    say(f"folder: {model.folder}")


def _numbers(folder: Path) -> int:
    """How many numbers the weights of a folder are; read from the header of the file, which is all that is read.

    Raises:
        UniteError: there is no such file, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / "weights.safetensors"
    try:
        with safe_open(path, framework="np") as stream:
            return sum(math.prod(stream.get_slice(name).get_shape()) for name in stream.keys())  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        raise UniteError(f"{path} cannot be read: {error}", "install the plugin again") from error
