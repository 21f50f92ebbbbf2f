"""Pictures (PNG): grids of molecules, and inputs beside their reconstructions. Needs RDKit, imported inside.

Molecules are shown as structural formulas, without the hydrogens on their atoms, each in a panel of its own: RDKit
renders the molecule, Pillow (which RDKit brings along) the frame. Invalid molecules are shown as they are, in a red
frame.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unite_mm_molecule.files.output import write_whole
from unite_mm_molecule.metrics.reconstruction import bond_orders, compare
from unite_mm_molecule.metrics.validity import allowed_valences, check_validity
from unite_mm_molecule.molecule import Molecule, hydrogen_parents

if TYPE_CHECKING:
    from PIL.Image import Image
    from rdkit.Chem import Mol

MOST_MOLECULES = 24
MOST_PAIRS = 12
_PANEL = (280, 240)
_GAP = 8
_RED = (204, 36, 29)
_GREY = (200, 200, 200)
_BLACK = (40, 40, 40)
_HIGHLIGHT = (1.0, 0.62, 0.55)
_LEGEND = 32
"""Characters of a legend that fit a panel; RDKit's font knows ASCII only."""


@dataclass(frozen=True)
class _Panel:
    """One molecule to show.

    Attributes:
        molecule: for RDKit, with 2D coordinates.
        legend: below the molecule.
        wrong: whether the frame and legend are red.
        atoms: indices to mark.
        bonds: indices to mark.
    """

    molecule: "Mol"
    legend: str
    wrong: bool = False
    atoms: tuple[int, ...] = ()
    bonds: tuple[int, ...] = ()


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
    _save(_grid([_sample_panel(sample) for sample in samples[:most]], min(columns, len(samples))), path)


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
    panels = [panel for pair in list(zip(inputs, outputs, strict=True))[:most] for panel in _pair_panels(*pair)]
    _save(_grid(panels, min(4, len(panels)), paired=True), path)


def _sample_panel(sample: Molecule) -> _Panel:
    validity = check_validity(sample)
    shown, kept = _without_hydrogens(sample, _removable_hydrogens(sample))
    if validity.valid:
        return _Panel(_flat(shown), _short(validity.smiles or ""))
    unstable = _unstable(sample)
    marked = tuple(new for new, old in enumerate(kept) if old in unstable)
    return _Panel(_flat(shown), _short(validity.detail), wrong=True, atoms=marked)


def _pair_panels(original: Molecule, copy: Molecule) -> tuple[_Panel, _Panel]:
    """Panels of an input and its reconstruction."""
    comparison = compare((original, copy))
    if original.size != copy.size:
        legend = f"{original.size} atoms became {copy.size}"
        return _sample_panel(original), replace(_sample_panel(copy), legend=legend, wrong=True)
    atoms = np.flatnonzero((original.numbers != copy.numbers) | (original.charges != copy.charges)).tolist()
    goal, found = bond_orders(original), bond_orders(copy)
    pairs = [pair for pair in goal.keys() | found.keys() if goal.get(pair) != found.get(pair)]
    involved = set(atoms) | {atom for pair in pairs for atom in pair}
    # A hydrogen disappears only where it hangs on the same atom in both and nothing about it differs.
    hidden = (_removable_hydrogens(original) & _removable_hydrogens(copy)) - involved
    shown, kept = _without_hydrogens(original, hidden)
    left = _flat(shown)
    right = _flat(_without_hydrogens(copy, hidden)[0], like=left)
    places = {old: new for new, old in enumerate(kept)}
    marked = tuple(places[atom] for atom in atoms)
    outcome = "match" if comparison.graph else _differences(len(atoms), len(pairs))
    if comparison.rmsd is not None:
        outcome += f", RMSD {comparison.rmsd:.3f} A"
    label = check_validity(original).smiles or original.name or "input"
    return (
        _Panel(left, _short(label), False, marked, _bond_indices(left, pairs, places)),
        _Panel(right, outcome, not comparison.graph, marked, _bond_indices(right, pairs, places)),
    )


def _differences(atoms: int, bonds: int) -> str:
    parts = [f"{count} {name}{'s' * (count > 1)}" for count, name in ((atoms, "atom"), (bonds, "bond")) if count]
    return f"{', '.join(parts)} wrong" if parts else "no match"


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


def _flat(molecule: "Mol", like: "Mol | None" = None) -> "Mol":
    """The molecule with 2D coordinates of its own, or those of `like`, a molecule of as many atoms."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor

    with rdBase.BlockLogs():
        molecule.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(molecule)
        if like is not None:
            molecule.RemoveAllConformers()
            molecule.AddConformer(like.GetConformer(), assignId=True)
        elif molecule.GetNumAtoms():
            rdDepictor.SetPreferCoordGen(False)
            rdDepictor.Compute2DCoords(molecule, canonOrient=True)
    return molecule


def _grid(panels: list[_Panel], columns: int, paired: bool = False) -> "Image":
    """All panels on one canvas; with `paired`, two that belong together touch and share a frame."""
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    width, height = _PANEL
    rows = -(-len(panels) // columns)
    canvas = PillowImage.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), "white")
    pen = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        x = _GAP + index % columns * (width + _GAP)
        y = _GAP + index // columns * (height + _GAP)
        second = paired and index % 2 == 1
        canvas.paste(_picture(panel), (x - _GAP * second, y))
        if paired and not second:
            continue
        left = x - (width + _GAP) * second
        colour, line = (_RED, 3) if panel.wrong else (_GREY, 1)
        pen.rectangle((left, y, left + width * (1 + second) - 1, y + height - 1), outline=colour, width=line)
    return canvas


def _picture(panel: _Panel) -> "Image":
    """One panel without its frame."""
    try:
        return _rendered(panel)
    except RuntimeError:  # RDKit lays out an impossible molecule with atoms on one place, and then cannot render it
        return _rendered(replace(panel, molecule=_on_a_circle(panel.molecule)))


def _on_a_circle(molecule: "Mol") -> "Mol":
    """A copy with its atoms on a circle."""
    from rdkit import Chem

    copy = Chem.Mol(molecule)
    copy.RemoveAllConformers()
    count = copy.GetNumAtoms()
    places = Chem.Conformer(count)
    for atom, angle in enumerate(np.linspace(0, 2 * np.pi, count, endpoint=False)):
        places.SetAtomPosition(atom, [count / 4 * np.cos(angle), count / 4 * np.sin(angle), 0.0])
    copy.AddConformer(places)
    return copy


def _rendered(panel: _Panel) -> "Image":
    from PIL import Image as PillowImage
    from rdkit import rdBase
    from rdkit.Chem.Draw import rdMolDraw2D

    drawer: Any = rdMolDraw2D.MolDraw2DCairo(*_PANEL)
    options = drawer.drawOptions()
    options.prepareMolsBeforeDrawing = False  # preparing would sanitize
    options.legendFontSize = 16
    options.padding = 0.09
    options.maxFontSize = 22
    options.fixedBondLength = 34
    options.bondLineWidth = 2
    options.setHighlightColour(_HIGHLIGHT)
    options.setLegendColour(tuple(part / 255 for part in (_RED if panel.wrong else _BLACK)))
    with rdBase.BlockLogs():
        drawer.DrawMolecule(
            panel.molecule, legend=panel.legend, highlightAtoms=list(panel.atoms), highlightBonds=list(panel.bonds)
        )
        drawer.FinishDrawing()
    return PillowImage.open(io.BytesIO(drawer.GetDrawingText())).convert("RGB")


def _save(picture: "Image", path: Path) -> None:
    def fill(aside: Path) -> None:
        picture.save(aside, format="PNG", optimize=True)

    write_whole(path, fill)
