"""The part of a molecule that generated molecules are to contain.

Dimensions: p heavy atoms of the part, R compositions, M counts of a condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unite_mm.contract import Fragment, Statistics
from unite_mm.errors import UsageError
from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import STANDARD_VALENCES, NoGeometry, add_hydrogens, embed, rdkit_installed, sanitized
from unite_mm_molecule.composition import HEAVY_ATOMS
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.encode import encode, native
from unite_mm_molecule.files.formats import SUFFIXES, read
from unite_mm_molecule.files.records import BadRecord
from unite_mm_molecule.files.smiles import read_smiles
from unite_mm_molecule.files.text import text_suffix
from unite_mm_molecule.molecule import ATOMIC_NUMBERS, Molecule

_BONDS_OF_AN_ATOM = 2
"""Bonds that an added atom may have to the part, each of which takes a hydrogen of it."""


@dataclass(frozen=True)
class Part:
    """Heavy atoms of a molecule, and the hydrogens that may give way to what grows.

    Attributes:
        heavy: p heavy atoms with their bonds; with positions where these were given.
        hydrogens: (p,) hydrogens of each atom.
        text: how messages call it.
    """

    heavy: Molecule
    hydrogens: NDArray[np.int64]
    text: str

    def fits(self, names: Sequence[str], counts: Tensor) -> Tensor:
        """(R,) bool: which compositions (R, M) of whole molecules have room for the part.

        They must have its heavy atoms, as many rings and multiple bonds, and no fewer hydrogens than the added atoms
        could leave. The counts may be those of every element, of heavy atoms and hydrogens, or none.
        """
        columns = dict(zip(names, counts.long().unbind(1), strict=False))
        fits = torch.ones(len(counts), dtype=torch.bool)
        own = int(self.hydrogens.sum())
        if HEAVY_ATOMS in columns:
            added = columns[HEAVY_ATOMS] - self.heavy.size
            most, hydrogens = own + 2 * added, columns["hydrogens"]
            fits &= added > 0
        elif columns:
            added, most = torch.zeros_like(counts[:, 0].long()), torch.full_like(counts[:, 0].long(), own)
            for name, column in columns.items():
                number = ATOMIC_NUMBERS.get(name, 1)
                if number != 1:
                    more = column - int((self.heavy.numbers == number).sum())
                    fits &= more >= 0
                    added = added + more
                    most = most + more * (STANDARD_VALENCES.get(number, (4,))[-1] - 2)
            hydrogens = columns.get("H", torch.zeros_like(added))
            fits &= added > 0
        else:
            return fits
        return fits & (hydrogens <= most) & (hydrogens >= own - _BONDS_OF_AN_ATOM * added)


def read_part(given: Any, statistics: Statistics, config: MoleculeConfig, modality: str) -> Fragment:
    """The part that a user gives: a molecule, a SMILES, an RDKit molecule or the name of a file.

    Where hydrogens are atoms, its hydrogens take registers like its heavy atoms, less the one that gives way.

    Raises:
        UsageError: it cannot be read, does not fit the model, is in pieces or leaves nothing to grow from.
    """
    if not rdkit_installed():
        raise UsageError("fragments need RDKit", "pip install rdkit")
    text = given.strip() if isinstance(given, str) else "of the caller"
    molecule = _read(text) if isinstance(given, str) else native(given, 0, geometry=False)
    if problem := molecule.flaw or molecule.nonsense():
        raise UsageError(f"fragment {text}: {problem}")
    whole = _whole(replace(molecule, name=f"fragment {text}"), text)
    encode([_with_geometry(whole, text) if config.geometry else whole], statistics, config, modality)
    part = _without_hydrogens(whole, text)
    _check(part, statistics, config)
    own = int(part.hydrogens.sum()) - 1 if config.hydrogens == "explicit" else 0
    return Fragment(part, part.heavy.size + own)


def _read(text: str) -> Molecule:
    """The first molecule of a file, or that of a SMILES."""
    if text_suffix(Path(text)) in SUFFIXES:
        return read(Path(text))[0]
    if not text:
        raise UsageError("fragment: nothing given", "give a SMILES or a file")
    try:
        return read_smiles(text, text)
    except BadRecord as error:
        raise UsageError(f"fragment {error}", "give a SMILES or a file") from error


def _whole(molecule: Molecule, text: str) -> Molecule:
    """The molecule with all its hydrogens, sound and in one piece."""
    from rdkit import Chem, rdBase

    try:
        with rdBase.BlockLogs():
            whole = add_hydrogens(molecule)
            mol = sanitized(whole)
    except ValueError as error:  # the base of every chemistry error of RDKit
        raise UsageError(f"fragment {text}: not chemically sound: {first_line(error)}") from error
    if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        raise UsageError(f"fragment {text}: an atom is short of a hydrogen", "give it with all its hydrogens")
    pieces = len(Chem.GetMolFrags(mol))
    if pieces != 1:
        raise UsageError(f"fragment {text}: {pieces} pieces", "give a part that hangs together")
    return whole


def _with_geometry(whole: Molecule, text: str) -> Molecule:
    if whole.positions is not None:
        return whole
    from rdkit import rdBase

    try:
        with rdBase.BlockLogs():
            return Molecule.from_rdkit(embed(sanitized(whole))[0], whole.name)
    except NoGeometry as error:
        raise UsageError(f"fragment {text}: {error}") from error


def _without_hydrogens(whole: Molecule, text: str) -> Part:
    heavy = whole.numbers != 1
    begin, end, orders = whole.bonds.T
    place = np.cumsum(heavy) - 1
    kept = heavy[begin] & heavy[end]
    hydrogens = np.bincount(begin[~heavy[end]], minlength=whole.size) + np.bincount(
        end[~heavy[begin]], minlength=whole.size
    )
    molecule = replace(
        whole,
        numbers=whole.numbers[heavy],
        charges=whole.charges[heavy],
        bonds=np.column_stack([place[begin], place[end], orders])[kept],
        positions=None if whole.positions is None else whole.positions[heavy],
        explicit_hydrogens=False,
    )
    return Part(molecule, hydrogens[heavy], text)


def _check(part: Part, statistics: Statistics, config: MoleculeConfig) -> None:
    if not part.heavy.size:
        raise UsageError(f"fragment {part.text}: holds no heavy atom", "give one to grow from")
    if not part.hydrogens.any():
        raise UsageError(f"fragment {part.text}: no atom has a hydrogen", "what grows takes the place of one")
    rows = torch.tensor(statistics["composition"])[:, :-1]
    largest = int(rows[:, 0].max())
    registers = part.heavy.size + (int(part.hydrogens.sum()) - 1 if config.hydrogens == "explicit" else 0)
    if registers >= largest:
        raise UsageError(
            f"fragment {part.text}: takes {registers} registers, and the largest training molecule has {largest}",
            "give a smaller one",
        )
