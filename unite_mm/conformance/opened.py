"""A plugin under test, opened step by step: its configuration, data, modules, and a batch of a few samples."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unite_mm.config import RunOptions, resolve
from unite_mm.conformance.process import state
from unite_mm.conformance.report import calling, importing
from unite_mm.conformance.step import Step
from unite_mm.contract import SPLITS, DataRequest, Modality, ModalityData, ModalityModules
from unite_mm.errors import UniteError
from unite_mm.progress import Progress, Silent
from unite_mm.registry import Plugin, Registry
from unite_mm_schemas.config import RunConfig

TINY = (
    "trunk.width=32",
    "trunk.depth=2",
    "trunk.heads=2",
    "trunk.time_features=16",
    "trunk.gate_start=0.5",
    "trunk.in_context_tokens=0",
    "flow.draws=1",
    "flow.chunk=1",
    "train.devices=1",
    "train.precision=32-true",
    "train.max_steps=1",
    "sampling.solver=euler",
    "sampling.steps=2",
    "sampling.guidance=1",
)
"""A trunk that costs nothing; `--set` still changes it."""

LOOKED_AT = 64
"""Training samples among which those of the batch are chosen."""

BATCH = 4

FILED = 12
"""Samples that are written to files: more than ten, so that names which sort wrongly show."""


class OpenedPlugin:
    """A plugin under test.

    Args:
        registry: where the plugin was found.
        name: of the modality.
        preset: a preset; None: the plugin's default one.
        settings: `key=value` pairs, as `--set` takes them.
        source: data source; None: the first that the manifest marks `offline`, or else the plugin's default.
        cache: folder of prepared data.
        scratch: an empty folder.
        progress: where to show long work.

    Attributes:
        made: the steps that have been made.
        failed_steps: the steps that nothing may use, each with the check that found it wrong.
        checking: the check that is running.
        mistaken: the checks that have found something.
        surroundings: what belonged to the whole process before anything of the plugin ran.

    Raises:
        UsageError: there is no such plugin, or it is broken.
    """

    def __init__(
        self,
        registry: Registry,
        name: str,
        *,
        preset: str | None = None,
        settings: Sequence[str] = (),
        source: str | None = None,
        cache: Path,
        scratch: Path,
        progress: Progress | None = None,
    ) -> None:
        self.registry = registry
        self.name = name
        self.plugin: Plugin = registry.get(name)
        self.preset = preset
        self.settings = tuple(settings)
        offline = [entry.name for entry in self.plugin.manifest.sources if entry.offline]
        self.source = source or next(iter(offline), None)
        self.cache = cache
        self.scratch = scratch
        self.progress: Progress = progress or Silent()
        self.made: dict[str, Any] = {}
        self.failed_steps: dict[str, str] = {}
        self.checking = ""
        self.mistaken: list[str] = []
        self.surroundings = state()

    @Step
    def configuration(self) -> type[Any]:
        """The configuration model."""
        with importing(self.plugin.manifest.configuration, self.plugin.folder):
            return self.plugin.load_configuration()

    @Step
    def config(self) -> RunConfig:
        """The run: the preset with a tiny trunk."""
        _ = self.configuration
        sources = () if self.source is None else (self.source,)
        options = RunOptions((self.name,), sources, self.preset, assignments=(*TINY, *self.settings))
        return resolve(options, self.registry)

    @Step
    def implementation(self) -> type[Modality]:
        """The `Modality` subclass."""
        with importing(self.plugin.manifest.implementation, self.plugin.folder):
            return self.plugin.load_implementation()

    @Step
    def modality(self) -> Modality:
        """An instance of the implementation."""
        own = self.plugin.validate(self.config.modalities[self.name].config)
        with calling(f"{self.implementation.__name__}()", called="it takes the configuration and the name"):
            return self.implementation(own, self.name)

    def request(self, source: str) -> DataRequest:
        """A request for data."""
        return DataRequest(source, self.cache, self.progress, workers=1)

    @Step
    def data(self) -> ModalityData:
        """The prepared data."""
        modality = self.modality
        hint = "name another source with --data, or mark a small one of the manifest with `offline: true`"
        with calling("open_data()", refused=hint):
            return modality.open_data(self.request(self.plugin.source(self.config.modalities[self.name].source)))

    @Step
    def raw_statistics(self) -> Any:
        """What `statistics` returns."""
        data, modality = self.data, self.modality
        with calling("statistics()"):
            return modality.statistics(data)

    @Step
    def statistics(self) -> dict[str, Any]:
        """The statistics as a checkpoint gives them back."""
        raw = self.raw_statistics
        with calling("statistics()", "return numbers, texts, lists and mappings with text keys only"):
            return dict(json.loads(json.dumps(dict(raw))))

    def build_modules(self) -> ModalityModules:
        """Fresh modules, from torch's global generator."""
        modality, statistics, width = self.modality, self.statistics, self.config.trunk.width
        with calling("build_modules()", called="the statistics are as JSON gives them back: tuples are lists"):
            return modality.build_modules(statistics, width)

    @Step
    def modules(self) -> ModalityModules:
        """The parts of the model that belong to the modality."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build_modules()

    @Step
    def indices(self) -> Tensor:
        """Training samples (B,), mixed: the smallest, the largest and some between, not in their order."""
        data = self.data
        with calling("data.size() or data.lengths()"):
            size, lengths = data.size("train"), data.lengths("train")
        chosen = torch.arange(min(size, LOOKED_AT))
        if lengths is not None:
            chosen = torch.unique(torch.cat((chosen, lengths.argmin()[None], lengths.argmax()[None])))
            order = lengths[chosen].argsort(stable=True)
        else:
            mask = getattr(getattr(self.new_batch(chosen), "registers", None), "mask", None)
            counts = mask.sum(1) if isinstance(mask, Tensor) and mask.dim() == 2 else torch.zeros(len(chosen))
            order = counts.argsort(stable=True)
        spread = torch.linspace(0, len(chosen) - 1, min(BATCH, len(chosen))).round().long()
        return chosen[order[spread.roll(1)]]

    def new_batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Any:
        """The batch of training samples."""
        data = self.data
        with calling("data.batch()"):
            return data.batch("train", indices, generator)

    @Step
    def batch(self) -> Any:
        """The batch of the mixed samples."""
        return self.new_batch(self.indices)

    @Step
    def samples(self) -> list[Any]:
        """The same as native objects."""
        data, indices = self.data, self.indices
        with calling("data.samples()"):
            return data.samples("train", indices)

    @Step
    def filed(self) -> list[Any]:
        """A dozen native samples, of which the first comes twice: files keep what is equal."""
        data = self.data
        found: list[Any] = []
        with calling("data.samples()"):
            for split in SPLITS:
                wanted = min(data.size(split), FILED - 1 - len(found))
                found += data.samples(split, torch.arange(wanted)) if wanted > 0 else []
        return [found[index % len(found)] for index in range(FILED)]

    def need(self, *steps: str) -> None:
        """Block a check that cannot do without these steps.

        Raises:
            Blocked: one of them is not sound.
            UniteError: one of them cannot be made.
        """
        for step in steps:
            getattr(self, step)

    @property
    def preferred_suffix(self) -> str:
        """Suffix of the first format that is both written and read.

        Raises:
            UniteError: there is none.
        """
        both = [entry.suffix for entry in self.plugin.manifest.formats if entry.read and entry.write]
        if not both:
            raise UniteError(
                "the manifest lists no format that is both read and written",
                "list one under `formats`, such as {suffix: .csv, description: ...}",
            )
        return both[0]
