"""Configuration files and the texts in them that YAML leaves as they are."""

import math
import re
from pathlib import Path
from typing import Any

from unite_mm.errors import UsageError
from unite_mm.utils.yaml_text import read_mapping

_SECONDS = (86400, 3600, 60, 1)


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `30m`, `1h`, `1h30m`, `1.5h`, `2d` or a plain number of seconds.

    Raises:
        UsageError: it is none of these, or not above zero.
    """
    number = r"\d+(?:\.\d+)?"
    match = re.fullmatch(rf"(?:({number})d)?(?:({number})h)?(?:({number})m)?(?:({number})s?)?", text.strip())
    parts = match.groups() if match else ()
    seconds = sum(float(part) * unit for part, unit in zip(parts, _SECONDS, strict=False) if part is not None)
    if not 0 < seconds < math.inf:
        raise UsageError(f"{text!r} is not a duration", "write 90s, 30m, 1h or 1h30m")
    return seconds


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file.

    Raises:
        UsageError: the file does not exist, cannot be read, or is too large, or holds no mapping.
    """
    return read_mapping(path, example=" such as `trunk:`")
