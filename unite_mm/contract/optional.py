"""What a modality may offer beyond what every one must: each part has a default that says it is not there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unite_mm.contract.condition import ConditionSpec
from unite_mm.contract.data import DataRequest, Reference
from unite_mm.contract.fragments import Fragment, Held
from unite_mm.contract.model import PriorSample, Statistics
from unite_mm.contract.teacher import Teacher
from unite_mm.contract.views import ReportViews
from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm_schemas.metrics import Metric, Score


class OptionalParts:
    """The parts of a `Modality` that most do without.

    Attributes:
        name: name of the modality.
    """

    name: str

    def write_shards(self, request: DataRequest, folder: Path, most: int) -> str:
        """Write a source into a new folder, as files of about `most` bytes that training reads in place.

        Returns:
            What was written, in one line.

        Raises:
            UsageError: the modality has no such files (as here), or the source cannot be read.
        """
        raise UsageError(f"modality {self.name!r} has no shards", "train on the source itself")

    def teacher(self, statistics: Statistics) -> Teacher:
        """What describes inputs without being trained; here there is none. Nothing is loaded before it is called.

        Raises:
            UsageError: there is none.
        """
        del statistics
        raise UsageError(f"modality {self.name!r} has no teacher", "choose another regime, or another alignment.kind")

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

    def score_adherence(
        self, samples: Sequence[Any], conditions: torch.Tensor, spec: ConditionSpec
    ) -> tuple[Metric, ...]:
        """How many samples keep to the condition that they were generated under, as far as samples show it.

        `evaluate` adds it to the score of generated samples. Here nothing is measured.

        Args:
            samples: n native samples, whatever their state.
            conditions: what each was generated under, given or drawn: classes (n,), numbers (n, M), or both (n, 1 + M);
                NaN where a part was left open.
            spec: what the parts are.

        Returns:
            Shares or means over the samples, under names that `score_generation` does not use.
        """
        del samples, conditions, spec
        return ()

    def report_views(self) -> ReportViews | None:
        """What the HTML report shows of samples beside tables and pictures; here nothing."""
        return None
