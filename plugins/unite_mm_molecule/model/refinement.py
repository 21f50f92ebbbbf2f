"""Refinement of decoded positions: rounds of equivariant message passing over the decoded graph.

A decoded graph is right long before its bond lengths are, and local geometry is nearly a function of the graph. Every
update is a sum of difference vectors times scalars that depend on distances and features alone, so that turning or
shifting the input turns or shifts the output (as in E(n)-equivariant networks, arXiv 2102.09844).

Dimensions: B batch, L registers of the batch, S = 4 places for hydrogens of each, W width of the decoder, F width of
the messages.
"""

import torch
from torch import Tensor, nn

from unite_mm_molecule.hydrogens import SLOTS

BOND_CLASSES = 4
"""No bond, single, double, triple."""
_BASES = 24
_NEAREST, _FARTHEST, _BASIS_WIDTH = 0.4, 4.0, 0.16
"""Centres of the Gaussians of distance, and their width, in scaled units."""


class Refinement(nn.Module):
    """Corrects positions of atoms, and of the hydrogens that ride on them, in a few rounds.

    Args:
        width: W.
        hidden: F.
        rounds: how many.
        attached: whether atoms carry hydrogens.
    """

    def __init__(self, width: int, hidden: int, rounds: int, attached: bool) -> None:
        super().__init__()
        self.hidden = hidden
        self.atoms = nn.Linear(width, hidden)
        self.hydrogens = nn.Linear(width, SLOTS * hidden) if attached else None
        self.rounds = nn.ModuleList(_Round(hidden, attached, step == rounds - 1) for step in range(rounds))

    def forward(
        self, x: Tensor, positions: Tensor, offsets: Tensor | None, bonds: Tensor, counts: Tensor | None, mask: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Corrected positions and offsets.

        Args:
            x: (B, L, W) output of the decoder's blocks.
            positions: (B, L, 3) in scaled units.
            offsets: (B, L, S, 3) of the hydrogens, relative to their atoms; None: none ride.
            bonds: (B, 4, L, L) logits of the bond orders; not trained by what follows.
            counts: (B, L) int64, hydrogens of each atom; only these send messages.
            mask: (B, L) bool, registers in use.
        """
        orders = bonds.detach().float().softmax(1).permute(0, 2, 3, 1)  # (B, L, L, 4)
        orders = orders * (mask[:, :, None] & mask[:, None, :])[..., None]
        atoms, hydrogens, present = self.atoms(x), None, None
        if self.hydrogens is not None:
            assert offsets is not None and counts is not None
            hydrogens = self.hydrogens(x).unflatten(-1, (SLOTS, self.hidden))
            present = (torch.arange(SLOTS, device=counts.device) < counts[..., None])[..., None].to(x.dtype)
        pairs = mask[:, None, :] & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)  # (B, L, L)
        for step in self.rounds:
            atoms, positions, hydrogens, offsets = step(
                atoms, positions, hydrogens, offsets, orders, pairs, mask, present
            )
        return positions, offsets


class _Round(nn.Module):
    """One round: messages between all atoms, from all atoms to each hydrogen, and between hydrogens of one atom.

    The last round moves positions alone: no one would read the features it left.
    """

    def __init__(self, hidden: int, attached: bool, last: bool) -> None:
        super().__init__()
        self.between_atoms = _Messages(hidden, BOND_CLASSES)
        self.node = None if last else _update(2 * hidden, hidden)
        if attached:
            self.to_hydrogens = _Messages(hidden, BOND_CLASSES + 1)
            self.between_hydrogens = _Messages(hidden, 0)
            self.from_hydrogens = None if last else nn.Linear(hidden, hidden)
            self.hydrogen_node = None if last else _update(3 * hidden, hidden)

    def forward(
        self,
        atoms: Tensor,
        positions: Tensor,
        hydrogens: Tensor | None,
        offsets: Tensor | None,
        orders: Tensor,
        pairs: Tensor,
        mask: Tensor,
        present: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        messages, moves = self.between_atoms(atoms, atoms[:, None], positions, positions[:, None], orders, pairs)
        before = hydrogens
        if hydrogens is not None and offsets is not None and present is not None:
            hydrogens, offsets = self._hydrogens(
                atoms, positions, hydrogens, offsets, orders, mask, present[..., 0] > 0
            )
        if self.node is not None:
            if before is not None and self.from_hydrogens is not None:
                messages = messages + (self.from_hydrogens(before) * present).sum(2)
            atoms = atoms + self.node(torch.cat((atoms, messages), dim=-1))
        return atoms, positions + moves, hydrogens, offsets

    def _hydrogens(
        self,
        atoms: Tensor,
        positions: Tensor,
        hydrogens: Tensor,
        offsets: Tensor,
        orders: Tensor,
        mask: Tensor,
        present: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """New features (B, L, S, F) and offsets of the hydrogens; their own atom is among those that they hear."""
        length = mask.shape[1]
        own = torch.eye(length, device=mask.device, dtype=orders.dtype).expand(len(mask), length, length)
        edges = torch.cat((orders, own[..., None]), dim=-1)[:, :, None]  # (B, L, 1, L, 5)
        places = positions[:, :, None] + offsets
        heard, moves = self.to_hydrogens(
            hydrogens, atoms[:, None, None], places, positions[:, None, None], edges, mask[:, None, None, :]
        )
        others = present[:, :, None, :] & ~torch.eye(SLOTS, dtype=torch.bool, device=mask.device)
        siblings, pushes = self.between_hydrogens(
            hydrogens, hydrogens[:, :, None], offsets, offsets[:, :, None], None, others
        )
        if self.hydrogen_node is not None:
            hydrogens = hydrogens + self.hydrogen_node(torch.cat((hydrogens, heard, siblings), dim=-1))
        return hydrogens, offsets + moves + pushes


class _Messages(nn.Module):
    """Messages from nodes j to nodes i, summed over j, and the moves of i along the differences that they ask for."""

    centres: Tensor

    def __init__(self, hidden: int, edges: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(hidden, hidden)
        self.sender = nn.Linear(hidden, hidden, bias=False)
        self.edge = nn.Linear(edges + _BASES, hidden, bias=False)
        self.out = nn.Linear(hidden, hidden)
        self.move = nn.Linear(hidden, 1)
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)
        self.register_buffer("centres", torch.linspace(_NEAREST, _FARTHEST, _BASES), persistent=False)

    def forward(
        self, receivers: Tensor, senders: Tensor, here: Tensor, there: Tensor, edges: Tensor | None, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Messages (..., F) and moves (..., 3) of the receivers.

        Args:
            receivers: (..., F).
            senders: (..., J, F), or what can be expanded to that.
            here: (..., 3) positions of the receivers.
            there: (..., J, 3) of the senders.
            edges: (..., J, E) features of the pairs; None: none.
            mask: (..., J) bool, pairs that exist.
        """
        difference = here.unsqueeze(-2).float() - there.float()
        distance = (difference.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        bases = torch.exp(-((distance - self.centres) / _BASIS_WIDTH).square() / 2)
        pair = bases if edges is None else torch.cat((edges.expand(*bases.shape[:-1], -1), bases), dim=-1)
        hidden = self.receiver(receivers).unsqueeze(-2) + self.sender(senders) + self.edge(pair)
        messages = nn.functional.silu(self.out(nn.functional.silu(hidden)))
        messages = messages * mask[..., None]
        scalars = self.move(messages).float() * mask[..., None]
        return messages.sum(-2), (difference / (distance + 0.5) * scalars).sum(-2)


def _update(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
