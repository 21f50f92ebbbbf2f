"""Do samples of the drawn shapes show the class they were asked for? A small classifier, trained here, judges.

    python benchmarks/shape_classes.py RUN [--samples 500] [--guidance W] [--sampling-of RUN] [--steps 1500] [--seed 0]

RUN is a run on the image plugin's drawn shapes, alone or beside other modalities. The classifier, a convolutional
network of some 100,000 weights, is trained on the drawn training images alone and scored on the drawn test images, so
that its own mistakes are known.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unite_mm import UNITE
from unite_mm.contract import DataRequest, ModalityData
from unite_mm.kit.intervals import wilson
from unite_mm.sampling.labels import spread_labels


def classifier(colours: int, classes: int) -> nn.Sequential:
    """Pixels (B, colours, S, S) -> logits (B, classes)."""
    layers: list[nn.Module] = []
    widths = (colours, 32, 64, 96)
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96 * 16, classes))


def trained(data: ModalityData, colours: int, classes: int, steps: int, seed: int) -> nn.Sequential:
    """A classifier of the drawn training images."""
    torch.manual_seed(seed)
    network = classifier(colours, classes)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        batch = data.batch("train", torch.randint(data.size("train"), (128,)))
        loss = F.cross_entropy(network(batch.pixels), batch.condition)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def right(network: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    """(B,) bool: whether the classifier names the label."""
    return torch.cat([network(part).argmax(1) for part in pixels.split(500)]) == labels


def main() -> None:
    """Train the classifier, generate, and print both rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--guidance", type=float, help="other than the run's own")
    parser.add_argument("--sampling-of", type=Path, help="sample as this run does")
    parser.add_argument("--steps", type=int, default=1500, help="of the classifier's training")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = UNITE.from_pretrained(args.run)
    modality, end = model.modalities["image"], model.modules_of("image")
    data = modality.open_data(DataRequest("shapes", Path("unused")))
    names = end.condition.names
    if model.statistics["image"] != modality.statistics(data):
        parser.error(f"{args.run} was not trained on the drawn shapes")
    network = trained(data, modality.config.colour_channels, len(names), args.steps, args.seed)
    test = data.batch("test", torch.arange(data.size("test")))
    known = right(network, test.pixels, test.condition)
    print(f"drawn test images: {known.float().mean():.2%} of {len(known):,} named right")
    settings = UNITE.from_pretrained(args.sampling_of or args.run).config.sampling
    if args.guidance is not None:
        settings = settings.model_copy(update={"guidance": args.guidance})
    labels = spread_labels("balanced", args.samples, end.condition)
    samples = model.generate(args.samples, modality="image", seed=args.seed, condition=labels, sampling=settings)
    batch = modality.encode_samples(samples, model.statistics["image"])
    named = right(network, batch.pixels, labels)
    low, high = wilson(int(named.sum()), len(named))
    print(
        f"samples, guidance {settings.guidance:g}: {named.float().mean():.2%} of {len(named):,} named right "
        f"(95 % interval {low:.2%} to {high:.2%})"
    )
    each = [f"{name} {named[labels == number].float().mean():.0%}" for number, name in enumerate(names)]
    print(", ".join(each))


if __name__ == "__main__":
    main()
