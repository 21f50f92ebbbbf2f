"""The model's parts. B batch, S samples of a signal, L registers, one for every patch, C latent channels, W width."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unite_mm import contract
from unite_mm.kit.defaults import RegisterDecoder
from unite_mm_signals.config import SignalsConfig
from unite_mm_signals.data import Signal, SignalBatch
from unite_mm_signals.waves import CLASSES

WINDOWS = (16, 64)


class SignalTokenizer(nn.Module):
    """Patches that overlap by half, each a token at the place of its register."""

    def __init__(self, config: SignalsConfig, width: int, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.patches = nn.Conv1d(1, width, 2 * config.patch, stride=config.patch, padding=config.patch // 2)

    def forward(self, batch: SignalBatch) -> contract.Tokens:
        tokens = self.patches((batch.values[:, None] - self.mean) / self.std).transpose(1, 2)  # (B, L, W)
        return contract.Tokens(tokens, torch.arange(tokens.shape[1], device=tokens.device))


class SignalDecoder(nn.Module):
    """Latents (B, L, C) -> signals (B, S): a transformer, then patches that overlap by half and are added up."""

    def __init__(self, config: SignalsConfig, width: int, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.body = RegisterDecoder(config.channels, width, outputs=width)
        self.patches = nn.ConvTranspose1d(width, 1, 2 * config.patch, stride=config.patch, padding=config.patch // 2)

    def forward(self, latents: Tensor, registers: contract.Registers) -> Tensor:
        x = self.body(latents, registers)
        return self.patches(x.transpose(1, 2))[:, 0].float() * self.std + self.mean


class SignalModules(contract.ModalityModules):
    def __init__(self, config: SignalsConfig, statistics: contract.Statistics, width: int) -> None:
        super().__init__()
        self.config, self.std = config, statistics["std"]
        count = config.length // config.patch
        self.layout = contract.LatentLayout(count, config.channels, torch.arange(count))
        self.condition = contract.ConditionSpec("classes", len(CLASSES), CLASSES)
        self.shares = torch.tensor(statistics["classes"], dtype=torch.float)
        self.tokenizer = SignalTokenizer(config, width, statistics["mean"], statistics["std"])
        self.decoder = SignalDecoder(config, width, statistics["mean"], statistics["std"])

    def losses(self, output: Tensor, batch: SignalBatch) -> dict[str, contract.LossTerm]:
        """Squared error of the waveform, and absolute error of short-time spectra, both over the data's deviation."""
        waveform = ((output - batch.values) / self.std).square().mean(1)
        spectral = torch.stack([self._spectral(output, batch.values, size) for size in WINDOWS]).mean(0)
        return {
            "waveform": contract.LossTerm(waveform),
            "spectrum": contract.LossTerm(spectral, self.config.spectral_weight),
        }

    def _spectral(self, output: Tensor, target: Tensor, size: int) -> Tensor:
        window = torch.hann_window(size, device=output.device)
        found, wanted = (
            torch.stft(values, size, size // 4, window=window, normalized=True, return_complex=True).abs()
            for values in (output, target)
        )
        return F.l1_loss(found, wanted, reduction="none").mean((1, 2)) / self.std

    def prior(self, generator: torch.Generator, condition: Tensor | None = None) -> contract.PriorSample:
        drawn = torch.multinomial(self.shares, 1, generator=generator)[0]
        mask = torch.ones(self.layout.registers, dtype=torch.bool)
        return contract.PriorSample(mask, drawn if condition is None else condition)

    def samples(self, output: Tensor, registers: contract.Registers) -> list[Signal]:
        return [Signal(values) for values in output.detach().cpu()]

    def conditioned(self, samples: list[Signal], condition: Tensor) -> list[Signal]:
        return [Signal(signal.values, label) for signal, label in zip(samples, condition.tolist(), strict=True)]
