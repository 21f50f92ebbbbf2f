"""What generated molecules are compared with: novelty against the splits of a data set, and its held-out molecules."""

from collections.abc import Sequence
from typing import Any, Protocol

from unite_mm.kit.intervals import share
from unite_mm_molecule.metrics.validity import ValidityResult
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric

MOST_REFERENCE = 10_000
"""Held-out molecules that distributions are taken of."""


class Reference(Protocol):
    """What novelty and distributions are measured against: a prepared data set of molecules."""

    def size(self, split: str) -> int:
        """Molecules in a split."""
        ...

    def smiles(self, split: str) -> list[str]:
        """Canonical SMILES of a split, as `canonical_smiles` writes them."""
        ...

    def samples(self, split: str, indices: Any) -> list[Molecule]:
        """Molecules of a split; indices (B,) tensor."""
        ...


def held_out_molecules(reference: Reference, split: str) -> list[Molecule]:
    """Molecules spread evenly over a split, which is in the order of the source: QM9 begins with the small ones."""
    import torch

    size = reference.size(split)
    count = min(size, MOST_REFERENCE)
    return reference.samples(split, torch.arange(count) * size // count)


def novelty_metrics(results: Sequence[ValidityResult], reference: Reference) -> list[Metric]:
    """Novelty against the training split, and against all splits."""
    valid = [result.smiles for result in results if result.valid]
    train = set(reference.smiles("train"))
    everything = train.union(reference.smiles("validation"), reference.smiles("test"))
    novel, novel_to_all_splits = set(valid) - train, set(valid) - everything
    return [
        share(
            "novelty", "novel, of valid", len(novel), len(valid),
            f"distinct canonical SMILES of valid samples that are not among the {len(train)} of the training split / "
            "valid samples",
        ),
        share(
            "novelty_all_data", "novel against all splits, of valid", len(novel_to_all_splits), len(valid),
            f"distinct canonical SMILES of valid samples that are not among the {len(everything)} of all splits / "
            "valid samples",
        ),
        share(
            "novelty_of_all", "valid, unique and novel, of all", len(novel), len(results),
            "distinct canonical SMILES of valid samples that are not in the training split / all generated",
        ),
    ]  # fmt: skip
