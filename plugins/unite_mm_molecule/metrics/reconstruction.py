"""How well molecules are reconstructed: graph, geometry, and every part of the record on its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.kit.intervals import mean, median, share
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress, Silent
from unite_mm_molecule.metrics.extras import missing_extras
from unite_mm_molecule.metrics.geometry import reconstruction_rmsd
from unite_mm_molecule.metrics.validity import check_validity
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric, Score

Pair = tuple[Molecule, Molecule]
"""Input and reconstruction."""

_GEOMETRY_LIMIT = 60.0
"""Seconds the geometry match may take for one molecule; ordinary ones take 3 ms, the worst half a second."""


@dataclass(frozen=True)
class _Comparison:
    """One reconstruction against its input.

    Attributes:
        input_sound: whether the input sanitizes; if not it cannot match.
        graph: whether both have the same canonical SMILES.
        rmsd: angstrom after superposition, see `reconstruction_rmsd`; None without positions or with other atom counts.
        types: registers with the right element.
        charges: registers with the right charge.
        registers: registers compared: the larger of both atom counts.
        bonds: bonded pairs with the same order in both.
        bonded: pairs bonded in either.
    """

    input_sound: bool
    graph: bool
    rmsd: float | None
    types: int
    charges: int
    registers: int
    bonds: int
    bonded: int

    @property
    def identical(self) -> bool:
        """Whether every type, charge and bond is right."""
        return self.types == self.charges == self.registers and self.bonds == self.bonded


def compare(pair: Pair) -> _Comparison:
    """Compare a reconstruction with its input; register i of one is register i of the other."""
    original, copy = pair
    goal, found = check_validity(original), check_validity(copy)
    common = min(original.size, copy.size)
    bonds, bonded = bond_agreement(original, copy)
    rmsd = None
    if original.positions is not None and copy.positions is not None and original.size == copy.size > 0:
        finite = copy.finite and original.finite
        rmsd = reconstruction_rmsd(copy, original) if finite else None
    return _Comparison(
        input_sound=goal.smiles is not None,
        graph=goal.smiles is not None and goal.smiles == found.smiles,
        rmsd=rmsd,
        types=int((original.numbers[:common] == copy.numbers[:common]).sum()),
        charges=int((original.charges[:common] == copy.charges[:common]).sum()),
        registers=max(original.size, copy.size),
        bonds=bonds,
        bonded=bonded,
    )


def bond_orders(molecule: Molecule) -> dict[tuple[int, int], int]:
    """Order of each bonded pair (begin, end)."""
    return {(begin, end): order for begin, end, order in molecule.bonds.tolist()}


def bond_agreement(original: Molecule, copy: Molecule) -> tuple[int, int]:
    """Pairs of registers bonded in both with the same order, and pairs bonded in either."""
    goal, found = bond_orders(original), bond_orders(copy)
    return sum(found.get(pair) == order for pair, order in goal.items()), len(goal.keys() | found.keys())


def geometry_rmsd(pair: Pair) -> float:
    """RMSD in angstrom by pymatgen's `MoleculeMatcher(tolerance=0.01)`, atoms mapped by InChI; inf: no match.

    Bonds are perceived by OpenBabel from types and coordinates alone. Any failure is a miss, as in ADiT.
    """
    from pymatgen.core.structure import Molecule as PymatgenMolecule

    original, copy = (PymatgenMolecule(molecule.numbers.tolist(), _finite(molecule.positions)) for molecule in pair)
    try:
        return float(_matcher().get_rmsd(copy, original))
    except Exception:  # what pymatgen and OpenBabel raise on odd molecules is open-ended; ADiT counts it as a miss too
        return math.inf


@cache
def _matcher() -> Any:
    from openbabel import openbabel
    from pymatgen.analysis.molecule_matcher import MoleculeMatcher

    openbabel.obErrorLog.SetOutputLevel(-1)  # StopLogging alone lets the InChI code through
    openbabel.obErrorLog.StopLogging()
    return MoleculeMatcher(tolerance=0.01)


def _finite(positions: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Positions that OpenBabel survives: what is not finite goes far away."""
    assert positions is not None
    return np.nan_to_num(positions, nan=1e3, posinf=1e3, neginf=-1e3)


def score_reconstruction(
    inputs: Sequence[Molecule],
    outputs: Sequence[Molecule],
    progress: Progress | None = None,
    workers: int = 0,
    *,
    geometry: bool = True,
) -> Score:
    """Metrics of reconstructions.

    Args:
        inputs: what was tokenized.
        outputs: what was decoded, in the same order, register i for register i.
        progress: where to show the work.
        workers: processes; 0: as many as there are cores.
        geometry: also match by geometry alone, if pymatgen and OpenBabel are installed (about 4 ms a molecule).

    Raises:
        ValueError: there are not as many outputs as inputs.
    """
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} reconstructions")
    progress = progress or Silent()
    pairs = list(zip(inputs, outputs, strict=True))
    results = map_items(compare, pairs, title="scoring reconstructions", progress=progress, workers=workers)
    comparisons = [result for result in results if result is not None]
    total = len(pairs)
    notes = _notes(pairs, comparisons)
    heavy_only = any(not original.explicit_hydrogens for original in inputs)
    matched = [comparison for comparison in comparisons if comparison.graph]
    metrics = [
        share(
            "match_graph", "match (graph)", len(matched), total,
            "reconstructions that sanitize and whose canonical SMILES (no stereo, hydrogens removed; from predicted "
            "types, charges and bonds) equals the input's / all inputs",
        ),
        *_rmsd_metrics([c.rmsd for c in matched if c.rmsd is not None], heavy_only),
    ]  # fmt: skip
    if geometry:
        found, remarks = _geometry_metrics(pairs, progress, workers)
        metrics += found
        notes += remarks
    return Score(kind="reconstruction", metrics=(*metrics, *_part_metrics(comparisons, total)), notes=tuple(notes))


def _notes(pairs: list[Pair], comparisons: list[_Comparison]) -> list[str]:
    """What a reader of the numbers must know about these pairs."""
    notes = []
    implicit = sum(not original.explicit_hydrogens for original, _ in pairs)
    if implicit:
        notes.append(
            f"hydrogens are implicit in {implicit} of {len(pairs)} inputs: RMSD and parts are over heavy atoms"
        )
    flawed = [molecule.flaw for pair in pairs for molecule in pair if molecule.flaw]
    if flawed:
        notes.append(f"{len(flawed)} records cannot be read and count as misses: {flawed[0]}")
    unsound = sum(not comparison.input_sound for comparison in comparisons)
    if unsound:
        notes.append(f"{unsound} inputs do not sanitize themselves and count as misses")
    unmeasured = sum(comparison.graph and comparison.rmsd is None for comparison in comparisons)
    if unmeasured:
        notes.append(f"{unmeasured} matched molecules have no RMSD: no finite positions, or another number of atoms")
    crashed = len(pairs) - len(comparisons)
    if crashed:
        notes.append(f"{crashed} molecules crashed the chemistry toolkit and count as misses")
    return notes


def _rmsd_metrics(values: list[float], heavy_only: bool) -> list[Metric]:
    atoms = "all heavy atoms (hydrogens are implicit)" if heavy_only else "all atoms"
    definition = (
        f"over molecules matched by graph: root mean square distance of {atoms} after Kabsch superposition (proper "
        "rotations only), atom i on atom i"
    )
    return [
        mean("rmsd_mean", "RMSD, mean", values, definition, "angstrom"),
        median("rmsd_median", "RMSD, median", values, definition, "angstrom"),
    ]


def _geometry_metrics(pairs: list[Pair], progress: Progress, workers: int) -> tuple[list[Metric], list[str]]:
    """Match by types and coordinates alone, and remarks on it; needs `pymatgen` and `openbabel`."""
    if missing := missing_extras("pymatgen", "openbabel"):
        return [], [f"match (geometry) left out: {missing}"]
    readable = [pair for pair in pairs if not (pair[0].flaw or pair[1].flaw)]
    if any(not m.explicit_hydrogens or m.positions is None for pair in readable for m in pair):
        return [], ["match (geometry) does not apply: it needs positions and explicit hydrogens"]
    results = map_items(
        geometry_rmsd, readable, title="matching geometries", progress=progress, workers=workers, limit=_GEOMETRY_LIMIT
    )
    lost = sum(result is None for result in results)
    matched = [result for result in results if result is not None and math.isfinite(result)]
    metrics = [
        share(
            "match_geometry", "match (geometry)", len(matched), len(pairs),
            "pymatgen MoleculeMatcher(tolerance=0.01) finds a finite RMSD from types and coordinates alone, bonds "
            "perceived by OpenBabel / all inputs (as ADiT and UNITE)",
        ),
        mean(
            "rmsd_geometry", "RMSD, mean (geometry)", matched,
            "over molecules matched by geometry: pymatgen's RMSD, atoms mapped by InChI (as ADiT and UNITE)",
            "angstrom",
        ),
    ]  # fmt: skip
    note = f"{lost} geometry matches crashed or took over {_GEOMETRY_LIMIT:.0f} s and count as misses"
    return metrics, [note] if lost else []


def _part_metrics(comparisons: list[_Comparison], total: int) -> list[Metric]:
    registers = sum(comparison.registers for comparison in comparisons)
    return [
        share(
            "identical", "all parts right", sum(c.identical for c in comparisons), total,
            "reconstructions with every type, charge and bond order right, atom for atom / all inputs",
        ),
        share(
            "accuracy_types", "atom types", sum(c.types for c in comparisons), registers,
            "atoms with the right element / all atoms",
        ),
        share(
            "accuracy_charges", "formal charges", sum(c.charges for c in comparisons), registers,
            "atoms with the right formal charge / all atoms",
        ),
        share(
            "accuracy_bonds", "bonds", sum(c.bonds for c in comparisons), sum(c.bonded for c in comparisons),
            "pairs of atoms with the right kekulized bond order / pairs bonded in the input or the reconstruction",
        ),
    ]  # fmt: skip
