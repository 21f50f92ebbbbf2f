"""Makeshift molecules that contain a part: in them it is tokenized for the latents that generation holds.

The latents of a part on its own would say that nothing is bonded to it. So a hydrogen gives way to a chain of as many
atoms as are to be added, of the elements that the condition names. Only the part's latents are used; what really grows
is generated.

Dimensions: B molecules, p heavy atoms of the part, n atoms of a molecule, L registers of the batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unite_mm.contract import Fragment, Held, PriorSample, Statistics
from unite_mm.errors import UsageError
from unite_mm_molecule.chemistry import STANDARD_VALENCES, add_hydrogens, sanitized
from unite_mm_molecule.composition import HEAVY_ATOMS
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import random_rotations
from unite_mm_molecule.data.encode import arrange, encode
from unite_mm_molecule.fragments.part import Part
from unite_mm_molecule.molecule import ATOMIC_NUMBERS, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

_BRANCH = 0.25
"""Probability that a further atom begins a substituent of its own."""

_CARBON = 6


def hold_part(
    fragment: Fragment,
    priors: Sequence[PriorSample],
    generators: Sequence[torch.Generator],
    statistics: Statistics,
    config: MoleculeConfig,
    modality: str,
) -> Held:
    """B molecules that contain the part, each turned at random, and which of their registers are its heavy atoms.

    Raises:
        UsageError: no geometry was found.
    """
    part: Part = fragment.native
    molecules, rows = [], []
    for prior, generator in zip(priors, generators, strict=True):
        added = added_elements(part, prior, statistics, config, fragment.registers)
        host, heavy = grow(part, added, generator)
        host = _first_atoms(_complete(host, heavy, part, generator, config), int(prior.mask.sum()), config)
        molecules.append(host)
        rows.append(_registers_of(heavy, host, config))
    batch = encode(molecules, statistics, config, modality)
    mask = torch.zeros_like(batch.registers.mask)
    for row, registers in zip(mask, rows, strict=True):
        row[registers] = True
    return Held(batch, mask)


def added_elements(
    part: Part, prior: PriorSample, statistics: Statistics, config: MoleculeConfig, registers: int
) -> list[int]:
    """Atomic numbers of the heavy atoms beyond the part's: those that the condition counts, else carbon."""
    named: dict[str, Any] = {}
    if prior.condition is not None:
        named = dict(zip(statistics["composition_names"], prior.condition.tolist(), strict=False))
    if HEAVY_ATOMS in named:
        return [_CARBON] * (int(named[HEAVY_ATOMS]) - part.heavy.size)
    if named:
        heavy = [(ATOMIC_NUMBERS[name], int(count)) for name, count in named.items() if name in ATOMIC_NUMBERS]
        return [z for z, count in heavy if z != 1 for _ in range(count - int((part.heavy.numbers == z).sum()))]
    more = int(prior.mask.sum()) - registers
    return [_CARBON] * (max(1, more // 3) if config.hydrogens == "explicit" else more)


def grow(part: Part, added: Sequence[int], generator: torch.Generator) -> tuple[Molecule, list[int]]:
    """The part with further heavy atoms, single-bonded, and the places of the part's atoms.

    Substituents stand behind the atom that they hang on, as in a SMILES; those of the first atom before it.

    Args:
        part: what grows.
        added: atomic numbers.
        generator: draws where and in which order.
    """
    size = part.heavy.size
    room: list[int] = part.hydrogens.tolist()
    kinds: list[int] = part.heavy.numbers.tolist()
    parents: list[int] = []
    numbers = _shuffled(added, generator)
    for number in numbers:
        branch, drawn = torch.rand(2, generator=generator).tolist()
        # An atom of the part is drawn as often as it has hydrogens; a chain goes on from its latest atom with room.
        sites = [index for index in range(size) for _ in range(room[index])]
        chain = [index for index in reversed(range(size, len(room))) if room[index]]
        parent = _parent(number, kinds, sites, chain, branch < _BRANCH, drawn)
        parents.append(parent)
        kinds.append(number)
        room.append(STANDARD_VALENCES.get(number, (1,))[0])
        if parent >= 0:
            room[parent] -= 1
            room[-1] -= 1
    return _in_order(part, numbers, parents)


def _parent(
    number: int, kinds: Sequence[int], sites: Sequence[int], chain: Sequence[int], branch: bool, drawn: float
) -> int:
    """The atom that a further one is bonded to; -1 where none has room. Other elements prefer carbon."""
    on_carbon = {index for index in (*chain, *sites) if _CARBON in (number, kinds[index])}
    for wanted in (on_carbon, {*chain, *sites}):
        near, own = [index for index in chain if index in wanted], [index for index in sites if index in wanted]
        if own and (branch or not near):
            return own[int(drawn * len(own))]
        if near:
            return near[0]
    return -1


def _shuffled(added: Sequence[int], generator: torch.Generator) -> list[int]:
    """In random order, those that end a chain last."""
    order = torch.randperm(len(added), generator=generator).tolist()
    mixed = [added[index] for index in order]
    return sorted(mixed, key=lambda number: STANDARD_VALENCES.get(number, (1,))[0] == 1)


def _in_order(part: Part, added: Sequence[int], parents: Sequence[int]) -> tuple[Molecule, list[int]]:
    size = part.heavy.size
    own: dict[int, list[int]] = {}
    roots: list[int] = []
    for index, parent in enumerate(parents):
        roots.append(parent if parent < size else roots[parent - size])
        own.setdefault(roots[-1], []).append(size + index)
    order: list[int] = []
    for index in range(size):
        branches = own.get(index, [])
        order += [*reversed(branches), index] if index == 0 else [index, *branches]
    order += own.get(-1, [])
    place = {atom: index for index, atom in enumerate(order)}
    new = [[parent, size + index, 1] for index, parent in enumerate(parents) if parent >= 0]
    bonds = np.concatenate([part.heavy.bonds, np.array(new, dtype=np.int64).reshape(-1, 3)])
    bonds = np.array([[*sorted((place[a], place[b])), order] for a, b, order in bonds.tolist()]).reshape(-1, 3)
    numbers = np.concatenate([part.heavy.numbers, np.array(added, dtype=np.int64)])[order]
    charges = np.concatenate([part.heavy.charges, np.zeros(len(added), dtype=np.int64)])[order]
    host = Molecule(numbers, charges, bonds[np.lexsort((bonds[:, 1], bonds[:, 0]))], explicit_hydrogens=False)
    return replace(host, name=part.text), [place[index] for index in range(size)]


def _complete(
    host: Molecule, heavy: Sequence[int], part: Part, generator: torch.Generator, config: MoleculeConfig
) -> Molecule:
    """With hydrogens and, where the model has them, positions: turned at random, the part's own where it has some."""
    if not config.geometry:
        return add_hydrogens(host)
    from rdkit import Chem

    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    mol = Chem.AddHs(sanitized(host))
    given = {} if part.heavy.positions is None else dict(zip(heavy, part.heavy.positions.tolist(), strict=True))
    whole = Molecule.from_rdkit(_embedded(mol, given, seed, part.text), part.text)
    assert whole.positions is not None
    turn = random_rotations(1, generator)[0].double().numpy()
    return replace(whole, positions=whole.positions @ turn.T)


def _embedded(mol: "Mol", given: dict[int, list[float]], seed: int, text: str) -> "Mol":
    """A geometry in which some atoms stand where they are given.

    Raises:
        UsageError: none was found.
    """
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolAlign
    from rdkit.Geometry import Point3D

    parameters: Any = rdDistGeom.ETKDGv3()  # its type stubs have no settable fields
    parameters.randomSeed = seed
    points = {index: Point3D(*point) for index, point in given.items()}
    if points:
        parameters.SetCoordMap(points)
    if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
        parameters.useRandomCoords = True
        if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
            raise UsageError(f"fragment {text}: no geometry was found with atoms added to it")
    if points:
        reference = type(mol)(mol)
        for index, point in points.items():
            reference.GetConformer().SetAtomPosition(index, point)
        rdMolAlign.AlignMol(mol, reference, atomMap=[(index, index) for index in points])
        for index, point in points.items():
            mol.GetConformer().SetAtomPosition(index, point)
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
        for index in points:
            field.AddFixedPoint(index)
        field.Minimize(maxIts=200)
    return mol


def _first_atoms(host: Molecule, most: int, config: MoleculeConfig) -> Molecule:
    """As the model sees it; where hydrogens are atoms, without the last ones that the sample has no registers for."""
    host = arrange([host], config)[0]
    if config.hydrogens != "explicit" or host.size <= most:
        return host
    kept = (host.bonds[:, :2] < most).all(1)
    return replace(
        host,
        numbers=host.numbers[:most],
        charges=host.charges[:most],
        bonds=host.bonds[kept],
        positions=None if host.positions is None else host.positions[:most],
    )


def _registers_of(heavy: Sequence[int], host: Molecule, config: MoleculeConfig) -> list[int]:
    """The registers of the part's heavy atoms, given by their places among all heavy atoms."""
    if config.hydrogens != "explicit":
        return list(heavy)
    places = np.flatnonzero(host.numbers != 1).tolist()
    return [places[index] for index in heavy]
