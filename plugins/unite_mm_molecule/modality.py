"""Molecules as a modality: ties data, parts of the model, files, pictures and metrics to the core's contract.

Two manifests name it: `qm9.yaml`, whose default source is QM9, and `molecule.yaml`, for molecules of your own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unite_mm.contract import (
    ConditionSpec,
    DataRequest,
    Fragment,
    Held,
    Modality,
    ModalityData,
    PriorSample,
    Reference,
    ReportViews,
    Statistics,
)
from unite_mm.errors import UsageError
from unite_mm.kit.cache import PluginCache
from unite_mm.progress import Progress
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch
from unite_mm_molecule.data.dataset import MoleculeData, open_data
from unite_mm_molecule.data.encode import encode
from unite_mm_molecule.data.package import find_package
from unite_mm_molecule.data.prepare import CACHE
from unite_mm_molecule.data.sources import QM9
from unite_mm_molecule.model.modules import MoleculeModules
from unite_mm_molecule.model.teacher import AtomDescriptor
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Metric, Score

ATTACHED_NOTE = (
    "hydrogens: attached. How many an atom carries follows from its element, charge and bonds; figures by the samples' "
    "own bonds rest on that, those from coordinates alone (EDM, ADiT, PoseBusters) do not"
)


class MoleculeModality(Modality):
    """Molecules as sets of atoms with bonds and 3D positions.

    Pictures and scores need RDKit, imported when they are called; training and sampling from prepared data do not.
    """

    config: MoleculeConfig

    def open_data(self, request: DataRequest) -> MoleculeData:
        return open_data(request, self.config, self.name)

    def at_hand(self, request: DataRequest) -> bool:
        return PluginCache(request, CACHE).holds(request.source) or (
            request.source == QM9 and find_package() is not None
        )

    def statistics(self, data: ModalityData) -> Statistics:
        assert isinstance(data, MoleculeData)
        if data.missing_properties:
            raise UsageError(
                f"{data.card.name}: no training molecule has the property {', '.join(data.missing_properties)}, which "
                f"{self.name}.condition names",
                "use data with properties, such as qm9, or condition on none, counts or formula",
            )
        return data.statistics

    def build_modules(self, statistics: Statistics, width: int) -> MoleculeModules:
        return MoleculeModules(self.config, statistics, width)

    def teacher(self, statistics: Statistics) -> AtomDescriptor:
        return AtomDescriptor(statistics, self.config.geometry)

    def encode_samples(self, samples: Sequence[Any], statistics: Statistics) -> MoleculeBatch:
        return encode(samples, statistics, self.config, self.name)

    def fragment(self, given: Any, statistics: Statistics) -> Fragment:
        from unite_mm_molecule.fragments.part import read_part

        return read_part(given, statistics, self.config, self.name)

    def hold(
        self,
        fragment: Fragment,
        priors: Sequence[PriorSample],
        generators: Sequence[torch.Generator],
        statistics: Statistics,
    ) -> Held:
        from unite_mm_molecule.fragments.hosts import hold_part

        return hold_part(fragment, priors, generators, statistics, self.config, self.name)

    def score_fragment(self, samples: Sequence[Molecule], fragment: Fragment, progress: Progress) -> Score:
        from unite_mm_molecule.metrics.fragments import score_fragment

        return score_fragment(samples, fragment.native.heavy, progress)

    def write(self, samples: Sequence[Molecule], path: Path) -> None:
        from unite_mm_molecule.files.formats import write

        write(samples, path)

    def read(self, path: Path) -> list[Molecule]:
        from unite_mm_molecule.files.formats import read

        return read(path)

    def read_text(self, text: str) -> Molecule:
        """The molecule of a SMILES, with hydrogens and a geometry from RDKit."""
        from unite_mm_molecule.data.encode import smiles_sample

        return smiles_sample(text, self.config.geometry)

    def save_picture(self, samples: Sequence[Molecule], path: Path) -> None:
        from unite_mm_molecule.files.pictures import save_picture

        save_picture(samples, path)

    def save_pairs_picture(self, inputs: Sequence[Molecule], outputs: Sequence[Molecule], path: Path) -> None:
        from unite_mm_molecule.data.encode import arrange
        from unite_mm_molecule.files.pictures import save_pairs_picture

        save_pairs_picture(arrange(inputs, self.config), outputs, path)

    def report_views(self) -> ReportViews:
        from unite_mm_molecule.report.views import MoleculeViews

        return MoleculeViews(self.config)

    def score_reconstruction(
        self, inputs: Sequence[Molecule], outputs: Sequence[Molecule], progress: Progress, workers: int = 0
    ) -> Score:
        from unite_mm_molecule.data.encode import arrange
        from unite_mm_molecule.metrics.reconstruction import score_reconstruction

        return score_reconstruction(arrange(inputs, self.config), outputs, progress, workers)

    def score_generation(
        self, samples: Sequence[Molecule], reference: Reference | None, progress: Progress, workers: int = 0
    ) -> Score:
        from unite_mm_molecule.metrics.generation import score_generation

        assert reference is None or isinstance(reference, MoleculeData)
        score = score_generation(samples, reference, progress, workers, self.config.metrics)
        if self.config.hydrogens != "attached":
            return score
        return score.model_copy(update={"notes": (*score.notes, ATTACHED_NOTE)})

    def held_out_conditions(self, reference: Reference, most: int) -> Mapping[str, Sequence[float]] | None:
        from unite_mm_molecule.metrics.conditioned import held_out_conditions

        assert isinstance(reference, MoleculeData)
        return held_out_conditions(reference, self.config, most)

    def score_conditioned(
        self,
        samples: Sequence[Molecule],
        conditions: Mapping[str, Sequence[float]],
        reference: Reference,
        progress: Progress,
        workers: int = 0,
    ) -> Score:
        from unite_mm_molecule.metrics.conditioned import score_conditioned

        assert isinstance(reference, MoleculeData)
        return score_conditioned(samples, conditions, reference, self.config, progress, workers)

    def score_adherence(
        self, samples: Sequence[Molecule], conditions: torch.Tensor, spec: ConditionSpec
    ) -> tuple[Metric, ...]:
        from unite_mm_molecule.metrics.adherence import score_adherence

        return score_adherence(samples, conditions, spec, self.config)
