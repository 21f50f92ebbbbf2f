"""What the parts of a model's evaluation share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from unite_mm.api import UNITE
from unite_mm.contract import Modality
from unite_mm.evaluation.plan import Plan
from unite_mm.evaluation.report import Clock
from unite_mm.evaluation.views import Galleries
from unite_mm.progress import Progress


@dataclass(frozen=True)
class Task:
    """The evaluation of one modality of a model.

    Attributes:
        model: a loaded model.
        name: the modality.
        plan: what to evaluate.
        folder: where samples and pictures go.
        suffix: suffix of the sample files, or `/` for a folder.
        progress: where to show progress.
        clock: counts the seconds of each stage.
    """

    model: UNITE
    name: str
    plan: Plan
    folder: Path
    suffix: str
    progress: Progress
    clock: Clock = field(default_factory=Clock)

    @cached_property
    def galleries(self) -> Galleries:
        """What the report shows of the samples."""
        return Galleries(self.modality, self.progress, self.plan.workers)

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Add the seconds spent inside to a stage, and show its title meanwhile."""
        with self.clock.stage(name), self.progress.task(title, None):
            yield

    @property
    def modality(self) -> Modality:
        """The modality itself."""
        return self.model.modalities[self.name]

    def samples_path(self, stem: str) -> Path:
        """A file, or folder, of samples."""
        return self.folder / (stem if self.suffix == "/" else stem + self.suffix)
