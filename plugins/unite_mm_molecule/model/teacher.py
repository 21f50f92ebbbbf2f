"""A fixed descriptor of every atom, as a teacher that needs no weights: what it is bound to, and where it is.

The surroundings are hashed in rounds of message passing, as in circular fingerprints (Rogers and Hahn 2010): after
round r the hash of an atom tells its surroundings up to r bonds apart. Every hash becomes a vector of signs, so that
atoms with equal surroundings up to r bonds agree in the parts of rounds 0 to r, and in others by chance alone.

Dimensions: B batch, L atoms of the batch, F features.
"""

import math

import torch
from torch import Tensor

from unite_mm.contract import Statistics, Teacher
from unite_mm_molecule.data.batch import MoleculeBatch

ROUNDS = 4
"""Of hashing: the atom itself, and surroundings up to three bonds apart."""

SIGNS = 16
"""Signs that each round's hash becomes."""

FREQUENCIES = (0.5, 1.0, 2.0, 4.0)
"""Of the sines and cosines of coordinates, in radians per scaled unit; below them positions are blurred."""

FIRST, SECOND, STEP = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15, -0x61C8864680B583EB
"""The constants of splitmix64 as signed numbers; products of int64 wrap around."""


def _shifted(values: Tensor, bits: int) -> Tensor:
    """A logical shift to the right."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def mix(values: Tensor) -> Tensor:
    """Hash int64 values of any shape, each on its own."""
    values = (values ^ _shifted(values, 30)) * FIRST
    values = (values ^ _shifted(values, 27)) * SECOND
    return values ^ _shifted(values, 31)


class AtomDescriptor(Teacher):
    """Signs of the hashed surroundings, then sines and cosines of the coordinates.

    Args:
        statistics: elements and charges that the batches' classes stand for.
        geometry: whether atoms have positions.
    """

    name = "atom descriptors"

    def __init__(self, statistics: Statistics, geometry: bool) -> None:
        self.elements = torch.tensor(statistics["elements"], dtype=torch.int64)
        self.charges = torch.tensor(statistics["charges"], dtype=torch.int64)
        self.geometry = geometry
        self.width = ROUNDS * SIGNS + (6 * len(FREQUENCIES) if geometry else 0)

    def __call__(self, batch: MoleculeBatch) -> Tensor:
        """(B, L, F)."""
        hashes = self.hashes(batch)  # (B, L, rounds)
        which = STEP * torch.arange(1, SIGNS + 1, device=hashes.device)
        signs = torch.where(mix(hashes[..., None] + which) < 0, -1.0, 1.0).flatten(2)
        if not self.geometry:
            return signs
        rates = torch.tensor(FREQUENCIES, device=hashes.device)
        angles = (batch.positions.float()[..., None] * rates).flatten(2)
        return torch.cat((signs, math.sqrt(2) * angles.sin(), math.sqrt(2) * angles.cos()), dim=-1)

    def hashes(self, batch: MoleculeBatch) -> Tensor:
        """Hashes (B, L, rounds), int64; independent of the order of the atoms."""
        mask, device = batch.registers.mask, batch.types.device
        atom = self.elements.to(device)[batch.types] * 1000 + self.charges.to(device)[batch.charges]
        if batch.hydrogen_counts is not None:
            atom = atom * 10 + batch.hydrogen_counts
        bonded = (batch.bonds > 0) & mask[:, None, :] & mask[:, :, None]
        rounds = [mix(atom)]
        for number in range(1, ROUNDS):
            messages = mix(rounds[-1][:, None, :] + STEP * batch.bonds) * bonded
            rounds.append(mix(rounds[-1] * FIRST + messages.sum(2) + number))
        return torch.stack(rounds, dim=-1)
