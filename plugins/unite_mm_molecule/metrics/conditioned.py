"""Whether molecules that were generated under properties have them: a regressor's word, and GFN2-xTB's.

As in EDM's protocol (Hoogeboom et al. 2022) the regressor is trained on one half of the training molecules.
Dimensions: N molecules, P properties.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from unite_mm.kit.choice import spread_evenly
from unite_mm.kit.intervals import mean
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.metrics.energy import ANGSTROM
from unite_mm_molecule.metrics.extras import missing_extras
from unite_mm_molecule.metrics.held_out import Reference, kept
from unite_mm_molecule.metrics.regressor import VERSION, Regressor, readable, train_regressor
from unite_mm_molecule.molecule import Molecule
from unite_mm_molecule.properties import NAMES, UNITS, property_labels
from unite_mm_schemas.metrics import Metric, Score

Floats = NDArray[np.float64]

MOST_TRAINING = 20_000
"""Molecules that the regressor is trained on: a minute of one core."""
FEWEST_TRAINING = 50
"""With fewer it would say nothing."""

DEBYE = 2.541746473
"""Of one atomic unit (e bohr)."""
_LIMIT = 60.0
"""Seconds for one molecule."""

_BY_XTB = ("gap", "mu")
"""Properties that GFN2-xTB gives, in this order."""


class Conditioned(Reference, Protocol):
    """A prepared data set of molecules with properties."""

    statistics: dict[str, Any]

    def properties(self, split: str) -> torch.Tensor:
        """Properties of a split in the order of `properties.NAMES`."""
        ...


def held_out_conditions(
    reference: Conditioned, config: MoleculeConfig, most: int
) -> Mapping[str, Sequence[float]] | None:
    """Properties of held-out molecules, spread over their split, by the names under which a model is asked for them.

    Args:
        reference: the data set, opened with the model's configuration.
        config: that configuration.
        most: how many at the most.

    Returns:
        None where the denoiser is told no properties, molecules have no positions, or none is to be checked.
    """
    _, values = _targets(reference, config, min(most, config.metrics.conditioned))
    return dict(zip(_labels(config), values.T.tolist(), strict=True)) if len(values) else None


def score_conditioned(
    samples: Sequence[Molecule],
    conditions: Mapping[str, Sequence[float]],
    reference: Conditioned,
    config: MoleculeConfig,
    progress: Progress,
    workers: int = 0,
) -> Score:
    """Errors of the properties of generated molecules against those they were generated under.

    Args:
        samples: N of them, whatever their state.
        conditions: what `held_out_conditions` gave, N values each.
        reference: the data set.
        config: the model's configuration.
        progress: where to show the work.
        workers: processes; 0: as many as there are cores.

    Raises:
        UniteError: the regressor cannot be kept in the cache.
    """
    names = config.conditioned_properties
    targets = np.array([conditions[label] for label in _labels(config)]).T  # (N, P)
    indices, own = _targets(reference, config, len(samples))
    real = reference.samples(config.metrics.reference_split, torch.from_numpy(indices))
    regressor = _regressor(reference, names, progress)
    metrics: list[Metric] = []
    notes = [
        f"generated under {' and '.join(names)} of {len(samples):,} molecules of the "
        f"{config.metrics.reference_split} split{', all at once' if len(names) > 1 else ''}; compositions drawn"
    ]
    if isinstance(regressor, str):
        notes.append(f"properties are not judged by a regressor: {regressor}")
    else:
        found, known = regressor.predict(samples), regressor.predict(real)
        for place, name in enumerate(names):
            metrics += _errors(name, "", found[:, place], targets[:, place], known[:, place], own[:, place])
        notes.append(
            "the regressor (ridge on distances and environments) is trained on half of the training molecules, which "
            "the generator has seen; EDM's generator has not"
        )
    by_xtb, remarks = _score_by_xtb(samples, targets, real, own, config, progress, workers)
    said = "held-out molecules against their own values, by the same regressor"
    return Score(
        kind="conditioning", metrics=(*metrics, *by_xtb), reference=said if metrics or by_xtb else "",
        notes=(*notes, *remarks),
    )  # fmt: skip


def _labels(config: MoleculeConfig) -> list[str]:
    return property_labels(config.conditioned_properties, beside_formula=config.counted == "formula")


def _targets(reference: Conditioned, config: MoleculeConfig, most: int) -> tuple[NDArray[np.int64], Floats]:
    """Indices (N,) of held-out molecules, and their properties (N, P); such as the training data support."""
    told = reference.statistics.get("properties")
    if told is None or not config.geometry:
        return np.empty(0, dtype=np.int64), np.empty((0, len(config.conditioned_properties)))
    values = _columns(reference, config.metrics.reference_split, config.conditioned_properties)
    good = ((values >= told["low"]) & (values <= told["high"])).all(axis=1)  # not nan either
    able = np.flatnonzero(good)
    count = min(most, len(able))
    chosen = able[np.arange(count) * len(able) // max(count, 1)]
    return chosen, values[chosen]


def _columns(reference: Conditioned, split: str, names: Sequence[str]) -> Floats:
    return reference.properties(split)[:, [NAMES.index(name) for name in names]].numpy()


def _regressor(reference: Conditioned, names: Sequence[str], progress: Progress) -> Regressor | str:
    """The regressor, trained once for a data set and its properties; a text says why there is none."""
    smiles = reference.smiles("train")
    known = np.isfinite(_columns(reference, "train", names)).all(axis=1)
    half = np.array([hashlib.sha256(one.encode()).digest()[0] % 2 == 0 for one in smiles], dtype=bool)
    able = np.flatnonzero(known & half)
    if len(able) < FEWEST_TRAINING:
        return f"{len(able)} molecules in half of the training split are too few"

    def make() -> Regressor:
        chosen = able[spread_evenly(len(able), MOST_TRAINING)]
        progress.say(f"training a regressor of {', '.join(names)} on {len(chosen):,} molecules, once")
        molecules = reference.samples("train", torch.from_numpy(chosen))
        good = np.array([readable(one) for one in molecules])
        values = _columns(reference, "train", names)[chosen]
        return train_regressor([one for one in molecules if readable(one)], values[good], progress)

    first = reference.samples("train", torch.from_numpy(able[:1]))[0]  # with hydrogens or without
    text = "\n".join(smiles)
    facts = [VERSION, MOST_TRAINING, list(names), first.explicit_hydrogens, np.__version__,
             hashlib.sha256(text.encode()).hexdigest()]  # fmt: skip
    return kept(reference.cache, "regressor", facts, make, Regressor.write, Regressor.read)


def _errors(name: str, method: str, found: Floats, targets: Floats, known: Floats, own: Floats) -> list[Metric]:
    """The error of generated molecules beside that of real ones, and that of real ones whose targets are exchanged.

    Args:
        name: of the property.
        method: empty for the regressor; else `xtb`.
        found: (N,) of the generated molecules; nan where there is none.
        targets: (N,) what they were generated under.
        known: (M,) found of real molecules.
        own: (M,) their values.
    """
    by = "as GFN2-xTB gives it, on a line through real molecules," if method else "as the regressor finds it,"
    stem, title = f"condition_{name}{'_' * bool(method)}{method}", name + (" by GFN2-xTB" if method else "")
    error, real = np.abs(found - targets), np.abs(known - own)
    exchanged = np.abs(known - np.roll(own, len(own) // 2))
    error, real, exchanged = (one[np.isfinite(one)] for one in (error, real, exchanged))
    unit = UNITS[name]
    asked = mean(
        stem, f"{title}, mean error", error.tolist(),
        f"mean absolute difference between the property of generated molecules, valid or not, {by} and the value they "
        "were generated under", unit,
    )  # fmt: skip
    chance = mean(
        f"{stem}_by_chance", f"{title}, of real ones at random", exchanged.tolist(),
        "the same of held-out molecules, each with the value of another one: what molecules have that heed no "
        "condition", unit,
    )  # fmt: skip
    return [asked.model_copy(update={"reference": float(real.mean()) if len(real) else None}), chance]


def xtb_gap_and_dipole(molecule: Molecule) -> tuple[float, float] | None:
    """HOMO-LUMO gap in hartree and dipole moment in debye of GFN2-xTB at the geometry as it is; None where it has none.

    Args:
        molecule: with explicit hydrogens and finite positions.

    Raises:
        ImportError: `tblite` is not installed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of a few atoms; read when the library is loaded
    from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError
    from tblite.interface import Calculator

    assert molecule.positions is not None
    try:
        calculator = Calculator(
            "GFN2-xTB", molecule.numbers, molecule.positions * ANGSTROM, charge=float(molecule.charges.sum())
        )
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
    except (TBLiteRuntimeError, TBLiteValueError):
        return None
    energies, occupied = result.get("orbital-energies"), result.get("orbital-occupations")
    filled = int(np.count_nonzero(occupied > 1e-3))
    if not 0 < filled < len(energies):
        return None
    return float(energies[filled] - energies[filled - 1]), float(np.linalg.norm(result.get("dipole")) * DEBYE)


def _score_by_xtb(
    samples: Sequence[Molecule], targets: Floats, real: Sequence[Molecule], own: Floats, config: MoleculeConfig,
    progress: Progress, workers: int,
) -> tuple[list[Metric], list[str]]:  # fmt: skip
    """Errors of gap and dipole moment by GFN2-xTB of some molecules, spread over all, and remarks."""
    names = config.conditioned_properties
    wanted = [name for name in _BY_XTB if name in names]
    count = min(config.metrics.conditioned_xtb, len(samples))
    if not count or not wanted:
        return [], []
    if missing := missing_extras("tblite"):
        return [], [f"gap and dipole by GFN2-xTB left out: {missing}"]
    if config.hydrogens == "implicit":
        return [], ["gap and dipole by GFN2-xTB left out: hydrogens are implicit"]

    def spread(molecules: Sequence[Molecule], values: Floats) -> tuple[Floats, Floats]:
        rows = np.arange(min(count, len(molecules))) * len(molecules) // max(min(count, len(molecules)), 1)
        able = [row for row in rows.tolist() if readable(molecules[row])]
        chosen = [molecules[row] for row in able]
        done = map_items(
            xtb_gap_and_dipole, chosen, title="GFN2-xTB", progress=progress, workers=workers, chunk=1, limit=_LIMIT
        )
        found = np.array([one or (np.nan, np.nan) for one in done]).reshape(-1, len(_BY_XTB))
        return found, values[able]

    found, asked = spread(samples, targets)
    known, values = spread(real, own)
    metrics = []
    for name in wanted:
        place, column = _BY_XTB.index(name), names.index(name)
        good = np.isfinite(known[:, place])
        if good.sum() < 3:
            continue
        slope, start = np.polyfit(known[good, place], values[good, column], 1)
        fitted = (slope * one[:, place] + start for one in (found, known))
        generated, measured = fitted
        metrics += _errors(name, "xtb", generated, asked[:, column], measured, values[:, column])
    return metrics, [f"GFN2-xTB: of {count:,} molecules; its values are put on B3LYP's scale by a line"]
