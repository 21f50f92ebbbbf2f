"""Held-out molecules beside the samples: what distributions are compared with, and the ceiling of every metric.

Both are found once for a data set and kept in its cache.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from unite_mm.contract import SPLITS
from unite_mm.kit.cache import PluginCache
from unite_mm.kit.choice import spread_evenly
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress
from unite_mm_molecule.config import MoleculeMetrics
from unite_mm_molecule.metrics.assess import CRASHED, describe
from unite_mm_molecule.metrics.chemnet import Moments, chemnet_moments
from unite_mm_molecule.metrics.extras import missing_extras
from unite_mm_molecule.metrics.profile import Profile, chemnet_metric, distance_metrics, take_profile
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric, Score

METRICS = 1
"""Version of the definitions; raise it with any change of them, so that kept ceilings are found anew."""

MOST_REFERENCE = 10_000
"""Held-out molecules that distributions are taken of."""

_SLOW_CEILING = 1000
"""Molecules of the ceiling that PoseBusters looks at: ten thousand would take it a quarter of an hour."""

_ELSEWHERE = {"conditioned", "conditioned_xtb"}
"""Choices that do not concern the ceiling."""

_FILE = "found"

_PACKAGES = ("fcd", "numpy", "openbabel-wheel", "posebusters", "rdkit", "tblite")
"""What decides numbers, or whether there are any."""


Found = TypeVar("Found")


class Reference(Protocol):
    """What generated molecules are compared with: a prepared data set of molecules."""

    @property
    def cache(self) -> PluginCache | None:
        """Where to keep what is found of it; None: nowhere."""
        ...

    def size(self, split: str) -> int:
        """Molecules in a split."""
        ...

    def smiles(self, split: str) -> list[str]:
        """Canonical SMILES of a split, as `canonical_smiles` writes them."""
        ...

    def samples(self, split: str, indices: Any) -> list[Molecule]:
        """Molecules of a split; indices (B,) tensor."""
        ...


Part = tuple[list[Metric], list[str]]
"""Metrics, and remarks on them."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out molecules that distances are measured to.

    Attributes:
        profile: their distributions.
        moments: of their ChemNet features; None where these are not wanted or cannot be had.
        chosen: what to measure.
        progress: where to show the work.
        workers: processes.
    """

    profile: Profile
    moments: Moments | None
    chosen: MoleculeMetrics
    progress: Progress
    workers: int

    def distances(self, profile: Profile, title: str) -> Part:
        """Distances of other molecules to these; `title` is that of ChemNet's progress."""
        metrics, notes = distance_metrics(profile, self.profile)
        if self.chosen.fcd and (missing := missing_extras("fcd")):
            notes.append(f"Frechet ChemNet distance left out: {missing}")
        elif self.chosen.fcd:
            mine = None
            if len(profile.smiles) > 1 and self.moments is not None:
                mine = chemnet_moments(profile.smiles, title, self.progress, self.workers)
            metrics = [chemnet_metric(mine, self.moments), *metrics]
        total, split = self.profile.counts.molecules, self.chosen.reference_split
        return metrics, [*notes, f"distributions: valid samples against {total} molecules of the {split} split"]

    def take_profile(self, molecules: Sequence[Molecule], title: str) -> Profile:
        """The distributions of other molecules; `title` is that of the progress."""
        return _profile(molecules, title, self.progress, self.workers)


def chosen_molecules(reference: Reference, split: str, most: int) -> list[Molecule]:
    """Molecules spread evenly over a split, which is in the order of the source: QM9 begins with the small ones."""
    import torch

    places = spread_evenly(reference.size(split), most)
    return reference.samples(split, torch.tensor(places)) if places else []


def open_held_out(reference: Reference, chosen: MoleculeMetrics, progress: Progress, workers: int) -> HeldOut:
    """The molecules that distances are measured to.

    Raises:
        UniteError: the cache cannot be written, or ChemNet crashed.
    """
    molecules = chosen_molecules(reference, chosen.reference_split, MOST_REFERENCE)
    profile = _profile(molecules, "reading held-out molecules", progress, workers)
    moments = None
    if chosen.fcd and not missing_extras("fcd") and len(profile.smiles) > 1:

        def make() -> Moments:
            return chemnet_moments(profile.smiles, "ChemNet, held-out molecules", progress, workers)

        facts = [METRICS, _versions("fcd"), list(profile.smiles)]
        moments = kept(reference.cache, "chemnet", facts, make, Moments.write, Moments.read)
    return HeldOut(profile, moments, chosen, progress, workers)


def with_ceiling(
    score: Score,
    reference: Reference,
    held_out: HeldOut,
    score_molecules: Callable[[Sequence[Molecule], MoleculeMetrics], Score],
) -> Score:
    """A score with, beside each number, the same number of real molecules.

    That is of held-out ones scored as if they were samples. Distances are those of training molecules to them: what
    draws from the training split without a fault has these.

    Args:
        score: of generated samples.
        reference: the data set.
        held_out: its molecules that distances are measured to.
        score_molecules: everything but distances, of any molecules.

    Raises:
        UniteError: the cache cannot be written, or ChemNet crashed.
    """
    chosen, progress = held_out.chosen, held_out.progress
    split = chosen.reference_split
    molecules = chosen_molecules(reference, split, chosen.ceiling)
    if not molecules:
        note = f"no held-out figures stand beside these: the {split} split is empty"
        return score.model_copy(update={"notes": (*score.notes, note)}) if chosen.ceiling else score
    training = chosen_molecules(reference, "train", chosen.ceiling)

    def make() -> Score:
        progress.say(f"scoring {len(molecules):,} held-out molecules once, to stand beside the samples")
        metrics = score_molecules(molecules, chosen.model_copy(update={"posebusters": False})).metrics
        profile = held_out.take_profile(training, "reading training molecules")
        distances, _ = held_out.distances(profile, "ChemNet, training molecules")
        if chosen.posebusters:
            few = chosen_molecules(reference, split, min(chosen.ceiling, _SLOW_CEILING))
            alone = MoleculeMetrics(adit=False, fcd=False, mmff94=0, posebusters=True)
            slow = score_molecules(few, alone).metrics
            distances += [metric for metric in slow if metric.name.startswith("posebusters")]
        return Score(kind=score.kind, metrics=(*metrics, *distances))

    facts = [
        METRICS, _versions(*_PACKAGES), chosen.model_dump(mode="json", exclude=_ELSEWHERE),
        _digest(molecules), _digest(training),
        *(hashlib.sha256("\n".join(reference.smiles(name)).encode()).hexdigest() for name in SPLITS),
    ]  # fmt: skip
    ceiling = kept(reference.cache, "ceiling", facts, make, _write_score, _read_score)
    said = (
        f"the same figures of {len(molecules):,} held-out molecules (the {split} split); distances to held-out ones: "
        f"those of {len(training):,} molecules of the training split"
    )
    if chosen.posebusters and len(molecules) > _SLOW_CEILING:
        said += f"; PoseBusters: of {_SLOW_CEILING:,} held-out ones"
    return _beside(score, ceiling, said)


def _profile(molecules: Sequence[Molecule], title: str, progress: Progress, workers: int) -> Profile:
    found = map_items(describe, molecules, title=title, progress=progress, workers=workers)
    return take_profile(molecules, [one or CRASHED for one in found])


def _beside(score: Score, ceiling: Score, said: str) -> Score:
    values = {metric.name: metric.value for metric in ceiling.metrics}

    def joined(metric: Metric) -> Metric:
        return metric.model_copy(update={"reference": values.get(metric.name)})

    return score.model_copy(update={"metrics": tuple(map(joined, score.metrics)), "reference": said})


def kept(
    cache: PluginCache | None,
    name: str,
    facts: list[Any],
    make: Callable[[], Found],
    write: Callable[[Found, Path], None],
    read: Callable[[Path], Found],
) -> Found:
    """What `make` finds, from the cache if it is there.

    Args:
        cache: where it is kept; None: nowhere.
        name: of its folder there.
        facts: whatever decides it.
        make: finds it.
        write: writes it to a file.
        read: reads that file; what it may raise says `PluginCache.open`.

    Raises:
        UniteError: the cache cannot be written.
    """
    if cache is None:
        return make()
    folder = cache.folder(name, facts)
    return cache.open(folder, lambda aside: write(make(), aside / _FILE), lambda there: read(there / _FILE))


def _write_score(score: Score, path: Path) -> None:
    path.write_text(score.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _read_score(path: Path) -> Score:
    return Score.model_validate_json(path.read_bytes())


def _digest(molecules: Sequence[Molecule]) -> str:
    """SHA-256 over elements, bonds and positions: whatever decides a score."""
    digest = hashlib.sha256()
    for one in molecules:
        none = np.empty(0)
        for array in (one.numbers, one.charges, one.bonds, none if one.positions is None else one.positions):
            digest.update(np.ascontiguousarray(array).tobytes() + b"|")
        digest.update(bytes([one.explicit_hydrogens]))
    return digest.hexdigest()


def _versions(*packages: str) -> list[str]:
    """Versions of packages; empty for those that are not installed."""
    found = []
    for name in packages:
        try:
            found.append(version(name))
        except PackageNotFoundError:
            found.append("")
    return found
