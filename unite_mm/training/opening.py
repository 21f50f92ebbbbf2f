"""Opening the data of a run."""

from pathlib import Path

from unite_mm.contract import SPLITS
from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm.registry.build import OpenModality, open_modalities
from unite_mm_schemas.config import RunConfig


def open_for_training(
    config: RunConfig, cache: Path, progress: Progress, workers: int, resume: bool
) -> dict[str, OpenModality]:
    """The modalities with their data, after saying which held-out splits are empty.

    Raises:
        UsageError: a plugin or its data cannot be used; of a resumed run, how to say where the data lie now.
    """
    try:
        opened = open_modalities(config, cache, progress, workers)
    except UsageError as error:
        if not resume:
            raise
        hint = f"{error.hint}; " if error.hint else ""
        raise UsageError(error.message, f"{hint}if the data lie elsewhere now, name them with --data") from error
    for name, entry in opened.items():
        empty = [split for split in SPLITS[1:] if entry.data.size(split) == 0]
        if empty:
            which = f"the {empty[0]} split of the {name} data is" if len(empty) == 1 else f"the {name} data have"
            rest = "empty" if len(empty) == 1 else f"no {' and no '.join(empty)} split"
            progress.say(f"note: {which} {rest}; nothing can be {_missed(empty)}")
    return opened


def _missed(empty: list[str]) -> str:
    """What there is no data for."""
    uses = {"validation": "validated while training", "test": "reconstructed by evaluate"}
    return " or ".join(uses[split] for split in empty)
