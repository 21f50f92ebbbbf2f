"""The Python interface, `UNITE`: `UNITE.from_pretrained("runs/qm9").generate(100, seed=0)` gives native samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from unite_mm.contract import Modality, ModalityModules, Statistics
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.progress import Progress, Silent
from unite_mm.sampling.batches import Generation
from unite_mm.sampling.coding import BATCH, Coder, Reconstructions
from unite_mm.sampling.generate import Samples
from unite_mm.sampling.interpolation import Interpolation, PathKind
from unite_mm.sampling.latents import Latents
from unite_mm.sampling.options import Options, Settings, chosen_options, chosen_settings, warn_untrained
from unite_mm.sampling.variations import Variations
from unite_mm.storage.pretrained import export_model, load_model, with_sampling
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import RunConfig, SamplingConfig
from unite_mm_schemas.metrics import MetricsReport

Asked = Generation | Variations | Interpolation

__all__ = ["UNITE", "Latents", "Reconstructions", "Samples"]


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
        self.network, self.config, self.record = network, config, record
        self.modalities, self.statistics = dict(modalities), dict(statistics)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, ema: bool = True, device: str = "cpu") -> "UNITE":
        """Load a model for use.

        Where the newest checkpoint of a run is damaged, an older one is used and a `UniteWarning` says so.

        Args:
            folder: a run folder (its newest intact checkpoint is used), a checkpoint folder, an exported folder, the
                name of a shipped model (`unite-mm models list`), or one on a hub: `hf:ORG/NAME[@REVISION]`.
            ema: load the averaged weights rather than the raw ones.
            device: where to put the model.

        Raises:
            UsageError: the folder holds no model, or a plugin it needs is not installed.
            UniteError: the files are damaged.
        """
        loaded = load_model(folder, ema=ema)
        model = cls(loaded.network.eval(), loaded.record.config, loaded.modalities, loaded.statistics, loaded.record)
        return model.to(device)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: Literal["float32", "bfloat16"] = "float32",
        sampling: SamplingConfig | None = None,
        metrics: MetricsReport | None = None,
        name: str | None = None,
        licence: str | None = None,
    ) -> None:
        """Write an exported folder (weights, configuration, statistics, model card) that `from_pretrained` reads.

        Args:
            folder: new, empty, or an earlier export, which is replaced.
            dtype: how weights are written; bfloat16 takes half the space, and loads as float32.
            sampling: how the exported model samples unless it is told otherwise; None: as this one.
            metrics: of an evaluation of this model, for its card.
            name: what the card calls it; None: the folder's name.
            licence: of the model, as SPDX names it, for its card; None: not stated.

        Raises:
            UsageError: the model was not loaded from a checkpoint, or the folder holds something else.
            UniteError: the folder cannot be written.
        """
        if self.record is None:
            raise UsageError("only a loaded model can be exported", "load it with UNITE.from_pretrained")
        record = self.record if sampling is None else with_sampling(self.record, sampling)
        export_model(self.network, record, Path(folder), dtype=dtype, metrics=metrics, name=name, licence=licence)

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

    def _coder(self, name: str) -> Coder:
        time_max, unconditional = self.config.latent.tokenize_time_max, self.config.flow.condition_drop > 0
        return Coder(self.network, self.modalities[name], self.statistics[name], time_max, unconditional)

    @torch.no_grad()
    def tokenize(self, batch: Any, modality: str | None = None, *, seed: int = 0, first: int = 0) -> Latents:
        """Latents of a batch (a plugin's object or a list of native samples) as the decoder sees them, on its device.

        Args:
            batch: what to tokenize.
            modality: whose input it is; may be left out when the model has one.
            seed: of the register noise; sample `first + k` gets the same noise in any batch.
            first: index of the first sample.

        Raises:
            UsageError: a sample does not fit the model.
        """
        coder = self._coder(self.choose(modality))
        return coder.tokenize(coder.batch(batch) if isinstance(batch, Sequence) else batch, seed=seed, first=first)

    @torch.no_grad()
    def encode(
        self,
        samples: Sequence[Any],
        modality: str | None = None,
        *,
        seed: int = 0,
        batch_size: int = BATCH,
        skip: bool = False,
        progress: Progress | None = None,
    ) -> Latents:
        """Latents of native samples, on the CPU; `decode` makes of them what `reconstruct` does, of equal arguments.

        Args:
            samples: native samples.
            modality: whose they are; may be left out when the model has one.
            seed: of the register noise.
            batch_size: samples at once; changes speed and memory only.
            skip: leave out samples that do not fit the model, as if they were not there; `skipped` says why.
            progress: where to show it.

        Raises:
            UsageError: there is no sample, or one does not fit the model; with `skip`, none does.
        """
        coder = self._coder(self.choose(modality))
        return coder.encode(samples, seed=seed, size=batch_size, skip=skip, progress=progress or Silent())

    @torch.no_grad()
    def decode(self, latents: Latents, *, options: Any = None, batch_size: int = BATCH) -> list[Any]:
        """Native samples of latents, `batch_size` at once.

        Args:
            latents: any number of them.
            options: of the plugin's own, complete, for latents that were generated.
            batch_size: changes speed and memory only.
        """
        coder = self._coder(latents.modality)
        return [one for part in coder.decoded(latents, size=batch_size, options=options) for one in part]

    @torch.no_grad()
    def denoise(self, latents: Latents, time: Tensor, condition: Tensor | None = None) -> Latents:
        """Clean latents predicted from noisy ones at timesteps `time` (B,), both in the space of the flow."""
        latents, time = latents.to(self.device), time.to(self.device)
        values = self.network.denoise(latents.modality, latents.values, time, latents.registers, condition=condition)
        return Latents(values, latents.registers, latents.modality)

    @torch.no_grad()
    def reconstruct(
        self,
        samples: Sequence[Any],
        modality: str | None = None,
        *,
        seed: int = 0,
        batch_size: int = BATCH,
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
        coder = self._coder(self.choose(modality))
        return coder.reconstruct(samples, seed=seed, size=batch_size, skip=skip, progress=progress or Silent())

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
        options: Options = None,
        sampling: Settings = None,
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
        asked = Generation(n, seed, first, condition, size, fragment, added)
        return self._made(asked, modality, options, chosen_settings(self.config.sampling, sampling, settings), progress)

    def _made(
        self, asked: Asked, modality: str | None, options: Options, sampling: SamplingConfig, progress: Progress | None
    ) -> Samples:
        name = self.choose(modality)
        warn_untrained(self.config, self.record)
        own = chosen_options(self.modalities[name], options)
        return asked.made(self._coder(name), sampling, own, progress or Silent())

    @torch.no_grad()
    def variations(
        self,
        samples: Sequence[Any],
        time: float,
        n: int = 1,
        *,
        modality: str | None = None,
        seed: int = 0,
        condition: Any = None,
        options: Options = None,
        sampling: Settings = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Samples:
        """Variations of given samples: their latents are noised to timestep `time` and denoised from there.

        Args:
            samples: native samples.
            time: how much stays of them: 0 nothing but their registers, 1 all, which gives reconstructions.
            n: of each; they stand side by side.
            modality: whose they are; may be left out when the model has one.
            seed: of all noise; variation k has that of the k-th sample that `generate` makes.
            condition: of all as for `generate`, or one for each given sample; None: what is known of each.
            options: as for `generate`.
            sampling: as for `generate`.
            progress: where to show it.
            settings: as for `generate`.

        Raises:
            UsageError: a sample does not fit the model, or an argument is refused.
        """
        asked = Variations(samples, time, n, seed, condition)
        return self._made(asked, modality, options, chosen_settings(self.config.sampling, sampling, settings), progress)

    @torch.no_grad()
    def interpolate(
        self,
        first: Any,
        second: Any,
        n: int = 9,
        path: PathKind = "latent",
        *,
        modality: str | None = None,
        seed: int = 0,
        condition: Any = None,
        options: Options = None,
        sampling: Settings = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Samples:
        """n samples on a path between two of the same registers, whose reconstructions are its ends.

        Args:
            first: native sample.
            second: native sample.
            n: how many, with both ends.
            path: `latent`, great circles between the latents; `flow`, between the noises that the flow, followed
                backwards, makes of them.
            modality: whose they are; may be left out when the model has one.
            seed: of register noise.
            condition: of one sample as for `generate`, for the flow; None: what is known of both, where it is equal.
            options: as for `generate`.
            sampling: as for `generate`.
            progress: where to show it.
            settings: as for `generate`.

        Raises:
            UsageError: the samples do not fit the model or each other, or an argument is refused.
        """
        asked = Interpolation(first, second, n, path, seed, condition)
        return self._made(asked, modality, options, chosen_settings(self.config.sampling, sampling, settings), progress)
