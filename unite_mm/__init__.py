"""Joint training of tokenization and latent generation for any modality; the core knows none.

`from unite_mm import UNITE` gives the model; it is imported on first use, so that the command line starts fast.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unite_mm.api import UNITE as UNITE
    from unite_mm.api import Latents as Latents

__all__ = ["UNITE", "Latents"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from unite_mm import api as unite

        return getattr(unite, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
