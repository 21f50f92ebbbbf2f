"""Pictures (PNG): grids of molecules, and inputs beside their reconstructions. Needs RDKit, imported inside.

Molecules are shown as structural formulas, without the hydrogens on their atoms, each in a panel of its own: RDKit
renders the molecule, Pillow (which RDKit brings along) the frame. Invalid molecules are shown as they are, in a red
frame.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unite_mm_molecule.files.output import write_whole
from unite_mm_molecule.files.panels import Panel, flat_layout, grid
from unite_mm_molecule.metrics.reconstruction import bond_orders, compare
from unite_mm_molecule.metrics.validity import allowed_valences, check_validity
from unite_mm_molecule.molecule import Molecule, hydrogen_parents

if TYPE_CHECKING:
    from PIL.Image import Image
    from rdkit.Chem import Mol

MOST_MOLECULES = 24
MOST_PAIRS = 12
_LEGEND = 32
"""Characters of a legend that fit a panel; RDKit's font knows ASCII only."""


def save_picture(samples: Sequence[Molecule], path: Path, most: int = MOST_MOLECULES, columns: int = 6) -> None:
    """A grid of the first samples, valid or not, as they come.

    Args:
        samples: at least one.
        path: PNG file.
        most: molecules shown.
        columns: of the grid.

    Raises:
        ValueError: there is no sample.
        UniteError: the file cannot be written.
    """
    if not samples:
        raise ValueError("no molecules to show")
    _save(grid([sample_panel(sample) for sample in samples[:most]], min(columns, len(samples))), path)


def save_pairs_picture(
    inputs: Sequence[Molecule], outputs: Sequence[Molecule], path: Path, most: int = MOST_PAIRS
) -> None:
    """Inputs beside their reconstructions, two pairs to a row, what differs marked in both.

    Both have the same layout: atom i of the one is where atom i of the other is. The RMSD is over all atoms (heavy
    atoms where hydrogens are implicit).

    Args:
        inputs: at least one.
        outputs: in the same order.
        path: PNG file.
        most: pairs shown.

    Raises:
        ValueError: there is nothing to show, or not as many outputs as inputs.
        UniteError: the file cannot be written.
    """
    if not inputs or len(inputs) != len(outputs):
        raise ValueError(f"cannot show {len(inputs)} inputs beside {len(outputs)} reconstructions")
    panels = [panel for pair in list(zip(inputs, outputs, strict=True))[:most] for panel in pair_panels(*pair)]
    _save(grid(panels, min(4, len(panels)), paired=True), path)


def sample_panel(sample: Molecule) -> Panel:
    """A molecule with its canonical SMILES, or with what is wrong with it and the atoms at fault marked."""
    validity = check_validity(sample)
    shown, kept = _without_hydrogens(sample, _removable_hydrogens(sample))
    if validity.valid:
        return Panel(flat_layout(shown), _short(validity.smiles or ""))
    unstable = _unstable(sample)
    marked = tuple(new for new, old in enumerate(kept) if old in unstable)
    return Panel(flat_layout(shown), _short(validity.detail), wrong=True, atoms=marked)


def pair_panels(original: Molecule, copy: Molecule) -> tuple[Panel, Panel]:
    """Panels of an input and its reconstruction, both in one layout, what differs marked."""
    comparison = compare((original, copy))
    if original.size != copy.size:
        legend = f"{original.size} atoms became {copy.size}"
        return sample_panel(original), replace(sample_panel(copy), legend=legend, wrong=True)
    atoms = np.flatnonzero((original.numbers != copy.numbers) | (original.charges != copy.charges)).tolist()
    goal, found = bond_orders(original), bond_orders(copy)
    pairs = [pair for pair in goal.keys() | found.keys() if goal.get(pair) != found.get(pair)]
    involved = set(atoms) | {atom for pair in pairs for atom in pair}
    # A hydrogen is left out only where it is bonded to the same atom in both and nothing about it differs.
    hidden = (_removable_hydrogens(original) & _removable_hydrogens(copy)) - involved
    shown, kept = _without_hydrogens(original, hidden)
    left = flat_layout(shown)
    right = flat_layout(_without_hydrogens(copy, hidden)[0], like=left)
    places = {old: new for new, old in enumerate(kept)}
    marked = tuple(places[atom] for atom in atoms)
    outcome = "match" if comparison.graph else _differences(len(atoms), len(pairs))
    if comparison.rmsd is not None:
        outcome += f", RMSD {comparison.rmsd:.3f} A"
    label = check_validity(original).smiles or original.name or "input"
    return (
        Panel(left, _short(label), False, marked, _bond_indices(left, pairs, places)),
        Panel(right, outcome, not comparison.graph, marked, _bond_indices(right, pairs, places)),
    )


def _differences(atoms: int, bonds: int) -> str:
    parts = [f"{count} {name}{'s' * (count > 1)}" for count, name in ((atoms, "atom"), (bonds, "bond")) if count]
    return f"{', '.join(parts)} wrong" if parts else "same, but invalid"


def _bond_indices(molecule: "Mol", pairs: list[tuple[int, int]], places: dict[int, int]) -> tuple[int, ...]:
    bonds = (molecule.GetBondBetweenAtoms(places[begin], places[end]) for begin, end in pairs)
    return tuple(bond.GetIdx() for bond in bonds if bond is not None)


def _short(text: str) -> str:
    return text if len(text) <= _LEGEND else f"{text[: _LEGEND - 3]}..."


def _removable_hydrogens(molecule: Molecule) -> set[int]:
    parents = hydrogen_parents(molecule.numbers, molecule.charges, *molecule.bonds.T)
    return set(np.flatnonzero(parents != np.arange(molecule.size)).tolist())


def _unstable(molecule: Molecule) -> set[int]:
    """Atoms with a valence that is not allowed; where hydrogens are implicit, with one too high."""
    unstable = set()
    atoms = zip(molecule.numbers.tolist(), molecule.charges.tolist(), molecule.valences.tolist(), strict=True)
    for index, (number, charge, valence) in enumerate(atoms):
        allowed = allowed_valences(number, charge)
        if valence not in allowed and (molecule.explicit_hydrogens or valence > max(allowed, default=0)):
            unstable.add(index)
    return unstable


def _without_hydrogens(molecule: Molecule, hidden: set[int]) -> tuple["Mol", list[int]]:
    """The RDKit molecule without the hidden hydrogens, which their atoms keep as a count; and the atoms it keeps.

    Works on any molecule: nothing is sanitized, no valence looked at.
    """
    from rdkit import Chem

    editable = Chem.RWMol(replace(molecule, positions=None).to_rdkit(sanitize=False))
    for atom in sorted(hidden, reverse=True):
        owner = editable.GetAtomWithIdx(atom).GetNeighbors()[0]
        owner.SetNumExplicitHs(owner.GetNumExplicitHs() + 1)
        editable.RemoveAtom(atom)
    return editable.GetMol(), [atom for atom in range(molecule.size) if atom not in hidden]


def _save(picture: "Image", path: Path) -> None:
    def fill(aside: Path) -> None:
        picture.save(aside, format="PNG", optimize=True)

    write_whole(path, fill)
