"""What tables and pictures call several runs."""

import os
from collections.abc import Sequence
from pathlib import Path


def labels_of(runs: Sequence[Path]) -> list[str]:
    """The names of runs' folders, or as much of their paths as tells them apart; numbers tell equal ones apart.

    Args:
        runs: folders, or names of models.
    """
    # `.` has a name as well, links keep theirs, and names of models are no paths.
    parts = [Path(os.path.abspath(run)).parts if run.exists() else run.parts for run in runs]
    labels: list[str] = []
    for length in range(1, max(map(len, parts), default=0) + 1):
        labels = [str(Path(*own[-length:])) for own in parts]
        if len(set(labels)) == len(set(parts)):
            break
    return [f"{label} ({number})" if labels.count(label) > 1 else label for number, label in enumerate(labels, 1)]
