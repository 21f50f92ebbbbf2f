"""How good generated molecules are: validity by three conventions, uniqueness, novelty, stability, distributions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Protocol

from unite_mm.kit.intervals import mean, share
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress, Silent
from unite_mm_molecule.metrics.distributions import Composition, compose, histograms
from unite_mm_molecule.metrics.perception import Perceived, perceive_adit, perceive_edm
from unite_mm_molecule.metrics.reconstruction import EVAL_HINT
from unite_mm_molecule.metrics.validity import PROBLEMS, Verdict, judge, stable_atoms
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Histogram, Metric, Score

MOST_REFERENCE = 10_000
"""Held-out molecules that distributions are taken of."""

_POSEBUSTERS_LIMIT = 20.0
"""Seconds for one molecule. Most take 0.2 s; some strained ones keep the conformer search of the energy check busy for
minutes, and are then judged by the other checks."""

_PERCEPTION_LIMIT = 60.0


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


@dataclass(frozen=True)
class _Assessment:
    """One sample.

    Attributes:
        verdict: strict validity.
        stable: atoms with an exact valence; None where hydrogens are implicit.
        edm: EDM's convention; None where hydrogens are implicit or there are no positions.
    """

    verdict: Verdict
    stable: int | None
    edm: Perceived | None


def assess(molecule: Molecule) -> _Assessment:
    """Everything about one sample that needs RDKit alone."""
    spatial = molecule.explicit_hydrogens and molecule.positions is not None
    return _Assessment(
        verdict=judge(molecule),
        stable=stable_atoms(molecule) if molecule.explicit_hydrogens else None,
        edm=perceive_edm(molecule) if spatial else None,
    )


def bust(molecule: Molecule, configuration: str = "mol") -> dict[str, bool]:
    """The checks of PoseBusters (Buttenschoen et al. 2024) by name; needs `posebusters`.

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
    import logging

    from posebusters import PoseBusters

    logging.getLogger("posebusters").setLevel(logging.CRITICAL)
    return PoseBusters(config=configuration)


def score_generation(
    samples: Sequence[Molecule],
    reference: Reference | None = None,
    progress: Progress | None = None,
    workers: int = 0,
    *,
    perception: bool = True,
    posebusters: bool = False,
    reference_split: str = "test",
) -> Score:
    """Metrics of generated molecules, raw: nothing is repaired, filtered or drawn again.

    Args:
        samples: all generated molecules, whatever their state.
        reference: serves novelty and distributions.
        progress: where to show the work.
        workers: processes; 0: as many as there are cores.
        perception: also score by ADiT's convention, if OpenBabel is installed (about 1 ms a molecule).
        posebusters: also run PoseBusters on the strictly valid samples (0.2 s a molecule, up to 20 s).
        reference_split: held-out split of the reference that distributions are compared with.
    """
    progress = progress or Silent()
    results = map_items(assess, samples, title="scoring samples", progress=progress, workers=workers)
    lost = Verdict("does not sanitize", "crashed the chemistry toolkit", None)
    verdicts = [lost if result is None else result.verdict for result in results]
    valid = [sample for sample, verdict in zip(samples, verdicts, strict=True) if verdict.valid]
    composition = compose(valid)
    held_out = None if reference is None else compose(_held_out(reference, reference_split))

    metrics = [*_validity(samples, verdicts), *_uniqueness(verdicts), *_novelty(verdicts, reference)]
    notes = ["samples are scored raw: no valence repaired, nothing filtered or drawn again"]
    if reference is None:
        notes.append("no reference data: novelty and distributions of the data are left out")
    for found, said in (
        _stability(samples, results),
        _edm(samples, results),
        _adit(samples, progress, workers) if perception else ([], []),
        _posebusters(samples, verdicts, progress, workers) if posebusters else ([], []),
    ):
        metrics += found
        notes += said
    metrics += _means(composition, "valid samples", "")
    if held_out is not None:
        metrics += _means(held_out, f"{held_out.molecules} held-out molecules of the data", "_data")
        notes.append(
            f"distributions: valid samples against {held_out.molecules} molecules of the {reference_split} split"
        )
    shapes = (*histograms(composition, held_out), *_verdict_histogram(verdicts))
    return Score(kind="generation", metrics=tuple(metrics), histograms=shapes, notes=tuple(notes))


def _held_out(reference: Reference, split: str) -> list[Molecule]:
    """Molecules spread over the split, which stands in the order of the source: QM9 begins with the small ones."""
    import torch

    size = reference.size(split)
    count = min(size, MOST_REFERENCE)
    return reference.samples(split, torch.arange(count) * size // count)


def _validity(samples: Sequence[Molecule], verdicts: list[Verdict]) -> list[Metric]:
    implicit = sum(not sample.explicit_hydrogens for sample in samples)
    if not implicit:
        hydrogens = "hydrogens are explicit and RDKit may add none"
    elif implicit == len(samples):
        hydrogens = "hydrogens are implicit and supplied by RDKit"
    else:
        hydrogens = f"hydrogens are implicit and supplied by RDKit in {implicit} of the samples, explicit in the others"
    return [
        share(
            "validity", "valid (strict)", sum(verdict.valid for verdict in verdicts), len(verdicts),
            "RDKit sanitizes the predicted types, charges and bonds without clean-up, no radical, one fragment, "
            f"neutral in total / all generated; {hydrogens}",
        )
    ]  # fmt: skip


def _uniqueness(verdicts: list[Verdict]) -> list[Metric]:
    smiles = [verdict.smiles for verdict in verdicts if verdict.valid]
    distinct = len(set(smiles))
    return [
        share(
            "uniqueness", "unique, of valid", distinct, len(smiles),
            "distinct canonical SMILES (no stereo) of valid samples / valid samples (EDM, ADiT, UNITE)",
        ),
        share(
            "uniqueness_of_all", "valid and unique, of all", distinct, len(verdicts),
            "distinct canonical SMILES (no stereo) of valid samples / all generated (JODO, UAE-3D)",
        ),
    ]  # fmt: skip


def _novelty(verdicts: list[Verdict], reference: Reference | None) -> list[Metric]:
    if reference is None:
        return []
    valid = [verdict.smiles for verdict in verdicts if verdict.valid]
    train = set(reference.smiles("train"))
    everything = train.union(reference.smiles("validation"), reference.smiles("test"))
    new, unheard_of = set(valid) - train, set(valid) - everything
    return [
        share(
            "novelty", "novel, of valid", len(new), len(valid),
            f"distinct canonical SMILES of valid samples that are not among the {len(train)} of the training split / "
            "valid samples",
        ),
        share(
            "novelty_all_data", "novel against all splits, of valid", len(unheard_of), len(valid),
            f"distinct canonical SMILES of valid samples that are not among the {len(everything)} of all splits / "
            "valid samples",
        ),
        share(
            "novelty_of_all", "valid, unique and novel, of all", len(new), len(verdicts),
            "distinct canonical SMILES of valid samples that are not in the training split / all generated",
        ),
    ]  # fmt: skip


def _stability(samples: Sequence[Molecule], results: list[_Assessment | None]) -> tuple[list[Metric], list[str]]:
    if any(not sample.explicit_hydrogens for sample in samples):
        return [], ["stability does not apply: hydrogens are implicit, so every open valence is filled by RDKit"]
    stable = [0 if result is None or result.stable is None else result.stable for result in results]
    whole = sum(count == sample.size > 0 for count, sample in zip(stable, samples, strict=True))
    exact = "predicted bond orders add up to the valence (H1 C4 N3 O2 F1; charged: that of the isoelectronic element)"
    return [
        share(
            "stability_atoms", "stable atoms", sum(stable), sum(sample.size for sample in samples),
            f"atoms whose {exact} / all atoms of all generated",
        ),
        share(
            "stability_molecules", "stable molecules", whole, len(samples),
            f"molecules in which every atom's {exact} / all generated",
        ),
    ], []  # fmt: skip


def _edm(samples: Sequence[Molecule], results: list[_Assessment | None]) -> tuple[list[Metric], list[str]]:
    perceived = [None if result is None else result.edm for result in results]
    if any(result is not None and result.edm is None for result in results):
        return [], ["the EDM and ADiT conventions do not apply: they need positions and explicit hydrogens"]
    found = [item.smiles for item in perceived if item is not None and item.smiles is not None]
    stable = [0 if item is None or item.stable_atoms is None else item.stable_atoms for item in perceived]
    table = "bonds from EDM's distance table alone, charges ignored"
    return [
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
    ], []  # fmt: skip


def _adit(samples: Sequence[Molecule], progress: Progress, workers: int) -> tuple[list[Metric], list[str]]:
    if any(not sample.explicit_hydrogens or sample.positions is None for sample in samples):
        return [], []  # the note of `_edm` covers both
    if find_spec("openbabel") is None:
        return [], [f"valid (ADiT) left out: openbabel not installed ({EVAL_HINT})"]
    results = map_items(
        perceive_adit, samples, title="perceiving bonds", progress=progress, workers=workers, limit=_PERCEPTION_LIMIT
    )
    found = [result.smiles for result in results if result is not None and result.smiles is not None]
    lost = sum(result is None for result in results)
    return [
        share(
            "validity_adit", "valid (ADiT)", len(found), len(samples),
            "OpenBabel perceives bonds from types and coordinates alone, RDKit reads its PDB and gives a SMILES of the "
            "largest fragment / all generated; looser than strict",
        ),
        share(
            "uniqueness_adit", "unique, of valid (ADiT)", len(set(found)), len(found),
            "distinct SMILES (with stereo) of the largest fragment / valid by ADiT's convention",
        ),
    ], [f"{lost} samples crashed or stalled OpenBabel and count as invalid (ADiT)"] if lost else []  # fmt: skip


def _posebusters(
    samples: Sequence[Molecule], verdicts: list[Verdict], progress: Progress, workers: int
) -> tuple[list[Metric], list[str]]:
    if find_spec("posebusters") is None:
        return [], [f"PoseBusters left out: posebusters not installed ({EVAL_HINT})"]
    if any(not sample.explicit_hydrogens or sample.positions is None for sample in samples):
        return [], ["PoseBusters does not apply: it needs positions and explicit hydrogens"]
    # Samples that are not strictly valid cannot pass: sanitization, radicals and connectedness are among the checks.
    valid = [sample for sample, verdict in zip(samples, verdicts, strict=True) if verdict.valid]

    def run(function: Callable[[Molecule], dict[str, bool]], some: list[Molecule]) -> list[dict[str, bool] | None]:
        # One at a time: what shares a chunk with a slow one would be done again.
        return map_items(
            function, some, title="PoseBusters", progress=progress, workers=workers, chunk=1, limit=_POSEBUSTERS_LIMIT
        )

    results = run(bust, valid)
    slow = [sample for sample, result in zip(valid, results, strict=True) if result is None]
    again = run(partial(bust, configuration="mol_fast"), slow) if slow else []
    reports = [result for result in (*results, *again) if result is not None]
    return _posebusters_metrics(reports, len(samples)), _posebusters_notes(len(slow), len(valid) - len(reports))


def _posebusters_metrics(reports: list[dict[str, bool]], total: int) -> list[Metric]:
    """All checks together over all samples, and each over the samples it was done on."""
    metrics = [
        share(
            "posebusters", "PoseBusters, all checks", sum(all(report.values()) for report in reports), total,
            "strictly valid samples that pass every check of PoseBusters' `mol` configuration / all generated",
        )
    ]  # fmt: skip
    checked = Counter(name for report in reports for name in report)
    passed = Counter(name for report in reports for name, good in report.items() if good)
    for name, done in checked.items():
        metrics.append(
            share(
                f"posebusters_{name}", f"PoseBusters, {name.replace('_', ' ')}", passed[name], done,
                "samples that pass this check / strictly valid samples it was done on",
            )
        )  # fmt: skip
    return metrics


def _posebusters_notes(slow: int, lost: int) -> list[str]:
    notes = []
    if slow > lost:
        notes.append(
            f"PoseBusters took over {_POSEBUSTERS_LIMIT:.0f} s on {slow - lost} samples: judged without internal energy"
        )
    if lost:
        notes.append(f"{lost} samples crashed or stalled PoseBusters and count as failures")
    return notes


def _means(composition: Composition, of: str, suffix: str) -> list[Metric]:
    title = " (data)" if suffix else ""
    metrics = [
        mean(f"rings_mean{suffix}", f"rings per molecule{title}", composition.ring_counts, f"rings (SSSR) of {of}"),
        mean(
            f"heavy_atoms_mean{suffix}", f"heavy atoms per molecule{title}", composition.heavy_counts,
            f"atoms other than hydrogen of {of}",
        ),
    ]  # fmt: skip
    if composition.explicit:
        metrics.append(
            mean(
                f"atoms_mean{suffix}", f"atoms per molecule{title}", composition.atom_counts,
                f"atoms of {of}, hydrogens included",
            )
        )  # fmt: skip
    return metrics


def _verdict_histogram(verdicts: list[Verdict]) -> list[Histogram]:
    """Why samples are not valid: the first problem of each."""
    if not verdicts:
        return []
    counts: Counter[str] = Counter(verdict.problem or "valid" for verdict in verdicts)
    names = ["valid", *(problem for problem in PROBLEMS if counts[problem])]
    shares = {name: counts[name] / len(verdicts) for name in names}
    return [Histogram(name="verdicts", title="what is wrong first, of all generated", samples=shares)]
