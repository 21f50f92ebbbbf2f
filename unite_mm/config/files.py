"""Configuration files and the texts in them that YAML leaves as they are."""

import re
from pathlib import Path
from typing import Any

import yaml

from unite_mm.errors import UsageError

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
    if seconds <= 0:
        raise UsageError(f"{text!r} is not a duration", "write 90s, 30m, 1h or 1h30m")
    return seconds


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file.

    Raises:
        UsageError: the file does not exist, cannot be read, or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{path} must hold a mapping of keys such as `trunk:`")
    return content
