"""What the metrics of one evaluation share: the network of features, opened once, and references by their data."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from weakref import WeakKeyDictionary

from unite_mm.contract import Reference
from unite_mm.errors import UniteError
from unite_mm.kit.weights import find_weights
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.dataset import ImageData
from unite_mm_image.metrics.distances import Moments, frechet_distance
from unite_mm_image.metrics.features import Extractor, metric_device, open_extractor
from unite_mm_image.metrics.references import ImageReference, of_data
from unite_mm_image.model.perceptual import VGG16, PerceptualLoss
from unite_mm_schemas.metrics import Metric

Loaded = TypeVar("Loaded")


class Scorer:
    """Settings, networks and references; what is unavailable is looked for only once.

    Args:
        config: the plugin's configuration; `metrics` decides how things are measured.
    """

    def __init__(self, config: ImageConfig) -> None:
        self.config = config
        self._references: WeakKeyDictionary[ImageData, ImageReference] = WeakKeyDictionary()
        self._extractor: Extractor | UniteError | None = None
        self._perceptual: PerceptualLoss | UniteError | None = None

    @property
    def extractor(self) -> Extractor:
        """The network of features.

        Raises:
            UsageError, UniteError: as `open_extractor`.
        """
        if self._extractor is None:
            self._extractor = _result_or_error(lambda: open_extractor(self.config.metrics))
        if isinstance(self._extractor, UniteError):
            raise self._extractor
        return self._extractor

    @property
    def perceptual(self) -> PerceptualLoss:
        """LPIPS in the range it was made for, whatever the loss of the model sees.

        Raises:
            UsageError, UniteError: the weights of VGG are not at hand.
        """
        if self._perceptual is None:
            self._perceptual = _result_or_error(self._load_perceptual)
        if isinstance(self._perceptual, UniteError):
            raise self._perceptual
        return self._perceptual

    def _load_perceptual(self) -> PerceptualLoss:
        file = self.config.metrics.vgg or self.config.lpips_vgg
        from_loss = file is not None and not self.config.metrics.vgg
        weights = VGG16 if from_loss else replace(VGG16, setting="image.metrics.vgg", instead="")
        return PerceptualLoss(str(find_weights(weights, file)), "signed")

    @property
    def device(self) -> str:
        """Where metrics are computed."""
        return metric_device(self.config.metrics)

    def reference(self, reference: Reference | None) -> ImageReference | None:
        """What generated images are compared with, as images; the same object for the same data."""
        if not isinstance(reference, ImageData):
            assert reference is None or isinstance(reference, ImageReference)
            return reference
        if reference not in self._references:
            self._references[reference] = of_data(reference, self.config)
        return self._references[reference]


def _result_or_error(load: Callable[[], Loaded]) -> Loaded | UniteError:
    try:
        return load()
    except UniteError as error:
        return error


def frechet_name(extractor: Extractor, *, reconstruction: bool = False) -> tuple[str, str]:
    """Machine name and title: FID (of reconstructions rFID) is Inception's alone, others carry their network's name."""
    name, title = extractor.frechet
    return (f"r{name}", f"r{title}") if reconstruction and extractor.file is None else (name, title)


def frechet_metric(
    extractor: Extractor, found: Moments, count: int, other: Moments, against: str, *, reconstruction: bool = False
) -> Metric:
    """The Frechet distance of `count` images from `against`."""
    name, title = frechet_name(extractor, reconstruction=reconstruction)
    return Metric(
        name=name,
        title=title,
        value=frechet_distance(found, other),
        total=count,
        definition=f"squared Frechet distance of normal distributions fitted to {extractor.described}: {count:,} "
        f"images against {against}; more images give a lower value, so compare equal numbers only",
    )


def unmeasured(names: Sequence[tuple[str, str]], definition: str) -> list[Metric]:
    """Metrics (name, title) without a value."""
    return [Metric(name=name, title=title, value=None, definition=definition) for name, title in names]


def few_images_note(extractor: Extractor, count: int, dimension: int) -> list[str]:
    """That a covariance of fewer images than features is singular."""
    if count > dimension:
        return []
    return [
        f"{extractor.frechet[1]}: {count:,} images for {dimension:,} features leave the covariance singular, "
        "and the distance is biased upward"
    ]


def error_note(error: UniteError) -> str:
    """An error as one line of a note."""
    return " ".join((f"{error.message}; {error.hint}" if error.hint else error.message).split())
