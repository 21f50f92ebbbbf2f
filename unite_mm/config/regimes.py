"""The regimes by name: what `--regime NAME` sets, above the presets and below everything that a user sets himself.

docs/regimes.md says where each comes from, what it computes and what it is for.
"""

from dataclasses import dataclass
from typing import Any

from unite_mm.config.options import Layer
from unite_mm.errors import UsageError
from unite_mm.utils.validation import did_you_mean
from unite_mm_schemas.config import AUTO


@dataclass(frozen=True)
class NamedRegime:
    """One of the systems that the paper compares.

    Attributes:
        description: in a line, for the help of `train`.
        values: nested mapping in the shape of `RunConfig`.
    """

    description: str
    values: dict[str, Any]


def _joint(kind: str, stop_gradient: bool) -> dict[str, Any]:
    return {"regime": {"kind": kind, "stop_gradient": stop_gradient}, "recipe": {"kind": "joint"}}


REGIMES: dict[str, NamedRegime] = {
    "unite": NamedRegime(
        "one network tokenizes and denoises; the flow loss stops at the latents", _joint("unite", True)
    ),
    "unite-no-stop": NamedRegime("the same, and the flow loss reaches the latents", _joint("unite", False)),
    "separate": NamedRegime("two networks; the flow loss stops at the latents", _joint("separate", True)),
    "separate-no-stop": NamedRegime("two networks, and the flow loss reaches the latents", _joint("separate", False)),
    "unified-latents": NamedRegime(
        "two networks; latents of a fixed noise, and a bound on their bits as loss",
        {"regime": {"kind": "unified-latents"}, "recipe": {"kind": "bound"}, "latent": {"affine": True}},
    ),
    "two-stage": NamedRegime(
        "two networks; first tokenizer and decoder, then the denoiser on their frozen latents",
        {"regime": {"kind": "two-stage"}, "recipe": {"kind": "staged"}},
    ),
    "frozen-features": NamedRegime(
        "a frozen teacher's features as latents; first the decoder, then the denoiser",
        {
            "regime": {"kind": "frozen-features"},
            "recipe": {"kind": "staged"},
            "flow": {"shift": AUTO},
            "sampling": {"shift": AUTO},
        },
    ),
}
"""The regimes by the names that users give."""


def regime_layer(name: str) -> Layer:
    """The layer of `--regime NAME`.

    Raises:
        UsageError: there is no such regime.
    """
    if name not in REGIMES:
        hint = did_you_mean(name, REGIMES) or f"there are: {', '.join(REGIMES)}"
        raise UsageError(f"--regime {name}: there is no such regime", hint)
    return Layer(f"--regime {name}", REGIMES[name].values)
