"""How near reconstructions are to their inputs, image by image: L1, PSNR, SSIM, LPIPS; and as a set: rFID."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from PIL.Image import Image
from torch import Tensor

from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.intervals import mean
from unite_mm.progress import Progress
from unite_mm_image.config import SMALLEST_FOR_LPIPS
from unite_mm_image.metrics.distances import moments
from unite_mm_image.metrics.image_sets import PictureSet, rgb
from unite_mm_image.metrics.scoring import Scorer, error_note, few_images_note, frechet_metric, frechet_name, unmeasured
from unite_mm_image.model.perceptual import PerceptualLoss
from unite_mm_image.torchvision_import import import_torchvision
from unite_mm_schemas.metrics import Metric, Score

SSIM_WINDOW = 11
"""Pixels on each side of the window that SSIM moves over the image (Wang et al. 2004)."""


@dataclass
class _Values:
    """One number for each image, by metric; the notes say what is missing."""

    l1: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    lpips: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def score_reconstruction(
    inputs: Sequence[Image], outputs: Sequence[Image], scorer: Scorer, progress: Progress
) -> Score:
    """Metrics of reconstructions against their inputs, on images of 8 bits a channel; grey ones count as RGB.

    What needs weights that are not at hand is left out, and a note says which file to put where.

    Args:
        inputs: mode RGB or L.
        outputs: likewise; `outputs[i]` belongs to `inputs[i]` and has its extent.
        scorer: settings and network.
        progress: where to show the work.

    Raises:
        UsageError: there is none, or a pair does not match.
    """
    _check(inputs, outputs)
    values = _values(inputs, outputs, scorer, progress)
    total = len(inputs)
    identical = total - len(values.psnr)
    notes = list(values.notes)
    for name, images in (("inputs", inputs), ("reconstructions", outputs)):
        notes += [f"{name}: {note}" for note in PictureSet(images).check()]
    if identical:
        notes.append(f"PSNR leaves out {identical:,} reconstructions that equal their input: theirs is infinite")
    frechet, frechet_notes = _frechet(inputs, outputs, scorer, progress)
    metrics = [
        *frechet,
        mean(
            "psnr", "PSNR", values.psnr,
            "10 log10(1 / mean squared error) of each image in [0, 1], mean over images", "dB",
        ),
        mean(
            "ssim", "SSIM", values.ssim,
            "structural similarity of each image in [0, 1] by torchmetrics: Gaussian window of 11 pixels, deviation "
            "1.5, mean over the colours; mean over images",
        ),
        mean(
            "lpips", "LPIPS (VGG)", values.lpips,
            "distance of each image to its input in the features of VGG16, package lpips 0.1, images in [-1, 1]; mean "
            "over images",
        ),
        mean("l1", "L1", values.l1, "mean absolute difference of each image in [0, 1], mean over images"),
    ]  # fmt: skip
    return Score(kind="reconstruction", metrics=tuple(metrics), notes=tuple([*notes, *frechet_notes]))


def _check(inputs: Sequence[Image], outputs: Sequence[Image]) -> None:
    if len(inputs) != len(outputs):
        raise UsageError(f"{len(inputs)} inputs and {len(outputs)} reconstructions", "each needs its partner")
    if not inputs:
        raise UsageError("no reconstruction to score")
    for index, (before, after) in enumerate(zip(inputs, outputs, strict=True)):
        if before.size != after.size:
            raise UsageError(
                f"reconstruction {index} has {after.width} x {after.height} pixels, its input {before.width} x "
                f"{before.height}",
                "scale and cut the inputs as the model does",
            )


def _pairs(inputs: Sequence[Image], outputs: Sequence[Image], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (B, 3, H, W) uint8 of inputs and outputs; a batch holds images of one extent."""
    start = 0
    while start < len(inputs):
        stop = start + 1
        while stop < min(start + size, len(inputs)) and inputs[stop].size == inputs[start].size:
            stop += 1
        yield _stacked(inputs[start:stop]), _stacked(outputs[start:stop])
        start = stop


def _stacked(images: Sequence[Image]) -> Tensor:
    return torch.stack([torch.from_numpy(rgb(image).copy()).permute(2, 0, 1) for image in images])


def _values(inputs: Sequence[Image], outputs: Sequence[Image], scorer: Scorer, progress: Progress) -> _Values:
    """All numbers of single images; only a batch of them is ever held in floating point."""
    import_torchvision()
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    found = _Values()
    perceptual = _perceptual(inputs, scorer, found.notes)
    small = sum(min(image.size) < SSIM_WINDOW for image in inputs)
    if small:
        found.notes.append(f"SSIM leaves out {small:,} images smaller than its window of {SSIM_WINDOW} pixels")
    device = torch.device(scorer.device)
    with torch.no_grad(), progress.task("Comparing images", len(inputs)) as advance:
        for before, after in _pairs(inputs, outputs, scorer.config.metrics.batch_size):
            differ = (before != after).flatten(1).any(1)
            target, image = (part.to(device).float() / 255 for part in (before, after))
            found.l1 += (image - target).abs().flatten(1).mean(1).tolist()
            if bool(differ.any()):
                psnr = peak_signal_noise_ratio(
                    image[differ], target[differ], data_range=1.0, reduction="none", dim=(1, 2, 3)
                )
                found.psnr += psnr.tolist()
            if min(image.shape[-2:]) >= SSIM_WINDOW:
                ssim = structural_similarity_index_measure(image, target, data_range=1.0, reduction="none")
                assert isinstance(ssim, Tensor)  # a pair only where contrasts or maps are asked for
                found.ssim += ssim.reshape(-1).tolist()
            if perceptual is not None and min(image.shape[-2:]) >= SMALLEST_FOR_LPIPS:
                found.lpips += perceptual(image, target).tolist()
            advance(len(before))
    return found


def _perceptual(inputs: Sequence[Image], scorer: Scorer, notes: list[str]) -> PerceptualLoss | None:
    """LPIPS ready for use, or a note why not."""
    small = sum(min(image.size) < SMALLEST_FOR_LPIPS for image in inputs)
    if small:
        notes.append(f"LPIPS leaves out {small:,} images smaller than the {SMALLEST_FOR_LPIPS} pixels that VGG needs")
    if small == len(inputs):
        return None
    try:
        return scorer.perceptual
    except UsageError:
        raise
    except UniteError as error:
        notes.append(f"LPIPS is left out: {error_note(error)}")
        return None


def _frechet(
    inputs: Sequence[Image], outputs: Sequence[Image], scorer: Scorer, progress: Progress
) -> tuple[list[Metric], list[str]]:
    """The distance between the set of inputs and the set of reconstructions."""
    try:
        extractor = scorer.extractor
    except UsageError:
        raise
    except UniteError as error:
        metrics = unmeasured([("rfid", "rFID")], "needs the weights of Inception")
        return metrics, [f"rFID is left out: {error_note(error)}"]
    if len(inputs) < 2:
        return unmeasured([frechet_name(extractor, reconstruction=True)], "needs two images"), []
    before = extractor.features(PictureSet(inputs), progress, "Features of the inputs")
    after = extractor.features(PictureSet(outputs), progress, "Features of the reconstructions")
    metric = frechet_metric(
        extractor,
        moments(after.pool),
        len(outputs),
        moments(before.pool),
        f"their {len(inputs):,} inputs",
        reconstruction=True,
    )
    return [metric], few_images_note(extractor, len(outputs), after.pool.shape[1])
