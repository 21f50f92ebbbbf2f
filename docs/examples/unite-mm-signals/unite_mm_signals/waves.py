"""Heartbeat-like signals: how they are made, and what can be measured on any signal.

Dimensions: N signals, S samples at RATE per second, in millivolts; a heartbeat is a sum of five Gaussian waves.
"""

import numpy as np
import torch
from scipy.signal import find_peaks, peak_widths
from torch import Tensor

RATE = 100
CLASSES = ("normal", "fast", "wide", "inverted")
# P, Q, R, S, T: height in millivolts, seconds after the R peak, standard deviation in seconds.
WAVES = ((0.15, -0.18, 0.025), (-0.12, -0.03, 0.012), (1.0, 0, 0.015), (-0.2, 0.035, 0.015), (0.3, 0.26, 0.045))


def make_signals(count: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Signals (N, S) and their classes (N,): 55 to 90 beats a minute or fast, QRS narrow or wide, T up or inverted."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:  # (N, 1)
        return low + (high - low) * torch.rand(count, 1, generator=random)

    labels = torch.randint(len(CLASSES), (count,), generator=random)
    fast, wide, inverted = (labels[:, None] == number for number in (1, 2, 3))
    period = 60 / torch.where(fast, uniform(110, 150), uniform(55, 90))
    number = torch.arange(int(length / RATE / 0.4) + 3) - 1
    beats = period * (number + uniform(0, 1) + 0.02 * torch.randn(count, len(number), generator=random))
    values = 0.01 * torch.randn(count, length, generator=random)
    for index, (height, place, width) in enumerate(WAVES):
        stretch = torch.where(wide, 2.5, 1.0) if 0 < index < 4 else (period / 0.8).sqrt()
        heights = height * uniform(0.8, 1.2) * (~wide if index == 0 else torch.where(inverted & (index == 4), -1, 1))
        distance = torch.arange(length) / RATE - (beats + place * stretch)[:, :, None]  # (N, beats, S)
        waves = torch.exp(-0.5 * (distance / (width * stretch)[:, :, None]).square())
        values += heights * waves.sum(1)
    return values, labels


def read_beats(values: np.ndarray) -> tuple[float, str]:
    """Beats a minute, and the class by rules; 0 and an empty text where there are fewer than two R peaks."""
    peaks, _ = find_peaks(values, height=max(0.3, 0.5 * values.max()), distance=RATE // 4)
    if len(peaks) < 2:
        return 0.0, ""
    period = np.diff(peaks).mean() / RATE
    places = peaks + round(RATE * WAVES[4][1] * (period / 0.8) ** 0.5)
    wave_t = values[places[places < len(values)]].mean() if (places < len(values)).any() else 0.0
    is_wide = np.median(peak_widths(values, peaks)[0]) / RATE > 0.06
    return 60 / period, "fast" if period < 0.6 else "wide" if is_wide else "inverted" if wave_t < 0 else "normal"


def log_spectrum(values: Tensor) -> Tensor:
    """Power spectra (N, S / 2 + 1) of signals (N, S), in dB above a floor of -60 dB."""
    window = torch.hann_window(values.shape[-1])
    return 10 * torch.log10(torch.fft.rfft(values * window).abs().square() / window.square().sum() + 1e-6)
