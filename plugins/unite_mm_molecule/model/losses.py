"""Reconstruction losses of a molecule, one value per molecule.

Dimensions: B batch, L atoms of the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unite_mm.contract import LossTerm
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch
from unite_mm_molecule.model.decoder import MoleculeLogits


def reconstruction_terms(output: MoleculeLogits, batch: MoleculeBatch, config: MoleculeConfig) -> dict[str, LossTerm]:
    """Cross-entropy of elements, charges and bonds, and L1 of positions.

    Elements, charges and positions are means over atoms; bonds are summed over the pairs of atoms and divided by the
    number of atoms, since a molecule has about as many bonds as atoms, however many pairs.
    """
    mask = batch.registers.mask
    count = mask.sum(1)

    def atoms(values: Tensor) -> Tensor:
        return (values * mask).sum(1) / count

    types = F.cross_entropy(output.types.transpose(1, 2), batch.types, reduction="none")
    charges = F.cross_entropy(output.charges.transpose(1, 2), batch.charges, reduction="none")
    terms = {
        "elements": LossTerm(atoms(types), config.type_weight),
        "charges": LossTerm(atoms(charges), config.charge_weight),
        "bonds": LossTerm(bond_loss(output.bonds, batch.bonds, mask) / count, config.bond_weight),
    }
    if output.positions is not None:
        distance = (output.positions - batch.positions).abs().mean(-1)
        terms["positions"] = LossTerm(atoms(distance), config.position_weight)
    return terms


def bond_loss(logits: Tensor, bonds: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy summed over the pairs of each molecule: logits (B, 4, L, L), bonds (B, L, L) -> (B,)."""
    length = mask.shape[1]
    first, second = torch.triu_indices(length, length, 1, device=mask.device)
    pairs = F.cross_entropy(logits[:, :, first, second], bonds[:, first, second], reduction="none")
    return (pairs * (mask[:, first] & mask[:, second])).sum(1)
