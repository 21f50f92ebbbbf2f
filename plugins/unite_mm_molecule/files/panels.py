"""Panels with one molecule each, and grids of them. Needs RDKit, imported inside; Pillow comes with it."""

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from rdkit.Chem import Mol

_PANEL = (280, 240)
_GAP = 8
_RED = (204, 36, 29)
_GREY = (200, 200, 200)
_BLACK = (40, 40, 40)
_HIGHLIGHT = (1.0, 0.62, 0.55)


@dataclass(frozen=True)
class Panel:
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


def flat_layout(molecule: "Mol", like: "Mol | None" = None) -> "Mol":
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


def grid(panels: list[Panel], columns: int, paired: bool = False) -> "Image":
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


def _picture(panel: Panel) -> "Image":
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


def _rendered(panel: Panel) -> "Image":
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
