"""Files of native samples, whole or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unite_mm.contract import Modality
from unite_mm.utils.files import write_aside


def write_samples(modality: Modality, samples: Sequence[Any], path: Path) -> None:
    """Write native samples to a file or folder whose suffix names the format.

    Raises:
        UsageError: the suffix names no known format.
        OSError: it cannot be written; nothing is left behind.
    """
    write_aside(path, lambda aside: modality.write(samples, aside))
