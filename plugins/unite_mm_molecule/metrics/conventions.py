"""Generated molecules scored by the conventions of other papers, from types and coordinates alone: EDM's and ADiT's."""

from collections.abc import Sequence

from unite_mm.kit.intervals import share
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress
from unite_mm_molecule.metrics.extras import missing_extras
from unite_mm_molecule.metrics.groups import ADIT, EDM, grouped
from unite_mm_molecule.metrics.perception import Perceived, perceive_adit
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric

_PERCEPTION_LIMIT = 60.0
"""Seconds for one molecule."""


def spatial(samples: Sequence[Molecule]) -> bool:
    """Whether all samples, but for records that could not be read, have positions and explicit hydrogens."""
    return all(sample.flaw or (sample.explicit_hydrogens and sample.positions is not None) for sample in samples)


def edm_metrics(samples: Sequence[Molecule], perceived: Sequence[Perceived | None]) -> tuple[list[Metric], list[str]]:
    """Scores by EDM's convention, and remarks on them.

    Args:
        samples: all generated molecules.
        perceived: what `perceive_edm` made of each; None where it crashed.
    """
    if not spatial(samples):
        return [], ["the EDM and ADiT conventions do not apply: they need positions and explicit hydrogens"]
    found = [item.smiles for item in perceived if item is not None and item.smiles is not None]
    stable = [0 if item is None or item.stable_atoms is None else item.stable_atoms for item in perceived]
    table = "bonds from EDM's distance table alone, charges ignored"
    return grouped(EDM, [
        share(
            "validity_edm", "valid (EDM)", len(found), len(samples),
            f"{table}; RDKit sanitizes them, adding hydrogens where it likes / all generated; looser than strict",
        ),
        share(
            "uniqueness_edm", "unique, of valid (EDM)", len(set(found)), len(found),
            "distinct SMILES of the largest fragment / valid by EDM's convention",
        ),
        share(
            "stability_atoms_edm", "stable atoms (EDM)", sum(stable), sum(sample.size for sample in samples),
            f"{table}; atoms with an exact valence / all atoms",
        ),
        share(
            "stability_molecules_edm", "stable molecules (EDM)",
            sum(count == sample.size > 0 for count, sample in zip(stable, samples, strict=True)), len(samples),
            f"{table}; molecules whose every atom has an exact valence / all generated",
        ),
    ]), []  # fmt: skip


def adit_metrics(samples: Sequence[Molecule], progress: Progress, workers: int) -> tuple[list[Metric], list[str]]:
    """Scores by ADiT's convention, and remarks on them; needs `openbabel`."""
    if not spatial(samples):
        return [], []  # the remark of `edm_metrics` covers both
    if missing := missing_extras("openbabel"):
        return [], [f"valid (ADiT) left out: {missing}"]
    results = map_items(
        perceive_adit, samples, title="perceiving bonds", progress=progress, workers=workers, limit=_PERCEPTION_LIMIT
    )
    found = [result.smiles for result in results if result is not None and result.smiles is not None]
    lost = sum(result is None for result in results)
    return grouped(ADIT, [
        share(
            "validity_adit", "valid (ADiT)", len(found), len(samples),
            "OpenBabel perceives bonds from types and coordinates alone, RDKit reads its PDB and gives a SMILES of the "
            "largest fragment / all generated; looser than strict",
        ),
        share(
            "uniqueness_adit", "unique, of valid (ADiT)", len(set(found)), len(found),
            "distinct SMILES (with stereo) of the largest fragment / valid by ADiT's convention",
        ),
    ]), [f"{lost} samples crashed or stalled OpenBabel and count as invalid (ADiT)"] if lost else []  # fmt: skip
