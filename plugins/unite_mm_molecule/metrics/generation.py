"""How good generated molecules are: validity by three conventions, uniqueness, novelty, stability, distributions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unite_mm.kit.intervals import mean, share
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress, Silent
from unite_mm_molecule.metrics.conventions import adit_metrics, edm_metrics
from unite_mm_molecule.metrics.distributions import StructureCounts, count_structures, histograms
from unite_mm_molecule.metrics.geometry import odd_distances
from unite_mm_molecule.metrics.novelty import Reference, held_out_molecules, novelty_metrics
from unite_mm_molecule.metrics.perception import Perceived, perceive_edm
from unite_mm_molecule.metrics.posebusters import posebusters_metrics
from unite_mm_molecule.metrics.validity import PROBLEMS, ValidityResult, check_validity, stable_atoms
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Histogram, Metric, Score


@dataclass(frozen=True)
class _Assessment:
    """One sample.

    Attributes:
        validity: strict validity.
        stable: atoms with an exact valence; None where hydrogens are implicit.
        edm: EDM's convention; None where hydrogens are implicit or there are no positions.
    """

    validity: ValidityResult
    stable: int | None
    edm: Perceived | None


def assess(molecule: Molecule) -> _Assessment:
    """Everything about one sample that needs RDKit alone."""
    spatial = molecule.explicit_hydrogens and molecule.positions is not None and molecule.finite
    return _Assessment(
        validity=check_validity(molecule),
        stable=stable_atoms(molecule) if molecule.explicit_hydrogens else None,
        edm=perceive_edm(molecule) if spatial else None,
    )


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
    assessments = map_items(assess, samples, title="scoring samples", progress=progress, workers=workers)
    crashed = ValidityResult("does not sanitize", "crashed the chemistry toolkit", None)
    results = [crashed if assessment is None else assessment.validity for assessment in assessments]
    perceived = [None if assessment is None else assessment.edm for assessment in assessments]
    counts = count_structures([sample for sample, result in zip(samples, results, strict=True) if result.valid])

    metrics = [*_validity(samples, results), *_uniqueness(results)]
    notes = ["samples are scored raw: no valence repaired, nothing filtered or drawn again"]
    if reference is None:
        notes.append("no reference data: novelty and distributions of the data are left out")
    else:
        metrics += novelty_metrics(results, reference)
    notes += _remarks(samples)
    explicit = [index for index, sample in enumerate(samples) if sample.explicit_hydrogens]
    if all(samples[index].flaw for index in explicit):
        explicit = []  # nothing but records that could not be read
    chosen = explicit or range(len(samples))  # what needs explicit hydrogens is taken of these
    shown = [samples[index] for index in chosen]
    for found, remarks in (
        _stability(shown, [assessments[index] for index in chosen]),
        edm_metrics(shown, [perceived[index] for index in chosen]),
        adit_metrics(shown, progress, workers) if perception else ([], []),
        posebusters_metrics(samples, results, progress, workers) if posebusters else ([], []),
    ):
        metrics += found
        notes += remarks
    metrics += _means(counts, "valid samples", "")
    reference_counts = None
    if reference is not None:
        reference_counts = count_structures(held_out_molecules(reference, reference_split))
        total = reference_counts.molecules
        metrics += _means(reference_counts, f"{total} held-out molecules of the data", "_data")
        notes.append(f"distributions: valid samples against {total} molecules of the {reference_split} split")
    shapes = (*histograms(counts, reference_counts), *_problem_histogram(results))
    return Score(kind="generation", metrics=tuple(metrics), histograms=shapes, notes=tuple(notes))


def _remarks(samples: Sequence[Molecule]) -> list[str]:
    """What a reader of the numbers must know about these samples."""
    notes = []
    flawed = [sample for sample in samples if sample.flaw]
    if flawed:
        notes.append(f"{len(flawed)} of {len(samples)} records cannot be read and count as invalid: {flawed[0].flaw}")
    implicit = sum(not sample.explicit_hydrogens for sample in samples)
    others = len(samples) - len(flawed) - implicit
    if implicit and others:
        notes.append(
            f"hydrogens are implicit in {implicit} of {len(samples)} samples and explicit in {others}: stability and "
            "the EDM and ADiT conventions are taken of the latter"
        )
    odd = sum(
        sample.positions is not None
        and sample.finite
        and bool(odd_distances(sample.numbers, sample.positions, sample.bonds))
        for sample in samples
    )
    if odd:
        notes.append(
            f"in {odd} of {len(samples)} samples bonded atoms are no plausible distance apart (are the coordinates in "
            "angstrom?)"
        )
    return notes


def _validity(samples: Sequence[Molecule], results: Sequence[ValidityResult]) -> list[Metric]:
    implicit = sum(not sample.explicit_hydrogens for sample in samples)
    readable = sum(not sample.flaw for sample in samples)
    if not implicit:
        hydrogens = "hydrogens are explicit and RDKit may add none"
    elif implicit == readable:
        hydrogens = "hydrogens are implicit and supplied by RDKit"
    else:
        hydrogens = f"hydrogens are implicit and supplied by RDKit in {implicit} of the samples, explicit in the others"
    return [
        share(
            "validity", "valid (strict)", sum(result.valid for result in results), len(results),
            "RDKit sanitizes the predicted types, charges and bonds without clean-up, no radical, one fragment, "
            f"neutral in total / all generated; {hydrogens}",
        )
    ]  # fmt: skip


def _uniqueness(results: Sequence[ValidityResult]) -> list[Metric]:
    smiles = [result.smiles for result in results if result.valid]
    distinct = len(set(smiles))
    return [
        share(
            "uniqueness", "unique, of valid", distinct, len(smiles),
            "distinct canonical SMILES (no stereo) of valid samples / valid samples (EDM, ADiT, UNITE)",
        ),
        share(
            "uniqueness_of_all", "valid and unique, of all", distinct, len(results),
            "distinct canonical SMILES (no stereo) of valid samples / all generated (JODO, UAE-3D)",
        ),
    ]  # fmt: skip


def _stability(
    samples: Sequence[Molecule], assessments: Sequence[_Assessment | None]
) -> tuple[list[Metric], list[str]]:
    if any(not sample.explicit_hydrogens for sample in samples):
        return [], ["stability does not apply: hydrogens are implicit, so every open valence is filled by RDKit"]
    stable = [0 if found is None or found.stable is None else found.stable for found in assessments]
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


def _means(counts: StructureCounts, of: str, suffix: str) -> list[Metric]:
    title = " (data)" if suffix else ""
    metrics = [
        mean(f"rings_mean{suffix}", f"rings per molecule{title}", counts.ring_counts, f"rings (SSSR) of {of}"),
        mean(
            f"heavy_atoms_mean{suffix}", f"heavy atoms per molecule{title}", counts.heavy_counts,
            f"atoms other than hydrogen of {of}",
        ),
    ]  # fmt: skip
    if counts.explicit:
        metrics.append(
            mean(
                f"atoms_mean{suffix}", f"atoms per molecule{title}", counts.atom_counts,
                f"atoms of {of}, hydrogens included",
            )
        )  # fmt: skip
    return metrics


def _problem_histogram(results: Sequence[ValidityResult]) -> list[Histogram]:
    """Why samples are not valid: the first problem of each."""
    if not results:
        return []
    problems: Counter[str] = Counter(result.problem or "valid" for result in results)
    names = ["valid", *(problem for problem in PROBLEMS if problems[problem])]
    shares = {name: problems[name] / len(results) for name in names}
    return [Histogram(name="validity_problems", title="what is wrong first, of all generated", samples=shares)]
