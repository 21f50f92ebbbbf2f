"""Whether generated molecules have the numbers of atoms that the denoiser was told, drawn or asked for.

Dimensions: n samples, M parts of the condition.
"""

from collections.abc import Sequence

import numpy as np
import torch

from unite_mm.contract import ConditionSpec
from unite_mm.kit.intervals import share
from unite_mm_molecule.composition import HYDROGENS, count_atoms
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.metrics.groups import TOLD, grouped
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric


def score_adherence(
    samples: Sequence[Molecule], conditions: torch.Tensor, spec: ConditionSpec, config: MoleculeConfig
) -> tuple[Metric, ...]:
    """The share of samples with exactly the numbers of atoms that were told; empty where none are told.

    Args:
        samples: n molecules, whatever their state.
        conditions: (n, M) what each was generated under, nan where a part was left open: any number will do there.
        spec: the names of the parts: counts first, then properties.
        config: the model's configuration. With implicit hydrogens, those are not counted.
    """
    names = spec.names[: len(spec.names) - len(config.conditioned_properties)]
    if not names or not samples:
        return ()
    told = conditions[:, : len(names)].double().numpy()
    found = np.array([count_atoms(sample, names) for sample in samples])
    right = np.isnan(told) | (found == told.round())
    heavy = np.array([name not in ("H", HYDROGENS) for name in names])
    metrics = [
        share(
            "adherence_heavy_atoms", "heavy atoms as told", int(right[:, heavy].all(1).sum()), len(samples),
            f"samples with exactly the numbers told to the denoiser, drawn or asked for ({_listed(names, heavy)}) / "
            "all generated",
        )
    ]  # fmt: skip
    if not heavy.all() and config.hydrogens != "implicit":
        metrics.append(
            share(
                "adherence_formula", "all atoms as told", int(right.all(1).sum()), len(samples),
                f"the same with hydrogens ({_listed(names, heavy | True)}) / all generated",
            )
        )  # fmt: skip
    return tuple(grouped(TOLD, metrics))


def _listed(names: Sequence[str], chosen: np.ndarray) -> str:
    return ", ".join(name for name, one in zip(names, chosen.tolist(), strict=True) if one)
