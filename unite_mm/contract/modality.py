"""The class that a plugin's manifest names: data, files, pictures and metrics of one modality."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unite_mm.contract.data import DataRequest, ModalityData, Reference
from unite_mm.contract.fragments import Fragment, Held
from unite_mm.contract.metrics import SweepMetric
from unite_mm.contract.model import Batch, ModalityModules, PriorSample, Statistics
from unite_mm.contract.views import ReportViews
from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm_schemas.metrics import Score


class Modality(ABC):
    """A modality: data, files, pictures and metrics; builds the model's `ModalityModules`.

    One implementation may serve several manifests, each under a name of its own.

    Args:
        config: an instance of the configuration model that the manifest names.
        name: name of the modality, that of its manifest.
    """

    def __init__(self, config: Any, name: str) -> None:
        self.config = config
        self.name = name

    def check_training(self) -> None:  # noqa: B027 - most modalities need nothing
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

    @abstractmethod
    def encode_samples(self, samples: Sequence[Any], statistics: Statistics) -> Batch:
        """A batch of native samples, for `tokenize` and `reconstruct`.

        Raises:
            UsageError: a sample does not fit the layout; the message names it.
        """

    def fragment(self, given: Any, statistics: Statistics) -> Fragment:
        """The part that generated samples are to contain, checked; here it is refused.

        A plugin that takes one heeds `SampleRequest.fragment` in `prior_for` and implements `hold`.

        Args:
            given: a native sample; or text from the command line, such as the name of a file whose first sample counts.
            statistics: what the model was trained on.

        Raises:
            UsageError: the modality takes none, it cannot be read, or no sample of the model has room for it.
        """
        del given, statistics
        raise UsageError(f"modality {self.name!r} grows no samples around a fragment", "leave it out")

    def hold(
        self,
        fragment: Fragment,
        priors: Sequence[PriorSample],
        generators: Sequence[torch.Generator],
        statistics: Statistics,
    ) -> Held:
        """Samples that contain a fragment, one for each that is generated.

        Their latents at the held registers take the place of what the denoiser predicts there.

        Args:
            fragment: as `fragment` gave it.
            priors: B drawn registers and conditions.
            generators: B CPU generators, the only source of randomness.
            statistics: what the model was trained on.

        Raises:
            UsageError: it cannot be placed.
        """
        raise NotImplementedError(f"modality {self.name!r} has `fragment` but not `hold`")

    def score_fragment(self, samples: Sequence[Any], fragment: Fragment, progress: Progress) -> Score:
        """How many generated samples are sound and contain the fragment; here nothing is measured."""
        del samples, fragment, progress
        return Score(kind="fragment")

    @abstractmethod
    def save_picture(self, samples: Sequence[Any], path: Path) -> None:
        """A picture (PNG) of several samples."""

    @abstractmethod
    def save_pairs_picture(self, inputs: Sequence[Any], outputs: Sequence[Any], path: Path) -> None:
        """A picture (PNG) of inputs beside their reconstructions, differences marked."""

    def report_views(self) -> ReportViews | None:
        """What the HTML report shows of samples beside tables and pictures; here nothing."""
        return None

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

    def held_out_conditions(self, reference: Reference, most: int) -> Mapping[str, Sequence[float]] | None:
        """Conditions of held-out samples, at most `most`: `evaluate` generates under them, for `score_conditioned`.

        Args:
            reference: what generated samples are compared with.
            most: how many at the most.

        Returns:
            Values for each sample by the names of parts of the condition; parts that are not named are left open.
            None (as here): there is nothing to check.
        """
        del reference, most
        return None

    def score_conditioned(
        self,
        samples: Sequence[Any],
        conditions: Mapping[str, Sequence[float]],
        reference: Reference,
        progress: Progress,
        workers: int = 0,
    ) -> Score:
        """How well samples keep to what `held_out_conditions` gave: `samples[i]` was made under the i-th values."""
        raise NotImplementedError
