"""What sample files of every format have in common: a record, what may be wrong with it, and whose hydrogens it has.

A file holds all atoms; its note on hydrogens tells a later reader which are the molecule's own: `explicit`: all;
`implicit`: all, others are missing and were not added; `added N`: the first N atoms, the rest was added for the file.
Files of other programs have no such note: there each record is judged by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unite_mm_molecule.chemistry import add_hydrogens, rdkit_installed
from unite_mm_molecule.metrics.validity import stable_atoms
from unite_mm_molecule.molecule import Molecule


class BadRecord(ValueError):
    """A record that cannot be understood; the message says why."""


class UnknownElement(BadRecord):
    """A record with an atom that is no element: a dummy, a query, a name that does not exist.

    Args:
        element: how the file names it.
        where: begins the message.
    """

    def __init__(self, element: str, where: str = "") -> None:
        super().__init__(f"{where}unknown element {element[:20]!r}")
        self.element = element[:20]


class NeedsRdkit(Exception):
    """A record of a kind that is left to RDKit; the message names the kind."""


@dataclass(frozen=True)
class Record:
    """One molecule of a file.

    Attributes:
        molecule: all atoms of the record, marked as having explicit hydrogens.
        hydrogens: the note on hydrogens; empty in files of other programs.
    """

    molecule: Molecule
    hydrogens: str = ""


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
    """The samples of a file, the inverse of `with_hydrogens`; a record with a note that makes no sense is flawed.

    Without a note the hydrogens of a record are explicit if it has some, implicit if it has none or only such as RDKit
    keeps when it removes hydrogens (that of an imine, say). A record whose valences are filled without any hydrogen
    goes with the others of its file.
    """
    found = [_hydrogens(record) for record in records]
    usual = "explicit" if "explicit" in found or "implicit" not in found else "implicit"
    return [_own_atoms(record.molecule, kind or usual) for record, kind in zip(records, found, strict=True)]


def _hydrogens(record: Record) -> str:
    """The note on hydrogens of a record, or what its atoms say; empty where either would be right."""
    molecule = record.molecule
    if record.hydrogens or molecule.flaw:
        return record.hydrogens
    full = stable_atoms(molecule) == molecule.size
    if not (molecule.numbers == 1).any():
        return "" if full else "implicit"
    return "explicit" if full or not _only_kept_hydrogens(molecule) else "implicit"


def _only_kept_hydrogens(molecule: Molecule) -> bool:
    """Whether all hydrogens are such as RDKit's `RemoveHs` leaves.

    These are the hydrogen of an X-H with X=Y and no other bond, which holds the stereo of the double bond, and those of
    H2, charged ones, bridging ones and lone ones.
    """
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(molecule.size)]
    for begin, end, order in molecule.bonds.tolist():
        neighbours[begin].append((end, order))
        neighbours[end].append((begin, order))
    for atom, (number, charge) in enumerate(zip(molecule.numbers.tolist(), molecule.charges.tolist(), strict=True)):
        if number != 1 or charge or len(neighbours[atom]) != 1:
            continue
        parent = neighbours[atom][0][0]
        orders = sorted(order for _, order in neighbours[parent])
        if molecule.numbers[parent] != 1 and orders != [1, 2]:
            return False
    return True


def _own_atoms(molecule: Molecule, hydrogens: str) -> Molecule:
    kind, _, count = hydrogens.partition(" ")
    if kind == "explicit" or molecule.flaw:
        return molecule
    if kind == "implicit":
        return replace(molecule, explicit_hydrogens=False)
    if kind != "added" or not count.isdecimal() or len(count) > 9 or int(count) > molecule.size:
        return Molecule.flawed(f"unknown note on hydrogens: {hydrogens[:40]!r}", molecule.name)
    own = int(count)
    return replace(
        molecule,
        numbers=molecule.numbers[:own],
        charges=molecule.charges[:own],
        bonds=molecule.bonds[(molecule.bonds[:, :2] < own).all(axis=1)],
        positions=None if molecule.positions is None else molecule.positions[:own],
        explicit_hydrogens=False,
    )
