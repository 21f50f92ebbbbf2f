"""Reconstruction losses of a molecule, one value per molecule.

Dimensions: B batch, L registers of the batch, S = 4 places for hydrogens of each, P = 24 orders of these places.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from unite_mm.contract import LossTerm
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch
from unite_mm_molecule.hydrogens import SLOTS
from unite_mm_molecule.model.decoder import MoleculeLogits


def reconstruction_terms(output: MoleculeLogits, batch: MoleculeBatch, config: MoleculeConfig) -> dict[str, LossTerm]:
    """Cross-entropy of elements, charges and bonds, L1 of positions, of attached hydrogens, of distances.

    Elements, charges and positions are means over atoms; bonds are summed over the pairs of atoms and divided by the
    number of atoms, since a molecule has about as many bonds as atoms, however many pairs. Attached hydrogens are
    compared as `hydrogen_matching` says and summed over those of an atom. Distances are those between bonded atoms and
    between second neighbours, hydrogens among them, and their loss is the mean over these pairs. Molecules that
    are `misplaced` are compared as they were before refinement, and their distances not at all.
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
    if output.positions is None:
        return terms
    away = misplaced(output, batch)
    output = before_refinement(output, away)
    assert output.positions is not None
    distance = (output.positions - batch.positions).abs().mean(-1)
    terms["positions"] = LossTerm(atoms(distance), config.position_weight)
    matched = None
    if output.hydrogen_offsets is not None:
        assert batch.hydrogen_counts is not None and batch.hydrogen_offsets is not None
        best = config.hydrogen_matching == "best"
        loss, matched = match_hydrogens(output.hydrogen_offsets, batch.hydrogen_offsets, batch.hydrogen_counts, best)
        terms["hydrogens"] = LossTerm(atoms(loss), config.hydrogen_weight)
    if config.distance_weight:
        terms["distances"] = LossTerm(distance_loss(output, batch, matched) * ~away, config.distance_weight)
    return terms


MISPLACED = 0.5
"""Mean absolute error of the coordinates of a molecule, in scaled units, above which it counts as misplaced: positions
that say nothing have about 1."""


def misplaced(output: MoleculeLogits, batch: MoleculeBatch) -> Tensor:
    """Molecules (B,), bool, that were decoded far from where they are; none where positions are not refined.

    Distances have no direction. A decoder that learns from them first makes molecules of its own, which lie in any
    direction, and takes hundreds of steps to turn them; one that refines what it has not yet placed does so, too.
    """
    if output.unrefined is None:
        return torch.zeros(len(batch.positions), dtype=torch.bool, device=batch.positions.device)
    mask = batch.registers.mask
    error = (output.unrefined[0].detach() - batch.positions).abs().mean(-1)  # (B, L)
    return (error * mask).sum(1) / mask.sum(1) > MISPLACED


def before_refinement(output: MoleculeLogits, which: Tensor) -> MoleculeLogits:
    """The same with the positions and offsets of some molecules (B,) as they were before refinement."""
    if output.unrefined is None or output.positions is None:
        return output
    positions, offsets = output.unrefined
    if offsets is not None and output.hydrogen_offsets is not None:
        offsets = torch.where(which[:, None, None, None], offsets, output.hydrogen_offsets)
    positions = torch.where(which[:, None, None], positions, output.positions)
    return replace(output, positions=positions, hydrogen_offsets=offsets)


VALUES = {"positions": 3, "hydrogens": 3, "distances": 1}
"""Terms that are errors of numbers, by the numbers of each atom that they are means over."""


def reconstruction_nats(terms: Mapping[str, LossTerm], batch: MoleculeBatch, config: MoleculeConfig) -> Tensor:
    """What the weighted terms cost each molecule in nats, (B,): all are means over atoms.

    Cross-entropies count as they are, errors of numbers as the logarithm of a Laplace distribution.
    """
    costs = [
        term.weight * term.values.float() * (VALUES[name] / config.laplace_scale if name in VALUES else 1.0)
        for name, term in terms.items()
    ]
    return torch.stack(costs).sum(0) * batch.registers.mask.sum(1)


def bond_loss(logits: Tensor, bonds: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy summed over the pairs of each molecule: logits (B, 4, L, L), bonds (B, L, L) -> (B,)."""
    length = mask.shape[1]
    first, second = torch.triu_indices(length, length, 1, device=mask.device)
    pairs = F.cross_entropy(logits[:, :, first, second], bonds[:, first, second], reduction="none")
    return (pairs * (mask[:, first] & mask[:, second])).sum(1)


def match_hydrogens(found: Tensor, true: Tensor, counts: Tensor, best: bool = False) -> tuple[Tensor, Tensor]:
    """L1 of the hydrogens of each atom, and the true ones in the order in which they were compared.

    Args:
        found: (B, L, S, 3) decoded offsets; the first `counts` places are compared.
        true: (B, L, S, 3), the first `counts` of each.
        counts: (B, L) int64.
        best: compare under the matching that makes the loss of each atom least; else place by place.

    Returns:
        (B, L): mean over the coordinates, summed over the hydrogens; and (B, L, S, 3).
    """
    used = torch.arange(SLOTS, device=counts.device) < counts[..., None]  # (B, L, S)
    if not best:
        return ((found - true).abs().mean(-1) * used).sum(-1), true
    orders = _orders(found.device)  # (P, S)
    costs = (found.unsqueeze(-2) - true.unsqueeze(-3)).abs().mean(-1)  # (B, L, place, hydrogen)
    both, either = used[..., :, None] & used[..., None, :], used[..., :, None] ^ used[..., None, :]
    costs = (costs * both).masked_fill(either, 1e6)  # unused places go with unused hydrogens
    places = torch.arange(SLOTS, device=found.device)
    loss, least = costs[..., places, orders].sum(-1).min(-1)
    chosen = orders[least]  # (B, L, S): the hydrogen of each place
    return loss, true.gather(2, chosen[..., None].expand_as(true))


def distance_loss(output: MoleculeLogits, batch: MoleculeBatch, hydrogens: Tensor | None) -> Tensor:
    """L1 of the distances between bonded atoms and second neighbours, the mean over these pairs of each molecule.

    Args:
        output: decoded.
        batch: true.
        hydrogens: (B, L, S, 3) true offsets of the attached hydrogens in the order of the decoded ones; None: none.

    Returns:
        (B,) in scaled units; 0 for a molecule without such pairs.
    """
    assert output.positions is not None
    bonded = (batch.bonds > 0).to(output.positions.dtype)  # (B, L, L)
    apart = 1 - torch.eye(bonded.shape[1], device=bonded.device)
    near = ((bonded + bonded @ bonded) > 0) * apart
    loss = (distances(output.positions, output.positions) - distances(batch.positions, batch.positions)).abs()
    total, pairs = (loss * near).sum((1, 2)) / 2, near.sum((1, 2)) / 2
    if hydrogens is not None and output.hydrogen_offsets is not None and batch.hydrogen_counts is not None:
        used = (torch.arange(SLOTS, device=bonded.device) < batch.hydrogen_counts[..., None]).to(bonded.dtype)
        length = bonded.shape[1]
        near = used[..., None] * (bonded + torch.eye(length, device=bonded.device))[:, :, None]  # (B, L, S, L)
        places = output.positions[:, :, None] + output.hydrogen_offsets
        goals = batch.positions[:, :, None] + hydrogens
        loss = distances(places, output.positions[:, None]) - distances(goals, batch.positions[:, None])
        total, pairs = total + (loss.abs() * near).sum((1, 2, 3)), pairs + near.sum((1, 2, 3))
        siblings = used[..., :, None] * used[..., None, :] * (1 - torch.eye(SLOTS, device=bonded.device))
        loss = distances(places, places) - distances(goals, goals)
        total = total + (loss.abs() * siblings).sum((1, 2, 3)) / 2
        pairs = pairs + siblings.sum((1, 2, 3)) / 2
    return total / pairs.clamp_min(1)


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Distances (..., N, M) of points (..., N, 3) to points (..., M, 3), smooth where they coincide."""
    return ((one.unsqueeze(-2) - other.unsqueeze(-3)).square().sum(-1) + 1e-8).sqrt()


@cache
def _orders(device: torch.device) -> Tensor:
    return torch.tensor(list(permutations(range(SLOTS))), device=device)
