"""Reconstruction losses of an image, one value per image."""

from torch import Tensor

from unite_mm.contract import LossTerm
from unite_mm_image.config import ImageConfig
from unite_mm_image.data.batch import ImageBatch
from unite_mm_image.model.perceptual import PerceptualLoss
from unite_mm_image.model.squeezenet import SqueezeNetDistance


def reconstruction_terms(
    output: Tensor, batch: ImageBatch, config: ImageConfig, perceptual: PerceptualLoss, squeezenet: SqueezeNetDistance
) -> dict[str, LossTerm]:
    """Mean absolute error of the pixels, and the perceptual losses whose weight is above zero.

    Args:
        output: decoded pixels (B, colours, S, S).
        batch: the images.
        config: weights.
        perceptual: LPIPS; loads its network at the first call.
        squeezenet: likewise.

    Raises:
        UniteError: the weights of a network are not at hand.
    """
    terms = {"l1": LossTerm((output - batch.pixels).abs().flatten(1).mean(1), config.l1_weight)}
    if config.lpips_weight:
        terms["lpips"] = LossTerm(perceptual(output, batch.pixels), config.lpips_weight)
    if config.squeezenet_weight:
        terms["squeezenet"] = LossTerm(squeezenet(output, batch.pixels), config.squeezenet_weight)
    return terms
