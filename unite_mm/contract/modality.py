"""The class that a plugin's manifest names: data, files, pictures and metrics of one modality."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unite_mm.contract.data import DataRequest, ModalityData, Reference
from unite_mm.contract.metrics import SweepMetric
from unite_mm.contract.model import Batch, ModalityModules, Statistics
from unite_mm.contract.optional import OptionalParts
from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm_schemas.metrics import Score


class Modality(OptionalParts, ABC):
    """A modality: data, files, pictures and metrics; builds the model's `ModalityModules`.

    One implementation may serve several manifests, each under a name of its own.

    Args:
        config: an instance of the configuration model that the manifest names.
        name: name of the modality, that of its manifest.
    """

    def __init__(self, config: Any, name: str) -> None:
        self.config = config
        self.name = name

    def check_training(self) -> None:
        """Called before a run prepares its data: fetch what its losses need beyond the data, weights say; here nothing.

        Raises:
            UsageError, UniteError: something is not at hand; the message says what to do.
        """

    @abstractmethod
    def open_data(self, request: DataRequest) -> ModalityData:
        """Fetch, convert and cache the data once, then open it. Safe when two processes do it at once.

        Raises:
            UsageError: the source does not exist, cannot be read, or holds nothing usable.
            UniteError: the data are unavailable (no network, say); the message names the alternatives.
        """

    @abstractmethod
    def statistics(self, data: ModalityData) -> Statistics:
        """Facts of the training split that `build_modules` needs; stored in every checkpoint."""

    @abstractmethod
    def build_modules(self, statistics: Statistics, width: int) -> ModalityModules:
        """Build the model parts for a trunk of `width`; parameters initialised from torch's global generator."""

    def sampling_options(self) -> Any:
        """Options of the plugin's own for generation, with their defaults: a Pydantic model, or None for none.

        Here the section `sampling` of the configuration, where that has one. Callers change single ones:
        `sample --set NAME.sampling.KEY=VALUE`, `generate(options={KEY: VALUE})`. What they chose reaches
        `ModalityModules.prior_for` and `samples_for`.
        """
        return getattr(self.config, "sampling", None)

    @abstractmethod
    def write(self, samples: Sequence[Any], path: Path) -> None:
        """Write native samples to a file (or folder) whose suffix names the format.

        Raises:
            UsageError: the suffix names no known format.
        """

    @abstractmethod
    def read(self, path: Path) -> list[Any]:
        """Read native samples back.

        Raises:
            UsageError: the file does not exist or cannot be read.
        """

    def read_inputs(self, path: Path, progress: Progress) -> list[Any]:
        """Native samples that are to be reconstructed; here all that `read` gives.

        A modality whose files may hold far more than its model sees (photographs, say) keeps only that.

        Args:
            path: the file or folder.
            progress: where to say what is passed over.

        Raises:
            UsageError: as `read`.
        """
        return self.read(path)

    def read_text(self, text: str) -> Any:
        """The native sample that a text of the command line is, such as a SMILES; None, as here: no text is one.

        Args:
            text: what is no name of a file.

        Raises:
            UsageError: it should be a sample and is not; the message says why.
        """
        del text
        return None

    @abstractmethod
    def encode_samples(self, samples: Sequence[Any], statistics: Statistics) -> Batch:
        """A batch of native samples, for `tokenize` and `reconstruct`.

        Raises:
            UsageError: a sample does not fit the layout; the message names it.
        """

    @abstractmethod
    def save_picture(self, samples: Sequence[Any], path: Path) -> None:
        """A picture (PNG) of several samples."""

    @abstractmethod
    def save_pairs_picture(self, inputs: Sequence[Any], outputs: Sequence[Any], path: Path) -> None:
        """A picture (PNG) of inputs beside their reconstructions, differences marked."""

    def read_pairs(self, inputs: Path, outputs: Path) -> tuple[list[Any], list[Any]]:
        """Samples of one file beside their reconstructions in another; here by their order, elsewhere by name.

        Raises:
            UsageError: a file cannot be read, or samples have no partner.
        """
        originals, results = self.read(inputs), self.read(outputs)
        if len(originals) != len(results):
            raise UsageError(
                f"{inputs} holds {len(originals)} samples and {outputs} {len(results)}",
                "reconstructions must be as many as their inputs, in the same order",
            )
        return originals, results

    def open_reference(self, request: DataRequest, samples: Sequence[Any] = ()) -> Reference:
        """What `score_generation` compares with, from a source that need not be a whole data set (statistics, say).

        Args:
            request: names the source.
            samples: what will be scored, where it is at hand.

        Raises:
            UsageError, UniteError: as `open_data`.
        """
        del samples
        return self.open_data(request)

    def at_hand(self, request: DataRequest) -> bool:
        """Whether a source lies ready in the cache, so that opening it takes no network and no long work.

        Files that are scored without a model are compared with the manifest's `default_source` where it is at hand and
        the user names nothing else.

        Args:
            request: names the source.
        """
        del request
        return False

    def sweep_metric(self) -> SweepMetric:
        """The metric of generation by which a sweep compares settings.

        Raises:
            UsageError: there is none.
            UniteError: what measures it is not at hand; the message says what is missing.
        """
        raise UsageError(f"modality {self.name!r} names no metric by which settings are compared", "leave --sweep out")

    @abstractmethod
    def score_reconstruction(
        self, inputs: Sequence[Any], outputs: Sequence[Any], progress: Progress, workers: int = 0
    ) -> Score:
        """Metrics of reconstructions; `inputs[i]` belongs to `outputs[i]`."""

    @abstractmethod
    def score_generation(
        self, samples: Sequence[Any], reference: Reference | None, progress: Progress, workers: int = 0
    ) -> Score:
        """Metrics of generated samples; `reference` (of `open_data` or `open_reference`) may be absent."""
