"""The molecule's parts of the model: layout, tokenizer, decoder, losses, prior, native samples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unite_mm.contract import (
    LatentLayout,
    LossTerm,
    ModalityModules,
    PriorSample,
    Registers,
    SampleRequest,
    Statistics,
)
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch
from unite_mm_molecule.hydrogens import count_table, with_hydrogens
from unite_mm_molecule.model.decoder import DecoderSizes, MoleculeDecoder, MoleculeLogits
from unite_mm_molecule.model.losses import reconstruction_nats, reconstruction_terms
from unite_mm_molecule.model.prior import CompositionPrior, condition_spec
from unite_mm_molecule.model.tokenizer import GraphTokenizer, HydrogenPlaces, HydrogenSum
from unite_mm_molecule.molecule import Molecule


class MoleculeModules(ModalityModules):
    """One register per atom, or per atom with its hydrogens, at the rotary position of its token.

    Args:
        config: the plugin's configuration.
        statistics: elements, charges, the largest molecule, the scale of positions, the histogram of compositions, and
            the properties of training molecules where the denoiser is told any.
        width: width of the trunk.
    """

    def __init__(self, config: MoleculeConfig, statistics: Statistics, width: int) -> None:
        super().__init__()
        self.config = config
        self.elements = np.array(statistics["elements"], dtype=np.int64)
        self.charges = np.array(statistics["charges"], dtype=np.int64)
        self.scale = float(statistics["position_scale"])
        atoms = int(statistics["max_atoms"])
        self.layout = LatentLayout(atoms, config.channels, torch.arange(atoms))
        self.composition_prior = CompositionPrior(statistics)
        self.sizes = self.composition_prior.sizes
        self.condition = condition_spec(statistics)
        types, charges = len(self.elements), len(self.charges)
        attached = config.hydrogens == "attached"
        carried = None
        if attached:
            carried = (HydrogenPlaces if config.hydrogen_matching == "ordered" else HydrogenSum)(width, config.geometry)
        self.tokenizer = GraphTokenizer(types, charges, atoms, width, config.geometry, carried)
        decoder_width = config.decoder_width or width
        sizes = DecoderSizes(
            types=types,
            charges=charges,
            atoms=atoms,
            channels=config.channels,
            width=decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads or max(1, decoder_width // 32),
            geometry=config.geometry,
            rounds=config.refinement_rounds,
            messages=config.refinement_width,
        )
        table = torch.from_numpy(count_table(statistics["elements"], statistics["charges"])) if attached else None
        self.decoder = MoleculeDecoder(sizes, table)

    def losses(self, output: MoleculeLogits, batch: MoleculeBatch) -> dict[str, LossTerm]:
        return reconstruction_terms(output, batch, self.config)

    def nats(self, terms: Mapping[str, LossTerm], batch: MoleculeBatch) -> Tensor:
        return reconstruction_nats(terms, batch, self.config)

    def prior(self, generator: torch.Generator, condition: Tensor | None = None) -> PriorSample:
        return self.prior_for(generator, SampleRequest(condition))

    def prior_for(self, generator: torch.Generator, request: SampleRequest) -> PriorSample:
        """Number of atoms and composition of a training molecule, drawn from the training histogram.

        Where properties are asked for, it is one whose properties lie near; those that are not stay open.

        Raises:
            UsageError: no training molecule has the composition or size asked for.
        """
        registers, condition = self.composition_prior.draw(generator, request)
        return PriorSample(torch.arange(self.layout.registers) < registers, condition)

    def samples(self, output: MoleculeLogits, registers: Registers) -> list[Molecule]:
        """The likeliest element, charge and bond everywhere, each on its own: nothing is repaired or re-drawn."""
        types = self.elements[output.types.argmax(-1).cpu().numpy()]
        charges = self.charges[output.charges.argmax(-1).cpu().numpy()]
        orders = output.bonds.argmax(1).cpu().numpy()
        positions = self._angstrom(output.positions)
        counts = None if output.hydrogen_counts is None else output.hydrogen_counts.cpu().numpy()
        offsets = self._angstrom(output.hydrogen_offsets)
        result = []
        for row, size in enumerate(registers.mask.sum(1).tolist()):
            begin, end = np.nonzero(np.triu(orders[row, :size, :size], 1))
            bonds = np.stack((begin, end, orders[row, begin, end]), axis=1)
            molecule = Molecule(
                numbers=types[row, :size],
                charges=charges[row, :size],
                bonds=bonds.astype(np.int64),
                positions=None if positions is None else positions[row, :size],
                explicit_hydrogens=self.config.hydrogens != "implicit",
            )
            if counts is not None:
                molecule = with_hydrogens(molecule, counts[row, :size], None if offsets is None else offsets[row])
            result.append(molecule)
        return result

    def _angstrom(self, scaled: Tensor | None) -> Any:
        return None if scaled is None else scaled.double().cpu().numpy() * self.scale
