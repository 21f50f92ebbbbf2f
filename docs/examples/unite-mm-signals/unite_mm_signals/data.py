"""Signals as native objects, in WAV files, and as a data set in three splits."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.io import wavfile
from torch import Tensor

from unite_mm.contract import DataRequest, ModalityData, Registers
from unite_mm.errors import UsageError
from unite_mm.kit.defaults import TensorBatch
from unite_mm_schemas.card import DataCard
from unite_mm_signals.config import SignalsConfig
from unite_mm_signals.waves import CLASSES, RATE, make_signals


@dataclass(frozen=True, eq=False)
class Signal:
    values: Tensor  # (S,) millivolts
    label: int | None = None


def write(signals: Sequence[Signal], folder: Path) -> None:
    if folder.suffix:
        raise UsageError(f"signals cannot write {folder.name}", "name a folder, without a suffix")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", "name a new folder")
    for index, signal in enumerate(signals):
        name = f"{index:05d}" if signal.label is None else f"{index:05d}-{CLASSES[signal.label]}"
        wavfile.write(folder / f"{name}.wav", RATE, signal.values.numpy())


def read(path: Path) -> list[Signal]:
    """The WAV file, or those of a folder in the order of their names; whole numbers are scaled to [-1, 1]."""
    signals = []
    for file in sorted(path.glob("*.wav")) if path.is_dir() else [path]:
        try:
            rate, values = wavfile.read(file)
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read: {error}", "give a WAV file, or a folder of them") from error
        if rate != RATE or values.ndim != 1 or values.dtype.kind not in "if":
            raise UsageError(f"{file} is not one channel at {RATE} samples a second", "resample it first")
        full = 1 if values.dtype.kind == "f" else 2 ** (8 * values.itemsize - 1)
        label = file.stem.rpartition("-")[2]
        tensor = torch.tensor(values / full, dtype=torch.float32)
        signals.append(Signal(tensor, CLASSES.index(label) if label in CLASSES else None))
    return signals


@dataclass(frozen=True)
class SignalBatch(TensorBatch):
    values: Tensor  # (B, S)
    registers: Registers
    condition: Tensor | None  # (B,)


def pack(values: Tensor, labels: Tensor | None, config: SignalsConfig) -> SignalBatch:
    mask = torch.ones(len(values), config.length // config.patch, dtype=torch.bool)
    return SignalBatch(values, Registers(mask, padded=False), labels)


def stack(signals: Sequence[Signal], length: int) -> Tensor:
    """Values (N, S); UsageError where one has another length."""
    for index, signal in enumerate(signals):
        if len(signal.values) != length:
            raise UsageError(f"signal {index} has {len(signal.values)} samples, the model {length}", "cut it to fit")
    return torch.stack([signal.values for signal in signals])


class SignalData(ModalityData):
    def __init__(self, config: SignalsConfig, request: DataRequest, modality: str) -> None:
        self.config, source = config, request.source
        if source == "made":
            sizes = {"train": 6000, "validation": 500, "test": 500}
            self.parts = {split: make_signals(sizes[split], config.length, seed) for seed, split in enumerate(sizes)}
        else:
            self.parts = self._own(Path(source))
        sizes = {split: self.size(split) for split in self.parts}
        digest = hashlib.sha256(b"".join(part[0].numpy().tobytes() for part in self.parts.values()))
        facts = {"read": sum(sizes.values()), "kept": sum(sizes.values()), "split_hash": digest.hexdigest()}
        name, about = Path(source).name, "made-up heartbeats" if source == "made" else f"signals of {source}"
        self.card = DataCard(modality=modality, name=name, description=about, splits=sizes, **facts)

    def _own(self, path: Path) -> dict[str, tuple[Tensor, Tensor]]:
        """Files with a class in their names; a hash of its content decides the split of each: 8, 1, 1 of 10."""
        signals = [signal for signal in read(path) if signal.label is not None]
        if not signals:
            raise UsageError(f"{path} holds no WAV file with a class", f"name files NUMBER-CLASS.wav of {CLASSES}")
        values = stack(signals, self.config.length)
        labels = torch.tensor([signal.label for signal in signals])
        tenths = torch.tensor([hashlib.sha256(row.numpy().tobytes()).digest()[0] % 10 for row in values])
        splits = {"train": tenths > 1, "validation": tenths == 0, "test": tenths == 1}
        return {split: (values[chosen], labels[chosen]) for split, chosen in splits.items()}

    def size(self, split: str) -> int:
        return len(self.parts[split][0])

    def batch(self, split: str, indices: Tensor, generator: torch.Generator | None = None) -> SignalBatch:
        values, labels = self.parts[split]
        return pack(values[indices], labels[indices], self.config)

    def samples(self, split: str, indices: Tensor) -> list[Signal]:
        values, labels = self.parts[split]
        return [Signal(values[index], int(labels[index])) for index in indices.tolist()]
