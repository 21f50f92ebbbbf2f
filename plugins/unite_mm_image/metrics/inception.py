"""The Inception network behind FID, Inception Score, precision and recall, as torch-fidelity publishes it.

Numbers are called FID only where they come from exactly these weights, so the file is held to its SHA-256; that also
makes it safe to hand to torch-fidelity, whose own loader would run code that a tampered file contains.
"""

import os
import socket
from pathlib import Path

import torch
from torch import nn

from unite_mm.errors import UniteError, UsageError
from unite_mm.utils.files import file_sha256
from unite_mm_image.vision import torchvision

FILE = "weights-inception-2015-12-05-6726825d.pth"
"""Name under which torch-fidelity publishes the weights."""

FILES = (FILE, "pt_inception-2015-12-05-6726825d.pth")
"""Names in torch's cache of models; pytorch-fid publishes the same bytes under the second."""

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

VARIABLE = "UNITE_MM_INCEPTION"
"""Environment variable that names the file."""

POOL, LOGITS = "2048", "logits_unbiased"
"""torch-fidelity's names of the features of FID, precision and recall, and of those of the Inception Score."""

_TIMEOUT = 30.0
"""Seconds without an answer after which a download is given up."""


def find_inception(file: str | None = None) -> Path:
    """The file with the published weights.

    Args:
        file: where it is said to be; None: the environment variable, torch's cache of models, or a download into it.

    Raises:
        UsageError: the named file does not exist, or is another one.
        UniteError: there is none and it cannot be downloaded; the message says which file to put where.
    """
    named = file or os.environ.get(VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise UsageError(f"the weights of Inception, {path}, do not exist", f"name torch-fidelity's {FILE}")
        return _verified(path)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in FILES:
        if (folder / name).is_file():
            return _verified(folder / name)
    return _download(folder / FILE)


def load_inception(path: Path) -> nn.Module:
    """torch-fidelity's Inception, frozen: RGB images (B, 3, H, W) uint8 -> (POOL (B, 2048), LOGITS (B, 1008)).

    Args:
        path: a file that `find_inception` returned.

    Raises:
        UniteError: the file does not hold the weights of Inception.
    """
    torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        network: nn.Module = FeatureExtractorInceptionV3(
            "inception-v3-compat", [POOL, LOGITS], feature_extractor_weights_path=str(path)
        )
    except RuntimeError as error:
        raise UniteError(f"{path} does not hold the weights of Inception", f"get {FILE} again") from error
    return network


def _verified(path: Path) -> Path:
    found = file_sha256(path)
    if found != SHA256:
        raise UsageError(
            f"{path} is not the Inception that FID is defined by (SHA-256 {found[:8]}..., not {SHA256[:8]}...)",
            f"get {FILE} again, or use another network as TorchScript with --features FILE",
        )
    return path


def _download(path: Path) -> Path:
    torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=SHA256, progress=False)
    except (OSError, RuntimeError) as error:  # no network, no such page, no space, a wrong hash
        said = " ".join(str(error).split())
        raise UniteError(
            f"the weights of Inception can be neither found nor downloaded ({said})",
            f"put {FILE} (of torch-fidelity's releases) at {path}, name it with {VARIABLE}=FILE or --set "
            "image.metrics.inception=FILE, or use another network with --features FILE",
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path
