"""PoseBusters (Buttenschoen et al. 2024) on generated molecules; needs the package `posebusters`, imported inside."""

import logging
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from unite_mm.kit.intervals import share
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress
from unite_mm_molecule.metrics.conventions import spatial
from unite_mm_molecule.metrics.extras import missing_extras
from unite_mm_molecule.metrics.groups import POSEBUSTERS, grouped
from unite_mm_molecule.metrics.validity import ValidityResult
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric

_POSEBUSTERS_LIMIT = 20.0
"""Seconds for one molecule. Most take 0.2 s; some strained ones keep the conformer search of the energy check busy for
minutes, and are then scored by the other checks."""


def run_posebusters(molecule: Molecule, configuration: str = "mol") -> dict[str, bool]:
    """The checks of PoseBusters by name.

    Args:
        molecule: with positions and explicit hydrogens.
        configuration: `mol`, or `mol_fast`, which lacks the internal energy.
    """
    from rdkit import rdBase

    with rdBase.BlockLogs():
        table = _busters(configuration).bust([molecule.to_rdkit(sanitize=False)], None, None)
        return {str(name): bool(value) for name, value in table.iloc[0].items()}


@cache
def _busters(configuration: str) -> Any:
    from posebusters import PoseBusters

    logging.getLogger("posebusters").setLevel(logging.CRITICAL)
    return PoseBusters(config=configuration)


def posebusters_metrics(
    samples: Sequence[Molecule], results: Sequence[ValidityResult], progress: Progress, workers: int
) -> tuple[list[Metric], list[str]]:
    """Scores of PoseBusters, and remarks on them.

    Args:
        samples: all generated molecules.
        results: the strict validity of each.
        progress: where to show the work.
        workers: processes; 0: as many as there are cores.
    """
    if missing := missing_extras("posebusters"):
        return [], [f"PoseBusters left out: {missing}"]
    pairs = list(zip(samples, results, strict=True))
    if any(sample.explicit_hydrogens and not sample.flaw for sample in samples):
        pairs = [(sample, result) for sample, result in pairs if sample.explicit_hydrogens]
    if not spatial([sample for sample, _ in pairs]):
        return [], ["PoseBusters does not apply: it needs positions and explicit hydrogens"]
    # Samples that are not strictly valid cannot pass: sanitization, radicals and connectedness are among the checks.
    valid = [sample for sample, result in pairs if result.valid]
    # One at a time: what shares a chunk with a slow one would be done again.
    run = partial(map_items, title="PoseBusters", progress=progress, workers=workers, chunk=1, limit=_POSEBUSTERS_LIMIT)
    complete = run(run_posebusters, valid)
    slow = [sample for sample, report in zip(valid, complete, strict=True) if report is None]
    without_energy = run(partial(run_posebusters, configuration="mol_fast"), slow) if slow else []
    reports = [report for report in (*complete, *without_energy) if report is not None]
    return grouped(POSEBUSTERS, _check_metrics(reports, len(pairs))), _remarks(len(slow), len(valid) - len(reports))


def _check_metrics(reports: list[dict[str, bool]], total: int) -> list[Metric]:
    """All checks together over all samples, and each over the samples it was done on."""
    metrics = [
        share(
            "posebusters", "all checks", sum(all(report.values()) for report in reports), total,
            "strictly valid samples that pass every check of PoseBusters' `mol` configuration / all generated",
        )
    ]  # fmt: skip
    checked = Counter(name for report in reports for name in report)
    passed = Counter(name for report in reports for name, good in report.items() if good)
    for name, done in checked.items():
        metrics.append(
            share(
                f"posebusters_{name}", name.replace("_", " "), passed[name], done,
                "samples that pass this check / strictly valid samples it was done on",
            )
        )  # fmt: skip
    return metrics


def _remarks(slow: int, lost: int) -> list[str]:
    remarks = []
    if slow > lost:
        remarks.append(
            f"PoseBusters took over {_POSEBUSTERS_LIMIT:.0f} s on {slow - lost} samples: scored without internal energy"
        )
    if lost:
        remarks.append(f"{lost} samples crashed or stalled PoseBusters and count as failures")
    return remarks
