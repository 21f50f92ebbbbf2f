"""A prepared set of molecules, seen as a configuration says, in three splits. Needs no RDKit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unite_mm.contract import SPLITS, DataRequest, ModalityData, Targets
from unite_mm.errors import UsageError
from unite_mm.kit.cache import PluginCache
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch, MoleculeTensors
from unite_mm_molecule.data.prepare import CACHE, open_prepared
from unite_mm_molecule.data.prepared import Prepared
from unite_mm_molecule.data.statistics import RARE, find_conditions, training_statistics
from unite_mm_molecule.data.view import MoleculeView, view_molecules
from unite_mm_molecule.molecule import Molecule
from unite_mm_molecule.properties import NAMES, UNITS


class MoleculeData(ModalityData):
    """A prepared set of molecules, seen as a configuration says: hydrogens, order of atoms, geometry.

    Args:
        prepared: the molecules.
        config: how to see them.
        cache: the plugin's part of the cache.

    Attributes:
        statistics: what `training_statistics` found; JSON-able.
        cache: where metrics keep what they find of the held-out molecules; None: nowhere.
        missing_properties: properties to be conditioned on that no training molecule has.

    Raises:
        UsageError: no training molecule is left.
    """

    def __init__(self, prepared: Prepared, config: MoleculeConfig, cache: PluginCache | None = None) -> None:
        if config.geometry:
            lost = np.isnan(prepared.molecules.positions).any(axis=1)
            without = np.bincount(prepared.molecules.atom_owner[lost], minlength=len(prepared.molecules)) > 0
            prepared = prepared.without("has no 3D geometry", without, ["no coordinates"] * len(without))
        prepared, view = _viewed(prepared, config)
        if not prepared.card.splits["train"]:
            largest = prepared.card.excluded[-1].reason if prepared.card.excluded else "the source is empty"
            raise UsageError(f"{prepared.card.name}: no molecule is left for training ({largest})")
        self.config = config
        self.cache = cache
        self._smiles = prepared.smiles
        self._properties = prepared.properties
        self._molecules = view.native
        self._rows = {name: torch.from_numpy(np.flatnonzero(prepared.splits == i)) for i, name in enumerate(SPLITS)}
        positions = view.registers.centred_positions() if config.geometry else None
        conditions = find_conditions(prepared, config)
        self.missing_properties = conditions.select(prepared.splits == SPLITS.index("train")).missing
        self.statistics: dict[str, Any] = training_statistics(prepared, view.registers, positions, conditions, config)
        self._tensors = MoleculeTensors(view, self.statistics, positions, conditions.values)
        notes = (*prepared.card.notes, *_property_notes(prepared, self.statistics.get("properties")))
        self.card = prepared.card.model_copy(update={"notes": notes})

    def size(self, split: str) -> int:
        return len(self._rows[split])

    def lengths(self, split: str) -> Tensor:
        """(N,) registers of each molecule."""
        return self._tensors.atoms[self._rows[split]]

    def batch(self, split: str, indices: Tensor, generator: torch.Generator | None = None) -> MoleculeBatch:
        return self._tensors.batch(self._rows[split][indices], generator, self.config.translation)

    def samples(self, split: str, indices: Tensor) -> list[Molecule]:
        explicit, geometry = self.config.hydrogens != "implicit", self.config.geometry
        rows = self._rows[split][indices].tolist()
        return [self._molecules.molecule(row, explicit, geometry) for row in rows]

    def properties(self, split: str) -> Tensor:
        """(N, P) float64 of the molecules of a split, in order: columns and units as in `properties.UNITS`.

        NaN where the source has none.
        """
        rows = self._rows[split]
        if self._properties is None:
            return torch.full((len(rows), len(NAMES)), torch.nan, dtype=torch.float64)
        return torch.from_numpy(self._properties)[rows]

    def targets(self, split: str) -> Targets | None:
        """The properties and atomization energies that the source has for any training molecule."""
        known = [index for index, column in enumerate(self.properties("train").T) if not bool(column.isnan().all())]
        if not known:
            return None
        return Targets("numbers", self.properties(split)[:, known], tuple(NAMES[index] for index in known))

    def smiles(self, split: str) -> list[str]:
        """Canonical SMILES of the molecules of a split, in order: two molecules are the same if theirs are equal."""
        return [self._smiles[row] for row in self._rows[split].tolist()]


def _property_notes(prepared: Prepared, told: Mapping[str, Any] | None) -> list[str]:
    """What the card says of properties: their units, and the values of those that the denoiser is told."""
    known = [] if prepared.properties is None else np.flatnonzero(~np.isnan(prepared.properties).all(axis=0)).tolist()
    notes = []
    if known:
        notes.append(f"properties: {', '.join(f'{NAMES[place]} ({UNITS[NAMES[place]]})' for place in known)}")
    if told is not None:
        columns = zip(*(told[key] for key in ("names", "units", "mean", "low", "high")), strict=True)
        notes += [
            f"conditioned on {name} in {unit}: mean {mean:.4g}, supported from {low:.4g} to {high:.4g} (all but one in "
            f"{1 / RARE:,.0f} training molecules on either side)"
            for name, unit, mean, low, high in columns
        ]
    return notes


def _viewed(prepared: Prepared, config: MoleculeConfig) -> tuple[Prepared, MoleculeView]:
    """The molecules that a model of this configuration can see, and the view; the card counts the others."""
    view = view_molecules(prepared.molecules, config)
    atoms = [f"{count} atoms" for count in view.registers.atoms.tolist()]
    large = np.zeros_like(view.unfit) if config.max_atoms is None else view.registers.atoms > config.max_atoms
    kept = prepared.without(f"more than max_atoms={config.max_atoms} atoms", large, atoms)
    unfit = view.unfit[~large]
    reason = "an atom has fewer hydrogens than its valence asks for, so its number does not follow"
    kept = kept.without(reason, unfit, ["use hydrogens=explicit for such molecules"] * len(unfit))
    return kept, view if kept is prepared else view_molecules(kept.molecules, config)


def open_data(request: DataRequest, config: MoleculeConfig, modality: str) -> MoleculeData:
    """Prepare a source, or find it prepared, and open it.

    Args:
        request: names the source.
        config: how the model sees the molecules.
        modality: name for the card.

    Raises:
        UsageError: the source does not exist, cannot be read, or holds no usable molecule.
        UniteError: QM9 cannot be downloaded, or the cache cannot be written.
    """
    return MoleculeData(open_prepared(request, config, modality), config, PluginCache(request, CACHE))
