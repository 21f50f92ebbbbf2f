"""The Inception network behind FID, Inception Score, precision and recall, as torch-fidelity publishes it.

Numbers are called FID only where they come from exactly these weights, so the file is held to its SHA-256; that also
makes it safe to hand to torch-fidelity, whose own loader would run code that a tampered file contains.
"""

from pathlib import Path

from torch import nn

from unite_mm.errors import UniteError
from unite_mm.kit.weights import Weights
from unite_mm_image.torchvision_import import import_torchvision

INCEPTION = Weights(
    title="weights of Inception",
    name="weights-inception-2015-12-05-6726825d.pth",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    setting="image.metrics.inception",
    variable="UNITE_MM_INCEPTION",
    aliases=("pt_inception-2015-12-05-6726825d.pth",),  # as pytorch-fid publishes the same bytes
    exact=True,
    instead="use another network with --features FILE",
)
"""The weights by which FID is defined."""

POOL, LOGITS = "2048", "logits_unbiased"
"""torch-fidelity's names of the features of FID, precision and recall, and of those of the Inception Score."""


def load_inception(path: Path) -> nn.Module:
    """torch-fidelity's Inception, frozen: RGB images (B, 3, H, W) uint8 -> (POOL (B, 2048), LOGITS (B, 1008)).

    Args:
        path: the file of `INCEPTION`.

    Raises:
        UniteError: the file does not hold the weights of Inception.
    """
    import_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        network: nn.Module = FeatureExtractorInceptionV3(
            "inception-v3-compat", [POOL, LOGITS], feature_extractor_weights_path=str(path)
        )
    except RuntimeError as error:
        raise UniteError(f"{path}: does not hold the weights of Inception", f"get {INCEPTION.name} again") from error
    return network
