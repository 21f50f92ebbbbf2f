"""The modality `signals`: ties data, model, files, pictures and metrics to the contract."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from unite_mm.contract import DataRequest, Modality, Statistics, SweepMetric
from unite_mm.kit.intervals import mean, share
from unite_mm_schemas.metrics import Metric, Score
from unite_mm_signals.data import Signal, SignalBatch, SignalData, pack, read, stack, write
from unite_mm_signals.modules import SignalModules
from unite_mm_signals.waves import CLASSES, log_spectrum, read_beats


def mean_spectrum(samples: torch.Tensor, reference: torch.Tensor) -> Metric:
    """The distance of mean spectra, with the middle 95 % of 200 draws of the samples with replacement."""
    power, wanted = log_spectrum(samples), log_spectrum(reference).mean(0)
    picks = torch.randint(len(power), (200, len(power)), generator=torch.Generator().manual_seed(0))
    drawn = [float((power[pick].mean(0) - wanted).square().mean().sqrt()) for pick in picks]
    low, high = np.quantile(drawn, (0.025, 0.975))
    value = float((power.mean(0) - wanted).square().mean().sqrt())
    about = "RMS difference of the mean power spectra of samples and held-out data; bootstrap interval"
    found = {"value": value, "interval": (float(low), float(high)), "total": len(power)}
    return Metric(name="mean_spectrum", title="mean spectrum", unit="dB", definition=about, **found)


def draw_lines(path: Path, **lists: Sequence[Signal]) -> None:
    """A PNG of four signals in a row, -0.6 to 1.4 mV, with their class; each list in the colour that names it."""
    canvas = Image.new("RGB", (1200, 100 * -(-max(map(len, lists.values())) // 4)), "white")
    pen = ImageDraw.Draw(canvas)
    for colour, signals in lists.items():
        for index, signal in enumerate(signals):
            left, top = 300 * (index % 4), 100 * (index // 4)
            places = np.linspace(left + 5, left + 295, len(signal.values))
            heights = top + 70 - 50 * signal.values.clamp(-0.6, 1.4).numpy()
            pen.line(list(zip(places.tolist(), heights.tolist(), strict=True)), fill=colour)
            pen.text((left + 8, top), "" if signal.label is None else CLASSES[signal.label], fill="grey")
    canvas.save(path, "PNG")


class Signals(Modality):
    def open_data(self, request: DataRequest) -> SignalData:
        return SignalData(self.config, request, self.name)

    def statistics(self, data: SignalData) -> Statistics:
        values, labels = data.parts["train"]
        counts = torch.bincount(labels, minlength=len(CLASSES)).tolist()
        return {"mean": float(values.mean()), "std": float(values.std()), "classes": counts}

    def build_modules(self, statistics: Statistics, width: int) -> SignalModules:
        return SignalModules(self.config, statistics, width)

    def encode_samples(self, samples: Sequence[Signal], statistics: Statistics) -> SignalBatch:
        return pack(stack(samples, self.config.length), None, self.config)

    def write(self, samples: Sequence[Signal], path: Path) -> None:
        write(samples, path)

    def read(self, path: Path) -> list[Signal]:
        return read(path)

    def save_picture(self, samples: Sequence[Signal], path: Path) -> None:
        draw_lines(path, black=samples)

    def save_pairs_picture(self, inputs: Sequence[Signal], outputs: Sequence[Signal], path: Path) -> None:
        draw_lines(path, black=inputs, red=outputs)

    def score_reconstruction(self, inputs, outputs, progress, workers: int = 0) -> Score:
        wanted, found = (stack(signals, len(inputs[0].values)) for signals in (inputs, outputs))
        noise = (wanted - found).square().sum(1).clamp_min(1e-12)
        ratios = (10 * torch.log10(wanted.square().sum(1) / noise)).tolist()
        gaps = (log_spectrum(wanted) - log_spectrum(found)).square().mean(1).sqrt().tolist()
        snr = "10 log10 of the signal's power over the power of the difference, mean over signals"
        gap = "RMS difference of the log power spectra of a signal and its reconstruction, mean over signals"
        metrics = (mean("snr", "SNR", ratios, snr, "dB"), mean("spectrum", "spectrum", gaps, gap, "dB"))
        return Score(kind="reconstruction", metrics=metrics)

    def score_generation(self, samples, reference, progress, workers: int = 0) -> Score:
        beats = [read_beats(signal.values.numpy()) for signal in samples]
        asked = [(CLASSES[s.label], found) for s, (_, found) in zip(samples, beats, strict=True) if s.label is not None]
        obeyed = "signals in which rules on rate, R width and T wave find the class asked for / signals with a class"
        beating = "signals with two R peaks or more / all"
        metrics = [share("obeyed", "class obeyed", sum(a == b for a, b in asked), len(asked), obeyed)]
        metrics += [share("beating", "beating", sum(rate > 0 for rate, _ in beats), len(beats), beating)]
        if isinstance(reference, SignalData):
            own = stack(samples, reference.config.length)
            metrics += [mean_spectrum(own, reference.parts["test"][0])]
        return Score(kind="generation", metrics=tuple(metrics))

    def sweep_metric(self) -> SweepMetric:
        return SweepMetric("obeyed", "class obeyed", lower_is_better=False)
