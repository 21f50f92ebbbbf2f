"""How good generated molecules are: validity by three conventions, uniqueness, novelty, stability, distributions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unite_mm.kit.choice import spread_evenly
from unite_mm.kit.intervals import mean, share
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress, Silent
from unite_mm_molecule.config import MoleculeMetrics
from unite_mm_molecule.metrics.assess import CRASHED, Assessment, assess
from unite_mm_molecule.metrics.conventions import adit_metrics, edm_metrics
from unite_mm_molecule.metrics.distributions import StructureCounts, histograms
from unite_mm_molecule.metrics.energy import strain_metrics
from unite_mm_molecule.metrics.geometry import odd_distances
from unite_mm_molecule.metrics.groups import MEANS, OWN_BONDS, grouped
from unite_mm_molecule.metrics.held_out import HeldOut, Part, Reference, open_held_out, with_ceiling
from unite_mm_molecule.metrics.novelty import novelty_metrics
from unite_mm_molecule.metrics.posebusters import posebusters_metrics
from unite_mm_molecule.metrics.profile import Profile, take_profile
from unite_mm_molecule.metrics.validity import PROBLEMS, ValidityResult
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Histogram, Metric, Score


def score_generation(
    samples: Sequence[Molecule],
    reference: Reference | None = None,
    progress: Progress | None = None,
    workers: int = 0,
    chosen: MoleculeMetrics | None = None,
) -> Score:
    """Metrics of generated molecules, raw: nothing is repaired, filtered or drawn again.

    Args:
        samples: all generated molecules, whatever their state.
        reference: serves novelty, distributions, and the numbers of held-out molecules beside those of the samples.
        progress: where to show the work.
        workers: processes; 0: as many as there are cores.
        chosen: what to measure; None: what is measured by default.

    Raises:
        UniteError: what is found of the reference cannot be kept in its cache, or ChemNet crashed.
    """
    progress, chosen = progress or Silent(), chosen or MoleculeMetrics()
    if reference is None:
        return _Scorer(None, None, progress, workers).score(samples, chosen)
    held_out = open_held_out(reference, chosen, progress, workers)
    found = _Scorer(reference, held_out, progress, workers).score(samples, chosen)
    return with_ceiling(found, reference, held_out, _Scorer(reference, None, progress, workers).score)


@dataclass(frozen=True)
class _Scorer:
    """Scores sets of molecules, samples and held-out ones alike.

    Attributes:
        reference: the data set, if there is one.
        held_out: its molecules that distances are measured to; None: distances are left out.
        progress: where to show the work.
        workers: processes.
    """

    reference: Reference | None
    held_out: HeldOut | None
    progress: Progress
    workers: int

    def score(self, samples: Sequence[Molecule], chosen: MoleculeMetrics) -> Score:
        """The metrics of the molecules that are chosen."""
        found = map_items(assess, samples, title="scoring samples", progress=self.progress, workers=self.workers)
        assessments = [one or CRASHED for one in found]
        results = [one.validity for one in assessments]
        profile = take_profile(samples, assessments)
        metrics = grouped(OWN_BONDS, [*_validity(samples, results), *_uniqueness(results)])
        notes = ["samples are scored raw: no valence repaired, nothing filtered or drawn again", *_remarks(samples)]
        parts = [
            *self._by_coordinates(samples, assessments, chosen),
            self._by_reference(results),
            ([], []) if self.held_out is None else self.held_out.distances(profile, "ChemNet"),
            posebusters_metrics(samples, results, self.progress, self.workers) if chosen.posebusters else ([], []),
            *self._energies(profile, chosen),
            (_means(profile.counts), []),
        ]
        for numbers, remarks in parts:
            metrics += numbers
            notes += remarks
        others = None if self.held_out is None else self.held_out.profile.counts
        shapes = (*histograms(profile.counts, others), *_problem_histogram(results))
        return Score(kind="generation", metrics=tuple(metrics), histograms=shapes, notes=tuple(notes))

    def _by_coordinates(
        self, samples: Sequence[Molecule], assessments: Sequence[Assessment], chosen: MoleculeMetrics
    ) -> list[Part]:
        """Stability, and the other papers' conventions: of the molecules with explicit hydrogens, if there are any."""
        explicit = [index for index, sample in enumerate(samples) if sample.explicit_hydrogens]
        if all(samples[index].flaw for index in explicit):
            explicit = []  # nothing but records that could not be read
        places = explicit or range(len(samples))
        shown = [samples[index] for index in places]
        return [
            _stability(shown, [assessments[index].stable for index in places]),
            edm_metrics(shown, [assessments[index].edm for index in places]),
            adit_metrics(shown, self.progress, self.workers) if chosen.adit else ([], []),
        ]

    def _by_reference(self, results: Sequence[ValidityResult]) -> Part:
        if self.reference is None:
            return [], ["no reference data: novelty, distances to the data and the figures of held-out molecules are "
                        "left out; --data names some"]  # fmt: skip
        return novelty_metrics(results, self.reference), []

    def _energies(self, profile: Profile, chosen: MoleculeMetrics) -> list[Part]:
        """Energies above the minimum of some valid samples, spread over all."""
        able = [one for one in profile.molecules if one.explicit_hydrogens and one.positions is not None]
        parts = []
        for method, most in (("mmff94", chosen.mmff94), ("xtb", chosen.xtb)):
            some = [able[place] for place in spread_evenly(len(able), most)]
            if some:
                parts.append(strain_metrics(some, method, self.progress, self.workers))
        return parts


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
    perceived = sum(sample.perceived for sample in samples)
    if perceived:
        notes.append(
            f"{perceived} of {len(samples)} records name no bonds: these follow from the geometry (RDKit's "
            "DetermineBonds for a neutral molecule, else EDM's table), also where a line says own bonds"
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


def _stability(samples: Sequence[Molecule], found: Sequence[int | None]) -> Part:
    if any(not sample.explicit_hydrogens for sample in samples):
        return [], ["stability does not apply: hydrogens are implicit, so every open valence is filled by RDKit"]
    stable = [count or 0 for count in found]
    whole = sum(count == sample.size > 0 for count, sample in zip(stable, samples, strict=True))
    exact = "predicted bond orders add up to the valence (H1 C4 N3 O2 F1; charged: that of the isoelectronic element)"
    return grouped(OWN_BONDS, [
        share(
            "stability_atoms", "stable atoms", sum(stable), sum(sample.size for sample in samples),
            f"atoms whose {exact} / all atoms of all generated",
        ),
        share(
            "stability_molecules", "stable molecules", whole, len(samples),
            f"molecules in which every atom's {exact} / all generated",
        ),
    ]), []  # fmt: skip


def _means(counts: StructureCounts) -> list[Metric]:
    of = "the valid samples"
    metrics = [
        mean("rings_mean", "rings per molecule", counts.ring_counts, f"rings (SSSR) of {of}"),
        mean("heavy_atoms_mean", "heavy atoms", counts.heavy_counts, f"atoms other than hydrogen of {of}"),
    ]
    if counts.explicit:
        metrics.append(mean("atoms_mean", "atoms", counts.atom_counts, f"atoms of {of}, hydrogens included"))
    return grouped(MEANS, metrics)


def _problem_histogram(results: Sequence[ValidityResult]) -> list[Histogram]:
    """Why samples are not valid: the first problem of each."""
    if not results:
        return []
    problems: Counter[str] = Counter(result.problem or "valid" for result in results)
    names = ["valid", *(problem for problem in PROBLEMS if problems[problem])]
    shares = {name: problems[name] / len(results) for name in names}
    return [Histogram(name="validity_problems", title="what is wrong first, of all generated", samples=shares)]
