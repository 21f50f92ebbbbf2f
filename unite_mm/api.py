"""The Python interface: `UNITE` loads a trained model and tokenizes, decodes, reconstructs and generates samples.

    from unite_mm import UNITE

    model = UNITE.from_pretrained("runs/qm9")
    samples = model.generate(100, seed=0)

It needs nothing but a run folder, a checkpoint, an exported folder, or the name of a model that ships with a plugin.
The tensor part is `model.network`.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from unite_mm.contract import Modality, ModalityModules, Statistics
from unite_mm.errors import UniteWarning, UsageError
from unite_mm.model.network import Network
from unite_mm.progress import Progress, Silent
from unite_mm.random_streams import Stream, stream_generator
from unite_mm.sampling.batches import Batches
from unite_mm.sampling.fragments import Growth
from unite_mm.sampling.generate import (
    Latents,
    Samples,
    draw_prior,
    stacked_conditions,
)
from unite_mm.sampling.options import chosen_options
from unite_mm.sampling.tokenization import seen_by_decoder, tokenize
from unite_mm.storage.pretrained import export_model, load_model
from unite_mm.utils.validation import not_negative, one_line
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import RunConfig, SamplingConfig
from unite_mm_schemas.metrics import MetricsReport

__all__ = ["UNITE", "Latents", "Reconstructions", "Samples"]


class Reconstructions(list[Any]):
    """Reconstructed native samples, in the order of their inputs.

    Attributes:
        skipped: why inputs were left out, by their index.
    """

    def __init__(self, skipped: Mapping[int, str]) -> None:
        super().__init__()
        self.skipped = dict(skipped)


class UNITE:
    """A network with its modalities: native samples in and out.

    Args:
        network: encoder-denoiser and the modalities' parts.
        config: the run configuration.
        modalities: the modalities themselves, for files and native samples.
        statistics: each modality's facts of its training split.
        record: where the weights come from; None for a new model.
    """

    def __init__(
        self,
        network: Network,
        config: RunConfig,
        modalities: Mapping[str, Modality],
        statistics: Mapping[str, Statistics],
        record: CheckpointRecord | None = None,
    ) -> None:
        self.network = network
        self.config = config
        self.modalities = dict(modalities)
        self.statistics = dict(statistics)
        self.record = record

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, ema: bool = True, device: str = "cpu") -> "UNITE":
        """Load a model for use.

        Where the newest checkpoint of a run is damaged, an older one is used and a `UniteWarning` says so.

        Args:
            folder: a run folder (its newest intact checkpoint is used), a checkpoint folder, an exported folder, or the
                name of a shipped model (`unite-mm models list`).
            ema: load the averaged weights rather than the raw ones.
            device: where to put the model.

        Raises:
            UsageError: the folder holds no model, or a plugin it needs is not installed.
            UniteError: the files are damaged.
        """
        loaded = load_model(folder, ema=ema)
        model = cls(loaded.network, loaded.record.config, loaded.modalities, loaded.statistics, loaded.record)
        model.network.eval()
        return model.to(device)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: Literal["float32", "bfloat16"] = "float32",
        metrics: MetricsReport | None = None,
        name: str | None = None,
    ) -> None:
        """Write an exported folder (weights, configuration, statistics, model card) that `from_pretrained` reads.

        Args:
            folder: new, empty, or an earlier export, which is replaced.
            dtype: how weights are written; bfloat16 takes half the space, and loads as float32.
            metrics: of an evaluation of this model, for its card.
            name: what the card calls it; None: the folder's name.

        Raises:
            UsageError: the model was not loaded from a checkpoint, or the folder holds something else.
            UniteError: the folder cannot be written.
        """
        if self.record is None:
            raise UsageError("only a loaded model can be exported", "load it with UNITE.from_pretrained")
        export_model(self.network, self.record, Path(folder), dtype=dtype, metrics=metrics, name=name)

    def to(self, device: str | torch.device) -> Self:
        """Move the network to a device; returns the model itself."""
        self.network.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.network.device

    def modules_of(self, modality: str) -> ModalityModules:
        """The parts of the network that belong to a modality: layout, condition, tokenizer, decoder."""
        return self.network.modules_of(modality)

    def choose(self, modality: str | None) -> str:
        """The modality meant: the named one, or the only one.

        Raises:
            UsageError: the name is unknown, or several modalities leave the choice open.
        """
        names = self.network.names
        if modality is None and len(names) == 1:
            return names[0]
        if modality is None or modality not in names:
            what = "this model has several modalities" if modality is None else f"this model knows no {modality!r}"
            raise UsageError(what, f"choose one of: {', '.join(names)}")
        return modality

    @torch.no_grad()
    def tokenize(self, batch: Any, modality: str | None = None, *, seed: int = 0, first: int = 0) -> Latents:
        """Latents of a batch (a plugin's batch object or a list of native samples), as the decoder sees them.

        Args:
            batch: what to tokenize.
            modality: whose input it is; may be left out when the model has one.
            seed: of the register noise; sample `first + k` gets the same noise in any batch.
            first: index of the first sample.

        Raises:
            UsageError: a sample does not fit the model.
        """
        name = self.choose(modality)
        not_negative(seed=seed, first=first)
        if isinstance(batch, Sequence):
            batch = self.modalities[name].encode_samples(batch, self.statistics[name])
        batch = batch.to(self.device)
        count = len(batch.registers.mask)
        generators = [stream_generator(Stream.TOKENIZATION_NOISE, seed, first + index) for index in range(count)]
        clean = tokenize(self.network, name, batch, generators, self.config.latent.tokenize_time_max)
        values = seen_by_decoder(self.network, name, clean, batch.registers, generators)
        return Latents(values, batch.registers, name)

    @torch.no_grad()
    def decode(self, latents: Latents, *, options: Any = None) -> list[Any]:
        """Native samples of latents; `options`: of the plugin's own, complete, for latents that were generated."""
        output = self.network.decode(latents.modality, latents.values, latents.registers)
        modules, registers = self.modules_of(latents.modality), latents.registers
        samples: list[Any] = (
            modules.samples(output, registers) if options is None else modules.samples_for(output, registers, options)
        )
        return samples if latents.condition is None else modules.conditioned(samples, latents.condition)

    @torch.no_grad()
    def denoise(self, latents: Latents, time: Tensor, condition: Tensor | None = None) -> Latents:
        """Clean latents predicted from noisy ones at timesteps `time` (B,), both in the space of the flow."""
        values = self.network.denoise(latents.modality, latents.values, time, latents.registers, condition=condition)
        return Latents(values, latents.registers, latents.modality)

    @torch.no_grad()
    def reconstruct(
        self,
        samples: Sequence[Any],
        modality: str | None = None,
        *,
        seed: int = 0,
        batch_size: int = 256,
        skip: bool = False,
        progress: Progress | None = None,
    ) -> Reconstructions:
        """Tokenize and decode native samples, in their order.

        Args:
            samples: native samples.
            modality: whose they are; may be left out when the model has one.
            seed: of the register noise.
            batch_size: samples at once; changes speed and memory only.
            skip: leave out samples that do not fit the model, and say so in the result, as if they were not there.
            progress: where to show it.

        Raises:
            UsageError: a sample does not fit the model, or with `skip` none does; the message names it.
        """
        name = self.choose(modality)
        not_negative(seed=seed)
        skipped = self._unfit(name, samples, batch_size) if skip else {}
        if skipped and len(skipped) == len(samples):
            raise UsageError(f"none of {len(samples)} samples fits the model; the first: {skipped[0]}")
        samples = [sample for index, sample in enumerate(samples) if index not in skipped]
        result = Reconstructions(skipped)
        with (progress or Silent()).task("Reconstructing", len(samples)) as advance:
            for start in range(0, len(samples), batch_size):
                part = list(samples[start : start + batch_size])
                result += self.decode(self.tokenize(part, name, seed=seed, first=start))
                advance(len(part))
        return result

    def _unfit(self, name: str, samples: Sequence[Any], batch_size: int) -> dict[int, str]:
        """Why samples do not fit the model, by their index."""
        modality, statistics = self.modalities[name], self.statistics[name]
        found: dict[int, str] = {}
        for start in range(0, len(samples), batch_size):
            part = samples[start : start + batch_size]
            try:
                modality.encode_samples(part, statistics)
            except UsageError:
                for index, sample in enumerate(part, start):
                    try:
                        modality.encode_samples([sample], statistics)
                    except UsageError as error:
                        found[index] = error.message
        return found

    @torch.no_grad()
    def generate(
        self,
        n: int,
        *,
        modality: str | None = None,
        seed: int = 0,
        first: int = 0,
        condition: Any = None,
        size: int | Sequence[int] | None = None,
        fragment: Any = None,
        added: int | None = None,
        options: Mapping[str, Any] | BaseModel | None = None,
        sampling: SamplingConfig | Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Samples:
        """Generate samples first .. first + n - 1 of a seed; sample k is the same for any n and batch size.

            model.generate(16, condition="cat", guidance=2, steps=50)

        Args:
            n: how many.
            modality: which; may be left out when the model has one.
            seed: of all noise and of the prior.
            first: index of the first sample.
            condition: class or numbers (M,) of all samples, or one for each: (n,) or (n, M). Classes go by integer or
                name, numbers in order or by name, both by name: `{"class": "cat", "age": 3}`. None: the prior's.
            size: registers of every sample, or of each (n,), such as its number of atoms; None: as the prior draws it.
            fragment: a part that every sample is to contain, such as a SMILES: its registers are held to its noised
                latents up to the timestep `hold_until`.
            added: registers of every sample beyond the fragment's, instead of `size`.
            options: single options of the plugin's own by key, or its model of them; None: as the run has them.
            sampling: a `SamplingConfig` replaces the run's settings (solver, steps, guidance ...), a mapping changes
                single ones; None: as the run has them.
            progress: where to show it.
            settings: single settings of sampling by keyword, such as `guidance=2`; they count above `sampling`.

        Returns:
            n native samples, with the number of function evaluations, their conditions, and around a fragment a score.

        Raises:
            UsageError: condition, size, seed or fragment do not fit, or there is no such setting.
        """
        name = self.choose(modality)
        not_negative(n=n, seed=seed, first=first)
        self._warn_untrained()
        chosen = self._sampling(sampling, settings)
        own = chosen_options(self.modalities[name], options)
        grown = self._growth(name, fragment, added)
        size = size if grown is None else grown.sizes(size, added)
        part = None if grown is None else grown.fragment
        modules = self.modules_of(name)
        priors = draw_prior(modules, n, condition, size=size, options=own, seed=seed, first=first, fragment=part)
        numbers = range(first, first + n)
        batches = Batches(self.network, name, priors, numbers, seed, chosen, self.config.latent, grown)
        samples, most = batches.sample(lambda latents: self.decode(latents, options=own), progress or Silent())
        score = None if grown is None else grown.score(samples, progress or Silent())
        return Samples(samples, most, stacked_conditions(priors), score)

    def _warn_untrained(self) -> None:
        """Warn of a denoiser that a run has not come to yet."""
        if self.config.recipe.kind == "staged" and self.record is not None and self.record.stage.number == 1:
            text = "this model is in the first of two stages: its denoiser is not trained yet"
            warnings.warn(text, UniteWarning, stacklevel=3)

    def _growth(self, name: str, fragment: Any, added: int | None) -> Growth | None:
        if fragment is None and added is not None:
            raise UsageError(f"added={added}: there is no fragment to add to", "give one, or a size")
        return None if fragment is None else Growth.around(fragment, self.modalities[name], self.statistics[name])

    def _sampling(self, given: Any, settings: Mapping[str, Any]) -> SamplingConfig:
        """The settings of sampling: all of `given`, or the run's with what a mapping changes, then single ones.

        Raises:
            UsageError: a key is unknown or a value is refused.
        """
        if given is not None and not isinstance(given, SamplingConfig | Mapping):
            raise UsageError(
                f"sampling: {type(given).__name__} holds no settings",
                "give a SamplingConfig or a mapping such as {'steps': 50}",
            )
        base = given if isinstance(given, SamplingConfig) else self.config.sampling
        changes = {**(given if isinstance(given, Mapping) else {}), **settings}
        if not changes:
            return base
        try:
            return SamplingConfig.model_validate({**base.model_dump(), **changes})
        except ValidationError as error:
            raise UsageError(f"sampling: {one_line(error, SamplingConfig)}") from error
