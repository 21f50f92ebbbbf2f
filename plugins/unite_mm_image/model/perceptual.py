"""LPIPS with VGG16 (Zhang et al. 2018, package `lpips`) as loss and as metric; its network is never trained or saved.

The heads come with the package. The features are torchvision's ImageNet weights of VGG16 (`VGG16`).
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from unite_mm.errors import UniteError
from unite_mm.kit.weights import Weights, find_weights, read_weights
from unite_mm_image.torchvision_import import import_torchvision

VGG16 = Weights(
    title="weights of VGG16",
    name="vgg16-397923af.pth",
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    sha256="397923af",
    setting="image.lpips_vgg",
    instead="set image.lpips_weight=0",
)
"""Weights of VGG16 as torchvision publishes them, for LPIPS."""


class PerceptualLoss:
    """LPIPS of pixels in [0, 1], one value per image.

    No `nn.Module` on purpose: the frozen network is no part of a model that holds this, is not put into training mode
    with it and does not get into its checkpoints.

    Args:
        vgg: file with the weights of VGG16; None: torch's cache of models, or a download.
        scale: `signed` maps the images to [-1, 1], which LPIPS was made for; `unit` leaves them in [0, 1].
    """

    def __init__(self, vgg: str | None = None, scale: Literal["signed", "unit"] = "signed") -> None:
        self.vgg = vgg
        self.scale = scale
        self.network: nn.Module | None = None
        self.device: torch.device | None = None
        self.compiled = False

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distances (B,) of two batches (B, colours, S, S); differentiable in both, in no weight of the network.

        Raises:
            UniteError: the weights of VGG are not at hand.
        """
        if self.network is None:
            self.network = load_lpips(self.vgg)
            if self.compiled:
                self.network.compile()
        if self.device != images.device:
            # Channels last: LPIPS sums over channels at every depth, which is 13 % faster so on a CPU; and CUDA's bf16
            # convolutions are made for it.
            known = images.device.type in ("cpu", "cuda")
            layout = torch.channels_last if known else torch.preserve_format
            self.network.to(images.device, memory_format=layout)  # type: ignore[call-overload] # lacks memory_format
            self.device = images.device
        distance: Tensor = self.network(self._scaled(images), self._scaled(targets))
        return distance.flatten().float()

    def compile(self) -> None:
        """Compile the network: its convolutions stay what they are, the many passes between them become few."""
        self.compiled = True
        if self.network is not None:
            self.network.compile()

    def outline(self) -> None:
        """Have a network on the CPU whose weights mean nothing, to count with."""
        import_torchvision()
        from torchvision.models import vgg16

        self.network, self.device = build_lpips(vgg16(weights=None).state_dict()), torch.device("cpu")

    def _scaled(self, images: Tensor) -> Tensor:
        """Three channels (B, 3, S, S) in the range that LPIPS is to see."""
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        return images * 2 - 1 if self.scale == "signed" else images


def load_lpips(vgg: str | None = None) -> nn.Module:
    """The LPIPS network of VGG16, frozen, in evaluation mode, for images in [-1, 1].

    Args:
        vgg: file with the weights of VGG16; None: torch's cache of models, or a download.

    Raises:
        UsageError: the named file does not exist.
        UniteError: a file with weights is missing or cannot be read.
    """
    features = read_weights(find_weights(VGG16, vgg))
    return build_lpips({name: value for name, value in features.items() if name.startswith("features.")})


def build_lpips(features: Mapping[str, Tensor]) -> nn.Module:
    """LPIPS on given features.

    Args:
        features: `features.N.weight` and `.bias` of the convolutions of torchvision's VGG16.

    Raises:
        UniteError: the features are not those of VGG16.
    """
    import_torchvision()
    import lpips

    with torch.device("meta"), warnings.catch_warnings():  # built without the random weights it would throw away
        warnings.simplefilter("ignore")  # lpips calls torchvision in a way that torchvision deprecates
        network: nn.Module = lpips.LPIPS(net="vgg", pnet_rand=True, pretrained=False, verbose=False)
    heads = read_weights(Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth")
    state: dict[str, Tensor] = {}
    for name in network.state_dict():
        part, _, rest = name.partition(".")
        if part == "net":
            source = features.get(f"features.{rest.partition('.')[2]}")
        elif part == "scaling_layer":
            source = _scaling(rest)
        else:
            source = heads.get(name.replace("lins.", "lin", 1))
        if source is None:
            raise UniteError(f"not the weights of VGG16: {name} is missing", f"use torchvision's {VGG16.name}")
        state[name] = source.clone()
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise UniteError("not the weights of VGG16: shapes differ", f"use torchvision's {VGG16.name}") from error
    return network.requires_grad_(False).eval()


def _scaling(name: str) -> Tensor | None:
    """Means and standard deviations of ImageNet for images in [-1, 1], as LPIPS declares them."""
    known = {"shift": (-0.030, -0.088, -0.188), "scale": (0.458, 0.448, 0.450)}
    return torch.tensor(known[name])[None, :, None, None] if name in known else None
