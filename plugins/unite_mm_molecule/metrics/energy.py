"""How far molecules lie above the minimum of energy next to them: MMFF94 by RDKit, GFN2-xTB by `tblite`."""

import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unite_mm.kit.intervals import quantile
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress
from unite_mm_molecule.chemistry import sanitized
from unite_mm_molecule.metrics.extras import missing_extras
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric

_LEVELS = ((0.5, "median"), (0.9, "90 %"), (0.95, "95 %"))
_LIMIT = 120.0
"""Seconds for one molecule."""
ANGSTROM = 1.8897261246
"""Bohr."""
_HARTREE = 627.5094740631
"""Kilocalories per mole."""
_MOST_STEPS = 500


def mmff94_strain(molecule: Molecule) -> float | None:
    """Energy above the nearest minimum of MMFF94, in kcal/mol.

    None where the force field has no parameters for the molecule or does not come to rest.

    Args:
        molecule: strictly valid, with explicit hydrogens and positions.
    """
    from rdkit import rdBase
    from rdkit.Chem import rdForceFieldHelpers

    with rdBase.BlockLogs():
        mol = sanitized(molecule)
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        if properties is None:
            return None
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
        if field is None:
            return None
        start = field.CalcEnergy()
        rested = field.Minimize(maxIts=_MOST_STEPS * 10) == 0
    return _above(start, field.CalcEnergy()) if rested else None


def xtb_strain(molecule: Molecule) -> float | None:
    """Energy above the nearest minimum of GFN2-xTB (Bannwarth et al. 2019), in kcal/mol; None where it has none.

    Args:
        molecule: strictly valid, with explicit hydrogens and positions.

    Raises:
        ImportError: `tblite` or `scipy` is not installed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of a few atoms; read when the library is loaded
    from scipy.optimize import minimize
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    assert molecule.positions is not None
    start = molecule.positions * ANGSTROM
    calculator = Calculator("GFN2-xTB", molecule.numbers, start, charge=float(molecule.charges.sum()))
    calculator.set("verbosity", 0)

    def energy(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        calculator.update(positions=flat.reshape(-1, 3))
        result = calculator.singlepoint()
        return float(result.get("energy")), np.asarray(result.get("gradient"), dtype=np.float64).ravel()

    try:
        first = energy(start.ravel())[0]
        options = {"maxiter": _MOST_STEPS, "gtol": 5e-4}
        found = minimize(energy, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    except TBLiteRuntimeError:  # no self-consistent field, mostly of atoms that overlap
        return None
    return _above(first * _HARTREE, float(found.fun) * _HARTREE) if found.success else None


def strain_metrics(
    molecules: Sequence[Molecule], method: str, progress: Progress, workers: int
) -> tuple[list[Metric], list[str]]:
    """Quantiles of the energy above the nearest minimum, and remarks on them.

    Args:
        molecules: strictly valid, with explicit hydrogens and positions.
        method: `mmff94` or `xtb`.
        progress: where to show the work.
        workers: processes; 0: as many as there are cores.
    """
    work: Callable[[Molecule], float | None]
    title, work, needed = {
        "mmff94": ("MMFF94", mmff94_strain, ()),
        "xtb": ("GFN2-xTB", xtb_strain, ("tblite", "scipy")),
    }[method]
    if missing := missing_extras(*needed):
        return [], [f"energies by {title} left out: {missing}"]
    limit = _LIMIT if len(molecules) > 32 and workers != 1 else None
    found = map_items(
        work, molecules, title=f"relaxing with {title}", progress=progress, workers=workers, chunk=8, limit=limit
    )
    values = [value for value in found if value is not None]
    lost = len(found) - len(values)
    definition = (
        f"energy of a sample above the minimum that {title} finds from it: quantile over {len(values)} strictly valid "
        "samples, spread over all"
    )
    metrics = [
        quantile(f"energy_{method}_{round(100 * level)}", name, values, level, definition, "kcal/mol").model_copy(
            update={"group": f"energy to minimum, {title}"}
        )
        for level, name in _LEVELS
    ]
    note = f"{lost} of {len(found)} samples could not be relaxed with {title} and are left out of the energies"
    return metrics, [note] if lost else []


def _above(start: float, end: float) -> float | None:
    """The energy above the minimum, not below 0 by rounding; None where it is no number."""
    return max(0.0, start - end) if np.isfinite([start, end]).all() else None
