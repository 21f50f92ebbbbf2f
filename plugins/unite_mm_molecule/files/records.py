"""What sample files of every format have in common: a record, what may be wrong with it, and whose hydrogens it has.

A file holds all atoms; its note on hydrogens tells a later reader which are the molecule's own: `explicit`: all;
`implicit`: all, others are missing and were not added; `added N`: the first N atoms, the rest was added for the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unite_mm_molecule.chemistry import add_hydrogens, rdkit_installed
from unite_mm_molecule.molecule import ATOMIC_NUMBERS, Molecule


class BadRecord(ValueError):
    """A record that cannot be understood; the message says why."""


class UnknownElement(BadRecord):
    """A record with an element that the plugin does not know.

    Args:
        element: how the file names it.
    """

    def __init__(self, element: str) -> None:
        super().__init__(f"unknown element {element!r}; known are {', '.join(ATOMIC_NUMBERS)}")
        self.element = element


class NeedsRdkit(Exception):
    """A record of a kind that is left to RDKit; the message names the kind."""


@dataclass(frozen=True)
class Record:
    """One molecule of a file.

    Attributes:
        molecule: all atoms of the record, marked as having explicit hydrogens.
        hydrogens: the note on hydrogens; empty in files of other programs.
        doublets: whether it marks atoms as radicals in the way of old MOL files.
    """

    molecule: Molecule
    hydrogens: str = ""
    doublets: bool = False


def with_hydrogens(sample: Molecule) -> Record:
    """The record of a sample: its implicit hydrogens are added where RDKit is installed and can tell them."""
    if sample.explicit_hydrogens:
        return Record(sample, "explicit")
    if rdkit_installed():
        from rdkit import rdBase

        with rdBase.BlockLogs():
            try:
                return Record(add_hydrogens(sample), f"added {sample.size}")
            except ValueError:  # not chemically sound: its hydrogens are unknown
                pass
    return Record(sample, "implicit")


def without_added_hydrogens(records: Sequence[Record]) -> list[Molecule]:
    """The samples of a file, the inverse of `with_hydrogens`.

    Without a note, hydrogens are explicit if any such record of the file has one.

    Raises:
        BadRecord: a note is not one that `with_hydrogens` writes.
    """
    foreign = any((record.molecule.numbers == 1).any() for record in records if not record.hydrogens)
    default = "explicit" if foreign else "implicit"
    return [_own_atoms(record.molecule, record.hydrogens or default) for record in records]


def _own_atoms(molecule: Molecule, hydrogens: str) -> Molecule:
    kind, _, count = hydrogens.partition(" ")
    if kind == "explicit":
        return molecule
    if kind == "implicit":
        return replace(molecule, explicit_hydrogens=False)
    if kind != "added" or not count.isdecimal() or int(count) > molecule.size:
        raise BadRecord(f"unknown note on hydrogens: {hydrogens!r}")
    own = int(count)
    return replace(
        molecule,
        numbers=molecule.numbers[:own],
        charges=molecule.charges[:own],
        bonds=molecule.bonds[(molecule.bonds[:, :2] < own).all(axis=1)],
        positions=None if molecule.positions is None else molecule.positions[:own],
        explicit_hydrogens=False,
    )
