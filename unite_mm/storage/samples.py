"""Files of native samples and pictures of them, whole or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unite_mm.contract import Modality
from unite_mm.utils.files import write_aside


def write_samples(
    modality: Modality,
    samples: Sequence[Any],
    path: Path,
    picture: Path | None = None,
    inputs: Sequence[Any] | None = None,
) -> None:
    """Write native samples to a file or folder whose suffix names the format, and draw them where that is asked for.

    Args:
        modality: whose samples.
        samples: any number.
        path: the file or folder.
        picture: a PNG of them; None: none.
        inputs: what each is a reconstruction of, drawn beside it; None: samples are drawn alone.

    Raises:
        UsageError: the suffix names no known format.
        OSError: it cannot be written; nothing is left behind.
    """
    write_aside(path, lambda aside: modality.write(samples, aside))
    if picture is not None and inputs is not None:
        write_aside(picture, lambda aside: modality.save_pairs_picture(inputs, samples, aside))
    elif picture is not None:
        write_aside(picture, lambda aside: modality.save_picture(samples, aside))
