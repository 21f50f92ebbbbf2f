"""Description length: entropy of every weight tensor's histogram, times its size."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from unite_mm.api import UNITE
from unite_mm.errors import UniteError
from unite_mm.model.layers import Attention, EncoderBlock, RMSNorm, SwiGLU
from unite_mm.model.network import GenerativeEncoder, Network
from unite_mm.model.trunk import Trunk
from unite_mm.registry.build import build_network
from unite_mm_schemas.analysis import DescriptionLength

BINS = 256
BITS_PER_MEGABYTE = 8e6

NORMALISATION, FUNCTIONAL, OTHER = "normalisation", "attention and MLP", "other"


def histogram_entropy(weights: Tensor, bins: int = BINS) -> float:
    """Entropy, in bits, of the histogram of a tensor's values over their own range.

    Args:
        weights: of any shape.
        bins: equally wide, from the least value to the largest.

    Returns:
        From 0, where all values are equal, to log2(bins).
    """
    counts = torch.histc(weights.detach().flatten().float().cpu(), bins=bins)
    shares = counts[counts > 0].double() / counts.sum()
    return float(-(shares * shares.log2()).sum().clamp_max(0))


def encoder_parts(encoder: GenerativeEncoder) -> Iterator[tuple[str, Tensor]]:
    """Every parameter of an encoder with its part: normalisation (with modulation), attention and MLP, other."""
    modulation: set[int] = set()
    functional: set[int] = set()
    for module in encoder.modules():
        if isinstance(module, EncoderBlock):
            modulation |= {id(parameter) for parameter in module.modulation.parameters()}
        elif isinstance(module, Trunk):
            modulation |= {id(parameter) for parameter in module.final_modulation.parameters()}
        elif isinstance(module, RMSNorm | nn.LayerNorm):
            modulation |= {id(parameter) for parameter in module.parameters()}
        elif isinstance(module, Attention | SwiGLU):
            functional |= {id(parameter) for parameter in module.parameters()}
    for parameter in encoder.parameters():
        # Norms of queries and keys lie inside the attention and count as norms.
        in_norms = id(parameter) in modulation
        yield (NORMALISATION if in_norms else FUNCTIONAL if id(parameter) in functional else OTHER), parameter


def network_parts(network: Network, modality: str) -> Iterator[tuple[str, Tensor]]:
    """Every parameter of a network, with its part; those of a separate denoiser count like the encoder's."""
    yield from encoder_parts(network.encoder)
    if network.separate_denoiser is not None:
        yield from encoder_parts(network.separate_denoiser)
    own = network.modules_of(modality)
    for name in ("tokenizer", "decoder"):
        yield from ((name, parameter) for parameter in getattr(own, name).parameters())


def _megabytes(network: Network, modality: str, bins: int) -> Mapping[str, tuple[int, float]]:
    found: dict[str, tuple[int, float]] = {}
    for part, parameter in network_parts(network, modality):
        count, size = found.get(part, (0, 0.0))
        own = histogram_entropy(parameter, bins) * parameter.numel() / BITS_PER_MEGABYTE
        found[part] = (count + parameter.numel(), size + own)
    return found


def description_length(model: UNITE, modality: str, bins: int = BINS) -> list[DescriptionLength]:
    """Description length of a model's parts, trained and as the run's seed started them.

    Many tensors start as zeros (modulations) or as ones (norms), whose length is 0. A run that started from another
    one's trunk is compared with fresh weights.

    Args:
        model: loaded.
        modality: whose tokenizer and decoder count.
        bins: of every histogram.
    """
    end = _megabytes(model.network, modality, bins)
    try:
        fresh = build_network(model.config, model.modalities, model.statistics)
        start: Mapping[str, tuple[int, float]] = _megabytes(fresh, modality, bins)
    except UniteError:  # an imported model whose start nobody can make again
        start = {}
    order = [part for part in (NORMALISATION, FUNCTIONAL, OTHER, "tokenizer", "decoder") if part in end]
    return [
        DescriptionLength(
            part=part, numbers=end[part][0], start=start[part][1] if part in start else None, end=end[part][1]
        )
        for part in order
    ]
