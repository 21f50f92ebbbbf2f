"""A modality the core has never heard of: sets of one to three 2-D points, one register per point."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unite_mm.contract import (
    ConditionSpec,
    DataRequest,
    Fragment,
    Held,
    LatentLayout,
    LossTerm,
    Modality,
    ModalityData,
    ModalityModules,
    PriorSample,
    Reference,
    Registers,
    SampleRequest,
    Statistics,
    SweepMetric,
    Targets,
    Teacher,
    Tokens,
)
from unite_mm.errors import UsageError
from unite_mm.kit.intervals import share
from unite_mm.kit.layers import DecoderBlock, HiddenLinear, rotary_table
from unite_mm.progress import Progress
from unite_mm_schemas.card import DataCard
from unite_mm_schemas.metrics import Metric, Score
from unite_mm_toy.config import PointsConfig, PointsSampling

MAX_POINTS = 3


@dataclass(frozen=True)
class PointBatch:
    points: Tensor  # (B, L, 2)
    registers: Registers
    condition: Tensor | None

    def to(self, device: torch.device) -> "PointBatch":
        condition = None if self.condition is None else self.condition.to(device)
        return PointBatch(self.points.to(device), self.registers.to(device), condition)


def draw_ring(count: int, spread: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Points (N, 3, 2), counts (N,), cluster of the first point (N,); later points lie in the following clusters."""
    counts = torch.randint(1, MAX_POINTS + 1, (count,), generator=generator)
    first = torch.randint(0, 4, (count,), generator=generator)
    cluster = (first[:, None] + torch.arange(MAX_POINTS)) % 4
    angle = cluster * (torch.pi / 2)
    points = torch.stack((angle.cos(), angle.sin()), -1)
    points = points + spread * torch.randn(points.shape, generator=generator)
    return points, counts, first


class RingData(ModalityData):
    def __init__(self, config: PointsConfig, name: str, request: DataRequest) -> None:
        if request.source != "ring":
            raise UsageError(f"{name} knows no data source {request.source!r}", "use ring")
        self.config = config
        sizes = {"train": config.samples, "validation": 200, "test": 200}
        self.parts = {
            split: draw_ring(size, config.spread, torch.Generator().manual_seed(number))
            for number, (split, size) in enumerate(sizes.items())
        }
        digest = hashlib.sha256(b"".join(part[0].numpy().tobytes() for part in self.parts.values())).hexdigest()
        total = sum(sizes.values())
        self.card = DataCard(
            modality=name,
            name="ring",
            description="points on a ring",
            read=total,
            kept=total,
            splits=sizes,
            split_hash=digest,
        )

    def size(self, split: str) -> int:
        return len(self.parts[split][1])

    def lengths(self, split: str) -> Tensor:
        return self.parts[split][1]

    def batch(self, split: str, indices: Tensor, generator: torch.Generator | None = None) -> PointBatch:
        points, counts, first = (part[indices] for part in self.parts[split])
        registers = Registers.from_counts(counts)
        points = points[:, : registers.mask.shape[1]] * registers.mask[:, :, None]
        if generator is not None:
            points = points + 0.01 * torch.randn(points.shape, generator=generator)
        if self.config.nan_after is not None and bool((indices >= self.config.nan_after).any()):
            points = points * float("nan")
        if self.config.heights:
            heights = points[:, :, 1].sum(1) / counts
            heights = heights.masked_fill(indices % 10 == 0, float("nan"))
            return PointBatch(points, registers, torch.stack((first.float(), heights), 1))
        return PointBatch(points, registers, first if self.config.classes else None)

    def samples(self, split: str, indices: Tensor) -> list[Tensor]:
        points, counts, _ = self.parts[split]
        return [points[i, : counts[i]] for i in indices.tolist()]

    def targets(self, split: str) -> Targets:
        return Targets("classes", self.parts[split][2], ("right", "top", "left", "bottom"))


class PointTokenizer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(2, width)

    def forward(self, batch: PointBatch) -> Tokens:
        mask = batch.registers.mask if batch.registers.padded else None
        positions = torch.arange(batch.points.shape[1], device=batch.points.device)
        return Tokens(self.embed(batch.points), positions, mask)


class PointDecoder(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = HiddenLinear(channels, 32)
        self.block = DecoderBlock(32, 2)
        self.out = nn.Linear(32, 2)

    def forward(self, latents: Tensor, registers: Registers) -> Tensor:
        positions = torch.arange(latents.shape[1], device=latents.device)
        mask = registers.mask if registers.padded else None
        points: Tensor = self.out(self.block(self.up(latents), rotary_table(positions, 16, 100.0), mask)).float()
        return points


class PointModules(ModalityModules):
    def __init__(self, config: PointsConfig, statistics: Statistics, width: int) -> None:
        super().__init__()
        self.layout = LatentLayout(MAX_POINTS, config.channels, torch.arange(MAX_POINTS))
        self.condition = ConditionSpec("classes", 4) if config.classes else ConditionSpec()
        if config.heights:
            self.condition = ConditionSpec(
                "mixed", 1, ("height",), (0.0,), (0.7,), ("right", "top", "left", "bottom"), left_open="dropped"
            )
        self.sizes = (1, self.layout.registers)
        self.shares = torch.tensor(statistics["counts"], dtype=torch.float64)
        self.tokenizer = PointTokenizer(width)
        self.decoder = PointDecoder(config.channels)

    def losses(self, output: Tensor, batch: PointBatch) -> dict[str, LossTerm]:
        error = (output - batch.points).square().sum(-1) * batch.registers.mask
        return {"distance": LossTerm(error.sum(1) / batch.registers.mask.sum(1), 4.0)}

    def as_batch(self, output: Tensor, batch: PointBatch) -> PointBatch:
        return PointBatch(output * batch.registers.mask[:, :, None], batch.registers, batch.condition)

    def prior(self, generator: torch.Generator, condition: Tensor | None = None) -> PriorSample:
        count = int(torch.multinomial(self.shares, 1, generator=generator)) + 1
        first = torch.randint(0, 4, (), generator=generator)
        if condition is None and self.condition.kind == "classes":
            condition = first
        return PriorSample(torch.arange(MAX_POINTS) < count, condition)

    def prior_for(self, generator: torch.Generator, request: SampleRequest) -> PriorSample:
        drawn = self.prior(generator, request.condition)
        fewest = 0 if request.options is None else request.options.fewest
        if request.fragment is not None:
            fewest = max(fewest, request.fragment.registers + 1)
        if request.size is None and int(drawn.mask.sum()) >= fewest:
            return drawn
        return PriorSample(torch.arange(MAX_POINTS) < (request.size or fewest), drawn.condition)

    def samples_for(self, output: Tensor, registers: Registers, options: PointsSampling) -> list[Tensor]:
        return [options.scale * points for points in self.samples(output, registers)]

    def samples(self, output: Tensor, registers: Registers) -> list[Tensor]:
        return [points[mask].cpu() for points, mask in zip(output, registers.mask, strict=True)]


class PointTeacher(Teacher):
    name = "products of coordinates"
    width = 6

    def __call__(self, batch: PointBatch) -> Tensor:
        x, y = batch.points.unbind(-1)
        return torch.stack((x, y, x * x, y * y, x * y, torch.ones_like(x)), -1)


class Points(Modality):
    def teacher(self, statistics: Statistics) -> PointTeacher:
        return PointTeacher()

    def open_data(self, request: DataRequest) -> RingData:
        return RingData(self.config, self.name, request)

    def statistics(self, data: ModalityData) -> Statistics:
        lengths = data.lengths("train")
        assert lengths is not None
        return {"counts": torch.bincount(lengths, minlength=MAX_POINTS + 1)[1:].tolist()}

    def build_modules(self, statistics: Statistics, width: int) -> PointModules:
        return PointModules(self.config, statistics, width)

    def write(self, samples: Sequence[Tensor], path: Path) -> None:
        if path.suffix != ".csv":
            raise UsageError(f"{self.name} cannot write {path.suffix!r}", "use .csv")
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows(sample.flatten().tolist() for sample in samples)

    def read(self, path: Path) -> list[Tensor]:
        if not path.is_file():
            raise UsageError(f"{path} does not exist", "give a .csv file")
        with path.open(newline="") as stream:
            return [torch.tensor([float(x) for x in row]).view(-1, 2) for row in csv.reader(stream)]

    def encode_samples(self, samples: Sequence[Tensor], statistics: Statistics) -> PointBatch:
        counts = torch.tensor([len(sample) for sample in samples])
        if int(counts.max()) > MAX_POINTS:
            raise UsageError(f"a sample has {int(counts.max())} points", f"at most {MAX_POINTS} fit")
        registers = Registers.from_counts(counts)
        points = torch.zeros(len(samples), registers.mask.shape[1], 2)
        for row, sample in zip(points, samples, strict=True):
            row[: len(sample)] = sample
        return PointBatch(points, registers, None)

    def fragment(self, given: Tensor | str, statistics: Statistics) -> Fragment:
        points = self.read(Path(given))[0] if isinstance(given, str) else given
        if len(points) >= MAX_POINTS:
            raise UsageError(f"a fragment of {len(points)} points", f"at most {MAX_POINTS - 1} leave room")
        return Fragment(points, len(points))

    def hold(
        self,
        fragment: Fragment,
        priors: Sequence[PriorSample],
        generators: Sequence[torch.Generator],
        statistics: Statistics,
    ) -> Held:
        batch = self.encode_samples([fragment.native] * len(priors), statistics)
        return Held(batch, batch.registers.mask)

    def score_fragment(self, samples: Sequence[Tensor], fragment: Fragment, progress: Progress) -> Score:
        near = [bool((one[: fragment.registers] - fragment.native).norm(dim=1).max() < 0.2) for one in samples]
        return Score(kind="fragment", metrics=(share("kept", "kept", sum(near), len(near), "points within 0.2"),))

    def save_picture(self, samples: Sequence[Tensor], path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.add_subplot()
        for sample in samples:
            axes.plot(sample[:, 0], sample[:, 1], "o-")
        figure.savefig(path)

    def save_pairs_picture(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], path: Path) -> None:
        self.save_picture([*inputs, *outputs], path)

    def score_reconstruction(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], progress: Progress, workers: int = 0
    ) -> Score:
        errors = torch.stack([(a - b).norm(dim=-1).mean() for a, b in zip(inputs, outputs, strict=True)])
        definition = "mean distance of reconstructed points"
        metric = Metric(
            name="error", title="error", value=float(errors.mean()), total=len(errors), definition=definition
        )
        return Score(kind="reconstruction", metrics=(metric,))

    def sweep_metric(self) -> SweepMetric:
        return SweepMetric("on_ring", "on the ring", lower_is_better=False)

    def score_generation(
        self, samples: Sequence[Tensor], reference: Reference | None, progress: Progress, workers: int = 0
    ) -> Score:
        radius = torch.cat([sample.norm(dim=-1) for sample in samples])
        near = int(((radius - 1).abs() < 0.25).sum())
        metric = Metric(
            name="on_ring",
            title="on the ring",
            value=near / len(radius),
            count=near,
            total=len(radius),
            definition="points with radius within 0.25 of 1 / all points",
        )
        return Score(kind="generation", metrics=(metric,))
