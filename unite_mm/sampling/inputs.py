"""Native samples that a user names on the command line: a file, one sample of it, or the sample itself."""

import re
from pathlib import Path
from typing import Any

from unite_mm.contract import Modality
from unite_mm.errors import UsageError
from unite_mm.progress import Progress

_NUMBERED = re.compile(r"(.+)#([0-9]{1,18})", re.DOTALL)


def read_samples(modality: Modality, named: str, progress: Progress) -> list[Any]:
    """The samples that a text stands for.

    It is the name of a file or folder; one with `#3` behind it, for its third sample; or, for a modality that takes
    it, the sample itself, such as a SMILES. What exists under the name comes first.

    Args:
        modality: reads them.
        named: the text.
        progress: where to say what is passed over.

    Raises:
        UsageError: it is none of these, or holds no such sample.
    """
    if _exists(named):
        return _of_file(modality, named, progress)
    numbered = _NUMBERED.fullmatch(named)
    if numbered and _exists(numbered[1]):
        samples, number = _of_file(modality, numbered[1], progress), int(numbered[2])
        if not 1 <= number <= len(samples):
            raise UsageError(f"{named}: there is no such sample", f"it holds #1 to #{len(samples)}")
        return [samples[number - 1]]
    sample = modality.read_text(named)
    if sample is None:
        raise UsageError(f"{named} does not exist", "name a file, or one of its samples as FILE#3")
    return [sample]


def read_one(modality: Modality, named: str, progress: Progress) -> Any:
    """The one sample that a text stands for, as in `read_samples`.

    Raises:
        UsageError: it stands for none or for several.
    """
    samples = read_samples(modality, named, progress)
    if len(samples) > 1:
        raise UsageError(f"{named} holds {len(samples):,} samples", f"name one of them, such as {named}#1")
    return samples[0]


def _of_file(modality: Modality, named: str, progress: Progress) -> list[Any]:
    samples = modality.read_inputs(Path(named), progress)
    if not samples:
        raise UsageError(f"{named} holds no sample")
    return samples


def _exists(named: str) -> bool:
    try:
        return Path(named).exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False
