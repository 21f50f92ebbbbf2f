"""Galleries of the report, made while samples are at hand and kept beside the scores as `views.json`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unite_mm.contract import Modality, Reference
from unite_mm.errors import UniteError
from unite_mm.progress import Progress
from unite_mm.utils.files import write_text
from unite_mm_schemas.views import Gallery, Views

VIEWS = "views.json"


class Galleries:
    """Makes the galleries of one evaluation; what cannot be shown costs no scores.

    Args:
        modality: the modality.
        progress: where to show progress, and to say what failed.
        workers: processes; 0: all cores.
    """

    def __init__(self, modality: Modality, progress: Progress, workers: int = 0) -> None:
        self.modality, self.progress, self.workers = modality, progress, workers
        self._made: dict[str, Gallery | None] = {}

    def add_samples(self, samples: Sequence[Any], reference: Reference | None) -> None:
        """The gallery of generated samples; one that was made before is replaced."""
        views = self.modality.report_views()
        if views is not None and samples:
            self._make("samples", lambda: views.samples(samples, reference, self.progress, self.workers))

    def add_reconstructions(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """The gallery of reconstructions."""
        views = self.modality.report_views()
        if views is not None and inputs:
            self._make("reconstructions", lambda: views.reconstructions(inputs, outputs, self.progress, self.workers))

    @property
    def views(self) -> Views:
        """What was made, samples first."""
        found = (self._made.get(kind) for kind in ("samples", "reconstructions"))
        return Views(modality=self.modality.name, galleries=tuple(one for one in found if one is not None))

    def write(self, folder: Path) -> None:
        """Write `views.json`; where there is nothing to show, none, and one of an earlier evaluation goes.

        Raises:
            OSError: it cannot be written.
        """
        views = self.views
        if views.galleries:
            write_text(folder / VIEWS, views.model_dump_json() + "\n")
        else:
            (folder / VIEWS).unlink(missing_ok=True)

    def _make(self, kind: str, make: Callable[[], Gallery | None]) -> None:
        try:
            made = make()
            if made is not None:
                made.model_dump_json()  # what cannot be written fails here, where it costs nothing
            self._made[kind] = made
        except Exception as error:  # code of a plugin, after what may have been hours of sampling
            what = error.message if isinstance(error, UniteError) else f"{type(error).__name__}: {error}"
            self.progress.say(f"the report has no gallery of {kind}: {what}")


def read_views(folder: Path) -> Views | None:
    """The galleries of an evaluation; None where it kept none.

    Raises:
        UniteError: the file is damaged.
    """
    path = folder / VIEWS
    try:
        return Views.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UniteError(f"{path} cannot be read", "evaluate again, or remove the file") from error
