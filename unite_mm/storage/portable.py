"""Records and reports without paths of the machine that wrote them, so that an exported folder can go anywhere."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.metrics import MetricsReport

_PATH = re.compile(r"(?<![\w.:/~])(~|/[\w.-]+)(?:/[^\s/'\",;:()]+)+/?")
"""An absolute path inside a text: at least two parts, or `~` and one."""


def portable_record(record: CheckpointRecord) -> CheckpointRecord:
    """A record in which absolute paths are cut down to the names of their files."""
    content = record.model_dump()
    for key in ("config", "changes"):
        content[key] = _names_alone(content[key])
    return CheckpointRecord.model_validate({**_without_paths(content), "files": record.files})


def portable_report(report: MetricsReport, name: str) -> MetricsReport:
    """A report in which absolute paths are cut down to the names of their files; what was evaluated gets a name."""
    content = {**report.model_dump(), "source": name}
    return MetricsReport.model_validate(_without_paths(content))


def _names_alone(value: Any) -> Any:
    """Settings: texts that are an absolute path as a whole, whether it exists or not, become its last part."""
    if isinstance(value, str):
        return Path(value).name if re.match(r"~?/[^/]", value) or re.match(r"[A-Za-z]:[\\/]", value) else value
    return _within(value, _names_alone)


def _without_paths(value: Any) -> Any:
    """Any texts: absolute paths inside them whose first folder is one of this machine become their last part.

    Others may be anything: a name of a class, or the bonds of a SMILES.
    """
    if isinstance(value, str):
        return _PATH.sub(_last_part, value)
    return _within(value, _without_paths)


def _within(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: change(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [change(inner) for inner in value]
    return value


def _last_part(match: re.Match[str]) -> str:
    return Path(match[0]).name if match[1] == "~" or Path(match[1]).is_dir() else match[0]
