"""What the parts of a model's evaluation share."""

from dataclasses import dataclass, field
from pathlib import Path

from unite_mm.api import UNITE
from unite_mm.contract import Modality
from unite_mm.evaluation.plan import Plan
from unite_mm.evaluation.report import Clock
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

    @property
    def modality(self) -> Modality:
        """The modality itself."""
        return self.model.modalities[self.name]

    def samples_path(self, stem: str) -> Path:
        """A file, or folder, of samples."""
        return self.folder / (stem if self.suffix == "/" else stem + self.suffix)
