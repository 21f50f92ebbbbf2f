"""The `image` modality: ties data, parts of the model, files, pictures and metrics of images to the core's contract."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL.Image import Image

from unite_mm.contract import (
    DataRequest,
    Modality,
    ModalityData,
    Reference,
    ReportViews,
    Statistics,
    SweepMetric,
    Teacher,
)
from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch
from unite_mm_schemas.metrics import Score

if TYPE_CHECKING:
    from unite_mm_image.data.dataset import ImageData
    from unite_mm_image.metrics.references import ImageReference
    from unite_mm_image.metrics.scoring import Scorer
    from unite_mm_image.model.modules import ImageModules


class Images(Modality):
    """Square images, grey or RGB, with or without classes; a sample is a PIL image.

    The class of an image, where it is known, stands in `image.info["label"]`.
    """

    config: ImageConfig

    def check_training(self) -> None:
        """Find, or download, the weights of LPIPS and of SqueezeNet where these are among the losses."""
        if self.config.lpips_weight:
            from unite_mm.kit.weights import find_weights
            from unite_mm_image.model.perceptual import VGG16

            find_weights(VGG16, self.config.lpips_vgg)
        if self.config.squeezenet_weight:
            from unite_mm_image.model.squeezenet import load_squeezenet

            load_squeezenet(self.config.squeezenet)

    def open_data(self, request: DataRequest) -> "ImageData":
        from unite_mm_image.data.dataset import open_data

        return open_data(request, self.config)

    def write_shards(self, request: DataRequest, folder: Path, most: int) -> str:
        """Tar files as WebDataset lays them out, of the image files as they are, and a manifest with their hashes."""
        from unite_mm_image.data.shard_writer import write_shards

        manifest = write_shards(request, self.config, folder, most)
        lost = "".join(f"; {count:,} left out: {reason}" for reason, count in manifest.left_out.items())
        return f"{sum(shard.samples for shard in manifest.shards):,} images in {len(manifest.shards):,} shards{lost}"

    def statistics(self, data: ModalityData) -> Statistics:
        """Names of the classes and how many training images each has; both empty without classes."""
        from unite_mm_image.data.dataset import ImageData

        assert isinstance(data, ImageData)
        return data.statistics

    def build_modules(self, statistics: Statistics, width: int) -> "ImageModules":
        from unite_mm_image.model.modules import ImageModules

        return ImageModules(self.config, statistics, width)

    def teacher(self, statistics: Statistics) -> Teacher:
        """EfficientNet-Lite0, or the network of a file."""
        from unite_mm_image.model.teacher import make_teacher

        return make_teacher(self.config)

    def encode_samples(self, samples: Sequence[Image], statistics: Statistics) -> ImageBatch:
        """A batch of images, scaled and cut to the model's size; classes where every image has one.

        Raises:
            UsageError: a class is outside the range of the model's.
        """
        from unite_mm_image.data.native import label_of, to_pixels

        pixels = to_pixels(samples, self.config)
        labels = [label_of(sample) for sample in samples]
        classes = len(statistics["classes"]) if self.config.condition == "class" else 0
        if not classes or None in labels:
            return ImageBatch.of(pixels, self.config.registers)
        wrong = [(index, label) for index, label in enumerate(labels) if not 0 <= (label or 0) < classes]
        if wrong:
            raise UsageError(
                f"image {wrong[0][0]} has the class {wrong[0][1]}, but the model knows 0 to {classes - 1}",
                'leave `info["label"]` out, or give a class of the model',
            )
        return ImageBatch.of(pixels, self.config.registers, torch.tensor(labels))

    def write(self, samples: Sequence[Image], path: Path) -> None:
        from unite_mm_image.files.formats import write

        write(samples, path)

    def read(self, path: Path) -> list[Image]:
        from unite_mm_image.files.formats import read

        return read(path)

    def read_inputs(self, path: Path, progress: Progress) -> list[Image]:
        """Images as the model sees them: of photographs the squares alone are kept."""
        from unite_mm_image.files.formats import read_squares
        from unite_mm_image.metrics.image_sets import PictureSet

        images = read_squares(path, self.config.size, self.config.colours)
        for note in PictureSet(images).check():
            progress.say(f"{path}: {note}")
        return images

    def save_picture(self, samples: Sequence[Image], path: Path) -> None:
        from unite_mm_image.files.pictures import save_picture

        save_picture(samples, path)

    def save_pairs_picture(self, inputs: Sequence[Image], outputs: Sequence[Image], path: Path) -> None:
        from unite_mm_image.files.pictures import save_pairs_picture

        save_pairs_picture(inputs, outputs, path)

    def report_views(self) -> ReportViews:
        from unite_mm_image.report.views import ImageViews

        return ImageViews()

    @cached_property
    def scorer(self) -> "Scorer":
        """Networks and references of the metrics."""
        from unite_mm_image.metrics.scoring import Scorer

        return Scorer(self.config)

    def read_pairs(self, inputs: Path, outputs: Path) -> tuple[list[Image], list[Image]]:
        """Images of two folders by equal names (without suffix); of other files by their order."""
        from unite_mm_image.files.pairs import read_pairs

        return (
            read_pairs(inputs, outputs) if inputs.is_dir() and outputs.is_dir() else super().read_pairs(inputs, outputs)
        )

    def open_reference(self, request: DataRequest, samples: Sequence[Image] = ()) -> "ImageReference":
        """An .npz file of statistics or images, a folder of images, or prepared data at the extent of the samples."""
        from unite_mm_image.metrics.references import open_reference

        return open_reference(request, self.config, samples)

    def sweep_metric(self) -> SweepMetric:
        """FID, or the Frechet distance by another network."""
        name, title = self.scorer.extractor.frechet
        return SweepMetric(name, title)

    def score_reconstruction(
        self, inputs: Sequence[Image], outputs: Sequence[Image], progress: Progress, workers: int = 0
    ) -> Score:
        from unite_mm_image.metrics.reconstruction import score_reconstruction

        return score_reconstruction(inputs, outputs, self.scorer, progress)

    def score_generation(
        self, samples: Sequence[Image], reference: Reference | None, progress: Progress, workers: int = 0
    ) -> Score:
        from unite_mm_image.metrics.generation import score_generation

        return score_generation(samples, reference, self.scorer, progress)
