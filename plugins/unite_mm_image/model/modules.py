"""The image's parts of the model: layout, tokenizer, decoder, losses, prior, native samples."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unite_mm.contract import ConditionSpec, LatentLayout, LossTerm, ModalityModules, PriorSample, Registers, Statistics
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.model.decoder import ImageDecoder
from unite_mm_image.model.losses import reconstruction_terms
from unite_mm_image.model.perceptual import PerceptualLoss
from unite_mm_image.model.squeezenet import SqueezeNetDistance
from unite_mm_image.model.tokenizer import PatchTokenizer


class ImageModules(ModalityModules):
    """One register per patch, all of them used by every image.

    Args:
        config: the plugin's configuration.
        statistics: names of the classes and the number of training images of each.
        width: width of the trunk.
    """

    def __init__(self, config: ImageConfig, statistics: Statistics, width: int) -> None:
        super().__init__()
        self.config = config
        self.layout = LatentLayout(config.registers, config.channels, torch.arange(config.registers))
        self.sizes = (config.registers, config.registers)
        names = tuple(str(name) for name in statistics["classes"])
        conditioned = config.condition == "class" and len(names) > 0
        self.condition = ConditionSpec("classes", len(names), names) if conditioned else ConditionSpec()
        self.class_counts = [float(count) for count in statistics["class_counts"]]
        self.tokenizer = PatchTokenizer(config, width)
        self.decoder = ImageDecoder(config)
        self.perceptual = PerceptualLoss(config.lpips_vgg, config.lpips_range)
        self.squeezenet = SqueezeNetDistance(config.squeezenet, config.squeezenet_input)

    def losses(self, output: Tensor, batch: ImageBatch) -> dict[str, LossTerm]:
        return reconstruction_terms(output, batch, self.config, self.perceptual, self.squeezenet)

    def nats(self, terms: Mapping[str, LossTerm], batch: ImageBatch) -> Tensor:
        """Every pixel of every colour costs the weighted terms over the scale of a Laplace distribution."""
        weighted = torch.stack([term.weight * term.values.float() for term in terms.values()]).sum(0)
        return weighted * (batch.pixels[0].numel() / self.config.laplace_scale)

    def as_batch(self, output: Tensor, batch: ImageBatch) -> ImageBatch:
        return replace(batch, pixels=output)

    def compile_losses(self) -> None:
        self.perceptual.compile()

    def outline_losses(self) -> None:
        self.perceptual.outline()
        self.squeezenet.outline()

    def prior(self, generator: torch.Generator, condition: Tensor | None = None) -> PriorSample:
        """All registers; where no class is given, one drawn as often as the training images have it."""
        if condition is None and self.condition.kind == "classes":
            weights = torch.tensor(self.class_counts, dtype=torch.float64, device="cpu")
            condition = torch.multinomial(weights, 1, generator=generator)[0]
        return PriorSample(torch.ones(self.layout.registers, dtype=torch.bool), condition)

    def samples(self, output: Tensor, registers: Registers) -> list[Any]:
        """PIL images; pixels are clamped to [0, 1] and rounded to 8 bits."""
        from unite_mm_image.data.native import to_pictures

        del registers
        return to_pictures(output, None)

    def conditioned(self, samples: list[Any], condition: Tensor) -> list[Any]:
        """The same images with their class in `info["label"]`."""
        for sample, label in zip(samples, condition.tolist(), strict=True):
            sample.info["label"] = label
        return samples
