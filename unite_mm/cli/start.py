"""What a training run starts from: the model of another run, an exported one, or one that ships with a plugin."""

from pathlib import Path
from typing import TYPE_CHECKING

from unite_mm.errors import UsageError

if TYPE_CHECKING:
    from unite_mm.config import Layer


def trunk_of(folder: Path | None) -> tuple["Layer", ...]:
    """The layer of `--init-trunk`."""
    if folder is None:
        return ()
    from unite_mm.config import trunk_layer
    from unite_mm.registry.models import model_folder
    from unite_mm.storage.pretrained import find_record

    folder = model_folder(folder)
    return (trunk_layer(find_record(folder)[1].config, folder),)


def trained(recipe: str | None, folder: Path | None) -> "Layer | None":
    """The layer of `--recipe decoder --init RUN`, or decoder-gan: the configuration of the trained model."""
    if recipe not in ("decoder", "decoder-gan"):
        if folder is not None:
            raise UsageError("--init goes with --recipe decoder", "to start from another run's trunk: --init-trunk RUN")
        return None
    if folder is None:
        raise UsageError(f"--recipe {recipe} needs a trained model", "name its run folder with --init RUN")
    from unite_mm.config import decoder_layer
    from unite_mm.registry.models import model_folder
    from unite_mm.storage.pretrained import find_record

    folder = model_folder(folder)
    ask_for_plugins(folder)
    return decoder_layer(find_record(folder)[1].config, folder, recipe)


def ask_for_plugins(folder: Path) -> None:
    """Name the distributions that a model needs where they are not installed."""
    from unite_mm.storage.pretrained import check_plugins, find_record

    check_plugins(find_record(folder)[1])


def refuse_export(folder: Path) -> None:
    """Say why an exported model does not resume, where a folder or a name stands for one.

    Raises:
        UsageError: it does.
    """
    from unite_mm.registry.models import shipped_at
    from unite_mm_schemas.base import RECORD

    shipped = shipped_at(folder)
    if shipped is not None or (folder / RECORD).is_file():
        what = "is a model that ships with a plugin" if shipped else "is an exported model or a single checkpoint"
        raise UsageError(
            f"--resume: {folder} {what}, no run: there is nothing to continue",
            f"train its decoder further with --recipe decoder --init {folder}, or start from it with --init-trunk",
        )
