"""Molecules as compact JSON for the report's script: a drawing as paths, atoms, bonds and coordinates.

Needs RDKit, imported inside. `assets/molecules.js` reads what is made here.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from unite_mm_molecule.metrics.geometry import Points, kabsch
from unite_mm_molecule.molecule import SYMBOLS, Molecule, hydrogen_parents

if TYPE_CHECKING:
    from unite_mm_molecule.files.panels import Panel

MOST_ATOMS = 400
"""Atoms up to which a molecule is drawn and shown in 3D."""

_DIGITS = 100
"""Coordinates are whole numbers of 1 / 100 angstrom."""

_FARTHEST = 1e4
"""Angstrom; a coordinate beyond is as good as not finite."""


def sample_content(molecule: Molecule) -> dict[str, Any]:
    """A generated molecule: `drawing`, and `models` with at most one 3D model."""
    from unite_mm_molecule.files.pictures import sample_panel

    if not 0 < molecule.size <= MOST_ATOMS:
        return {"drawing": [], "models": []}
    model = _model(molecule, molecule.positions)
    return {"drawing": _paths(sample_panel(molecule)), "models": [] if model is None else [model]}


def pair_content(original: Molecule, copy: Molecule) -> dict[str, Any]:
    """An input and its reconstruction: `drawing` and `second` in one layout, and `models`, the second laid over."""
    from unite_mm_molecule.files.pictures import pair_panels

    if not (0 < original.size <= MOST_ATOMS and 0 < copy.size <= MOST_ATOMS):
        return {"drawing": [], "second": [], "models": []}
    left, right = pair_panels(original, copy)
    models = [_model(original, original.positions), _model(copy, laid_over(copy, original))]
    shown = [model for model in models if model is not None]
    return {"drawing": _paths(left), "second": _paths(right), "models": shown if len(shown) == len(models) else []}


def laid_over(copy: Molecule, original: Molecule) -> Points | None:
    """Positions (n, 3) of a reconstruction, superposed on its input; as they are where the two have other atoms.

    Heavy atoms decide: hydrogens of one atom may stand in any order.
    """
    if copy.positions is None or original.positions is None or not (copy.finite and original.finite):
        return copy.positions
    if copy.size != original.size:
        moved: Points = copy.positions - copy.positions.mean(axis=0) + original.positions.mean(axis=0)
        return moved
    heavy = (original.numbers != 1) & (copy.numbers != 1)
    used = heavy if heavy.sum() > 2 else np.ones(copy.size, dtype=bool)
    rotation, translation = kabsch(copy.positions[used], original.positions[used])
    laid: Points = copy.positions @ rotation.T + translation
    return laid


def formula(molecule: Molecule) -> str:
    """Hill's formula of the atoms that are written down, such as `C6H6O`."""
    counts: dict[str, int] = {}
    for number in molecule.numbers.tolist():
        counts[SYMBOLS[number]] = counts.get(SYMBOLS[number], 0) + 1
    first = ["C", "H"] if "C" in counts else []
    names = [name for name in first if name in counts] + sorted(set(counts) - set(first))
    return "".join(f"{name}{counts[name] if counts[name] > 1 else ''}" for name in names)


def _paths(panel: "Panel") -> list[list[Any]]:
    from unite_mm_molecule.files.panels import vector_paths

    return [list(path) for path in vector_paths(panel)]


def _model(molecule: Molecule, positions: Any) -> dict[str, Any] | None:
    """A 3D model; None without usable coordinates."""
    if positions is None or not np.isfinite(positions).all() or np.abs(positions).max() > _FARTHEST:
        return None
    parents = hydrogen_parents(molecule.numbers, molecule.charges, *molecule.bonds.T)
    return {
        "elements": [SYMBOLS[number] for number in molecule.numbers.tolist()],
        "places": np.rint(positions * _DIGITS).astype(int).ravel().tolist(),
        "bonds": molecule.bonds.ravel().tolist(),
        "hydrogens": np.flatnonzero(parents != np.arange(molecule.size)).tolist(),
    }
