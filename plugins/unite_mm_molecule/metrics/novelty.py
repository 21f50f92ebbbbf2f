"""Novelty of generated molecules against the splits of a data set."""

from collections.abc import Sequence

from unite_mm.kit.intervals import share
from unite_mm_molecule.metrics.groups import grouped
from unite_mm_molecule.metrics.held_out import Reference
from unite_mm_molecule.metrics.validity import ValidityResult
from unite_mm_schemas.metrics import Metric


def novelty_metrics(results: Sequence[ValidityResult], reference: Reference) -> list[Metric]:
    """Novelty against the training split, and against all splits: of valid samples, of unique ones, of all."""
    train = set(reference.smiles("train"))
    everything = train.union(reference.smiles("validation"), reference.smiles("test"))
    return [
        *_against(results, train, "novelty", "the training split", f"the {len(train)} of the training split"),
        *_against(results, everything, "novelty_all_data", "all data", f"the {len(everything)} of all splits"),
    ]


def _against(
    results: Sequence[ValidityResult], known: set[str], name: str, against: str, described: str
) -> list[Metric]:
    valid = [result.smiles for result in results if result.valid]
    distinct = set(valid)
    novel = len(distinct - known)
    what = f"distinct canonical SMILES (no stereo) of valid samples that are not among {described}"
    metrics = [
        share(name, "novel, of valid", novel, len(valid), f"{what} / valid samples"),
        share(
            f"{name}_of_unique", "novel, of unique", novel, len(distinct), f"{what} / distinct SMILES of valid samples"
        ),
        share(f"{name}_of_all", "V.U.N., of all", novel, len(results), f"{what}: valid, unique, novel / all generated"),
    ]
    return grouped(f"novelty: {against}", metrics)
