"""The UNITE model: one encoder-denoiser, each modality's ends, and the four things it does.

`tokenize` (input -> latents), `decode` (latents -> output), `denoise` (noisy latents -> clean ones) and `generate`
(noise -> samples). `UNITE.from_pretrained` needs nothing but a run folder, a checkpoint or an exported folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unite_mm.contract import Modality, ModalityModules, PriorSample, Registers, Statistics
from unite_mm.errors import UsageError
from unite_mm.model.layers import DecoderBlock, EncoderBlock
from unite_mm.model.trunk import GenerativeEncoder
from unite_mm.progress import Progress, Silent
from unite_mm.random_streams import seeded_generator
from unite_mm.sampling.solvers import integrate
from unite_mm.utils.threads import side_by_side
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import RunConfig, SamplingConfig


@dataclass(frozen=True)
class Latents:
    """Latent tokens of a batch.

    Attributes:
        values: (B, L, C), layer-normalised over C, zero at unused registers.
        registers: which registers each sample uses.
        modality: whose latents they are.
        condition: what they were generated under, classes (B,) or numbers (B, M); None where there was none.
    """

    values: Tensor
    registers: Registers
    modality: str
    condition: Tensor | None = None


class UNITE(nn.Module):
    """Encoder-denoiser and ends of one or several modalities.

    Args:
        config: the run configuration.
        ends: the modalities' parts by name.
        modalities: the modalities themselves, for files and native samples.
        statistics: each modality's facts of its training split.
        record: where the weights come from; None for a new model.
    """

    def __init__(
        self,
        config: RunConfig,
        ends: Mapping[str, ModalityModules],
        modalities: Mapping[str, Modality],
        statistics: Mapping[str, Statistics],
        record: CheckpointRecord | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.modalities = dict(modalities)
        self.statistics = dict(statistics)
        self.record = record
        self.modality_modules = nn.ModuleDict(ends)
        self.encoder = GenerativeEncoder(config.trunk, config.latent, ends)
        self.separate_denoiser = (
            None if config.regime.shared_weights else GenerativeEncoder(config.trunk, config.latent, ends)
        )
        self.last_evaluations = 0

    @property
    def denoiser(self) -> GenerativeEncoder:
        """The network that denoises: the encoder itself unless the regime separates them."""
        return self.encoder if self.separate_denoiser is None else self.separate_denoiser

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def compile_for_training(self) -> None:
        """Compile every transformer block for any number of samples and tokens, and the losses that gain by it.

        The decoders' blocks are among them. Parameters keep their names. The first passes take a minute or so, and need
        a C++ compiler on a CPU.
        """
        for module in self.modules():
            if isinstance(module, EncoderBlock | DecoderBlock):
                module.compile(dynamic=True)
        for modality in self.modality_modules:
            self.modules_of(modality).compile_losses()

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, ema: bool = True, device: str = "cpu") -> "UNITE":
        """Load a model for use.

        Args:
            folder: a run folder (its newest intact checkpoint is used), a checkpoint folder or an exported folder.
            ema: load the averaged weights rather than the raw ones.
            device: where to put the model.

        Raises:
            UsageError: the folder holds no model, or a plugin it needs is not installed.
            UniteError: the files are damaged.
        """
        from unite_mm.storage.pretrained import load_model

        return load_model(Path(folder), ema=ema).to(device).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write an exported folder (weights, configuration, statistics) that `from_pretrained` reads."""
        from unite_mm.storage.pretrained import export_model

        export_model(self, Path(folder))

    def modules_of(self, modality: str) -> ModalityModules:
        """The parts of the model that belong to a modality."""
        modules = self.modality_modules[modality]
        assert isinstance(modules, ModalityModules)
        return modules

    def choose(self, modality: str | None) -> str:
        """The modality meant: the named one, or the only one.

        Raises:
            UsageError: the name is unknown, or several modalities leave the choice open.
        """
        names = list(self.modality_modules)
        if modality is None and len(names) == 1:
            return str(names[0])
        if modality not in names:
            what = "this model has several modalities" if modality is None else f"this model knows no {modality!r}"
            raise UsageError(what, f"choose one of: {', '.join(names)}")
        return str(modality)

    # ------------------------------------------------------------------ the pure parts, used by the training objective

    def tokenize_from(self, modality: str, batch: Any, noise: Tensor, time: Tensor) -> Tensor:
        """Clean latents of a batch: noise (B, L, C) in the registers, time (B,) near 0 -> z0 (B, L, C)."""
        tokens = self.modules_of(modality).tokenizer(batch)
        latents: Tensor = self.encoder(modality, noise, time, batch.registers, tokens=tokens)
        return latents

    def decode_from(self, modality: str, values: Tensor, registers: Registers) -> Any:
        """Decoder output of latents (B, L, C)."""
        return self.modules_of(modality).decoder(values, registers)

    # --------------------------------------------------------------------------------------------------- for users

    @torch.no_grad()
    def tokenize(self, batch: Any, modality: str | None = None, *, seed: int = 0, first: int = 0) -> Latents:
        """Latents of a batch (a plugin's batch object or a list of native samples).

        Args:
            batch: what to tokenize.
            modality: whose input it is; may be left out when the model has one.
            seed: of the register noise; sample `first + k` gets the same noise in any batch.
            first: index of the first sample.

        Raises:
            UsageError: a sample does not fit the model.
        """
        name = self.choose(modality)
        if isinstance(batch, Sequence):
            batch = self.modalities[name].encode_samples(batch, self.statistics[name])
        batch = batch.to(self.device)
        count, length = batch.registers.mask.shape
        generators = [seeded_generator(seed, first + index, 1) for index in range(count)]
        noise = self._noise(name, generators, length)
        time = torch.stack([torch.rand((), generator=g) for g in generators]) * self.config.latent.tokenize_time_max
        values = self.tokenize_from(name, batch, noise, time.to(self.device))
        return Latents(values, batch.registers, name)

    @torch.no_grad()
    def decode(self, latents: Latents) -> list[Any]:
        """Native samples of latents."""
        output = self.decode_from(latents.modality, latents.values, latents.registers)
        end = self.modules_of(latents.modality)
        samples = end.samples(output, latents.registers)
        return samples if latents.condition is None else end.conditioned(samples, latents.condition)

    @torch.no_grad()
    def denoise(self, latents: Latents, time: Tensor, condition: Tensor | None = None) -> Latents:
        """Clean latents predicted from noisy ones at timesteps `time` (B,); t = 1 is data."""
        values = self.denoiser(latents.modality, latents.values, time, latents.registers, condition=condition)
        return Latents(values, latents.registers, latents.modality)

    @torch.no_grad()
    def reconstruct(
        self,
        samples: Sequence[Any],
        modality: str | None = None,
        *,
        seed: int = 0,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> list[Any]:
        """Tokenize and decode native samples, in their order.

        Raises:
            UsageError: a sample does not fit the model; the message names it.
        """
        name = self.choose(modality)
        result: list[Any] = []
        with (progress or Silent()).task("Reconstructing", len(samples)) as advance:
            for start in range(0, len(samples), batch_size):
                part = list(samples[start : start + batch_size])
                result += self.decode(self.tokenize(part, name, seed=seed, first=start))
                advance(len(part))
        return result

    @torch.no_grad()
    def generate(
        self,
        n: int,
        *,
        modality: str | None = None,
        seed: int = 0,
        first: int = 0,
        condition: Any = None,
        sampling: SamplingConfig | None = None,
        progress: Progress | None = None,
    ) -> list[Any]:
        """Generate samples first .. first + n - 1 of a seed; sample k is the same for any n and batch size.

        Args:
            n: how many.
            modality: which; may be left out when the model has one.
            seed: of all noise and of the prior.
            first: index of the first sample.
            condition: class or numbers (M,) for all samples, or one for each: (n,) or (n, M); None: what the prior
                draws (or unconditional).
            sampling: solver, steps, guidance, temperature; None: the run's defaults.
            progress: where to show progress.

        Returns:
            n native samples. `last_evaluations` then holds the number of function evaluations.

        Raises:
            UsageError: the condition does not fit the modality.
        """
        name = self.choose(modality)
        settings = sampling or self.config.sampling
        end = self.modules_of(name)
        given = self._conditions(end, condition, n)
        draws = [end.prior(seeded_generator(seed, first + index, 0), own) for index, own in enumerate(given)]
        result: list[Any] = [None] * n
        self.last_evaluations = 0
        with (progress or Silent()).task("Generating", n) as advance:
            alone = settings.solver == "dopri5" and not settings.joint_steps
            batches = list(_alike(draws, 1 if alone else settings.batch_size))

            def one(indices: list[int]) -> tuple[list[Any], int]:
                generators = [seeded_generator(seed, first + index, 1) for index in indices]
                latents, evaluations = self._flow(name, [draws[index] for index in indices], generators, settings)
                return self.decode(latents), evaluations

            for indices, (samples, evaluations) in side_by_side(one, batches, self.device):
                self.last_evaluations = max(self.last_evaluations, evaluations)
                for index, sample in zip(indices, samples, strict=True):
                    result[index] = sample
                advance(len(indices))
        return result

    def _flow(
        self,
        name: str,
        draws: list[PriorSample],
        generators: list[torch.Generator],
        settings: SamplingConfig,
    ) -> tuple[Latents, int]:
        """Integrate one batch from noise to latents; with the number of function evaluations."""
        masks = torch.stack([draw.mask for draw in draws])
        used = masks[:, : int(masks.any(0).nonzero().max()) + 1]
        registers = Registers(used, padded=not bool(used.all())).to(self.device)
        condition = _stacked(draws)
        condition = None if condition is None else condition.to(self.device)

        normalise = settings.latent_norm != ("unguided" if settings.guidance > 1 else "guided")

        def predict(state: Tensor, time: float, conditional: bool) -> Tensor:
            times = torch.full((len(state),), time, device=state.device)
            given = condition if conditional else None
            with torch.autocast(state.device.type, torch.bfloat16, enabled=settings.precision == "bf16-mixed"):
                values: Tensor = self.denoiser(name, state, times, registers, condition=given, normalise=normalise)
            return values.float()

        def fresh_noise() -> Tensor:
            return self._noise(name, generators, used.shape[1]) * registers.mask[:, :, None]

        solution = integrate(predict, fresh_noise() * settings.temperature, settings, fresh_noise)
        return Latents(solution.state * registers.mask[:, :, None], registers, name, condition), solution.evaluations

    def _noise(self, name: str, generators: list[torch.Generator], length: int) -> Tensor:
        """(B, L, C) standard normal; each sample draws all K registers so that padding changes nothing."""
        layout = self.modules_of(name).layout
        drawn = [torch.randn(layout.registers, layout.channels, generator=g)[:length] for g in generators]
        return torch.stack(drawn).to(self.device)

    @staticmethod
    def _conditions(end: ModalityModules, condition: Any, n: int) -> list[Tensor | None]:
        """The caller's condition for each of n samples, as tensors that fit the modality."""
        if condition is None:
            return [None] * n
        spec = end.condition
        if spec.kind == "none":
            raise UsageError("this modality takes no condition", "leave it out")
        value = torch.as_tensor(condition)
        own = () if spec.kind == "classes" else (spec.size,)
        if value.shape not in (own, (n, *own)):
            what = "use an integer" if spec.kind == "classes" else f"give {spec.size} numbers {spec.names}"
            raise UsageError(f"condition {condition!r} does not fit", f"{what}, or {n} of them")
        if spec.kind == "numbers":
            return list(value.float().expand(n, *own))
        if value.is_floating_point() or not bool(((value >= 0) & (value < spec.size)).all()):
            raise UsageError(f"condition {condition!r} is no class", f"use an integer from 0 to {spec.size - 1}")
        return list(value.long().expand(n))


def _alike(draws: list[PriorSample], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of one register count each, which need no mask; small leftovers are joined and padded."""
    counts = [int(draw.mask.sum()) for draw in draws]
    leftover: list[int] = []
    for count in sorted(set(counts)):
        group = [index for index, own in enumerate(counts) if own == count]
        for start in range(0, len(group), batch_size):
            part = group[start : start + batch_size]
            if len(part) >= batch_size // 8:
                yield part
            else:
                leftover += part
    for start in range(0, len(leftover), batch_size):
        yield leftover[start : start + batch_size]


def _stacked(draws: list[PriorSample]) -> Tensor | None:
    conditions = [draw.condition for draw in draws if draw.condition is not None]
    return torch.stack(conditions) if len(conditions) == len(draws) else None
