"""Lightning Fabric, imported without torchmetrics.

Fabric asks at import which version of torchmetrics there is, and for that imports all of it, scipy and torchvision too:
seconds of processor time at the start of every run, for an answer that nothing here needs. While the package is
hidden, Fabric takes it for absent.
"""

import sys

_HIDDEN = "torchmetrics"

if _HIDDEN in sys.modules or "lightning_fabric" in sys.modules:
    from lightning_fabric import Fabric
else:
    sys.modules[_HIDDEN] = None  # type: ignore[assignment]  # how Python marks a package that is not to be imported
    try:
        from lightning_fabric import Fabric
    finally:
        del sys.modules[_HIDDEN]

__all__ = ["Fabric"]
