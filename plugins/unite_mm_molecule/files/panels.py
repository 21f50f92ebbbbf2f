"""Panels with one molecule each, and grids of them. Needs RDKit, imported inside; Pillow comes with it."""

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

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
_CLOSE = 0.25
"""Share of a bond's length within which an atom lies on another atom or bond."""
_MOST_NEIGHBOURS = 4
"""Beyond these no layout is good, and CoordGen is not made for it."""


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
            rdDepictor.Compute2DCoords(molecule, canonOrient=True, useRingTemplates=True)
            return _less_crowded(molecule)
    return molecule


def _less_crowded(molecule: "Mol") -> "Mol":
    """The molecule, laid out by CoordGen where that leaves fewer atoms on others and on bonds: cages above all."""
    from rdkit import Chem
    from rdkit.Chem import rdCoordGen

    before = _crowding(molecule)
    if not before or max(atom.GetDegree() for atom in molecule.GetAtoms()) > _MOST_NEIGHBOURS:
        return molecule
    other = Chem.Mol(molecule)
    rdCoordGen.AddCoords(other)
    return other if _crowding(other) < before else molecule


def _crowding(molecule: "Mol") -> int:
    """Atoms on atoms or on bonds that are not theirs, in a layout."""
    places = molecule.GetConformer().GetPositions()[:, :2]
    ends = np.array([(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()])
    if not len(ends):
        return 0
    begin, along = places[ends[:, 0]], places[ends[:, 1]] - places[ends[:, 0]]  # (E, 2)
    squares = (along**2).sum(-1).clip(1e-9)
    offsets = places[:, None] - begin  # (N, E, 2)
    nearest = ((offsets * along).sum(-1) / squares).clip(0, 1)
    distances = np.linalg.norm(offsets - nearest[..., None] * along, axis=-1)  # (N, E): of atoms from bonds
    own = (ends[None] == np.arange(len(places))[:, None, None]).any(-1)
    return int(((distances < _CLOSE * np.sqrt(np.median(squares))) & ~own).sum())


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


def vector_paths(panel: Panel, extent: tuple[int, int] = (240, 180)) -> list[tuple[str, str, float]]:
    """The molecule of a panel as paths, without legend and frame: outline, colour, width of the line (0: filled).

    Outlines are those of SVG's `d`. Marks come first, since what follows covers them.

    Args:
        panel: the molecule.
        extent: width and height in pixels.
    """
    from rdkit.Chem.Draw import rdMolDraw2D

    drawer: Any = rdMolDraw2D.MolDraw2DSVG(*extent)
    drawer.drawOptions().clearBackground = False
    plain = replace(panel, legend="")
    try:
        text = _draw(plain, drawer)
    except RuntimeError:  # as in `_picture`
        drawer = rdMolDraw2D.MolDraw2DSVG(*extent)
        drawer.drawOptions().clearBackground = False
        text = _draw(replace(plain, molecule=_on_a_circle(panel.molecule)), drawer)
    merged: dict[tuple[str, float], list[str]] = {}
    for element in ElementTree.fromstring(text.encode("iso-8859-1", "replace")).iter():
        shape = _shape(element)
        if shape:
            outline, colour, width = shape
            merged.setdefault((colour, width), []).append(outline)
    return [(" ".join(outlines), colour, width) for (colour, width), outlines in merged.items()]


def _shape(element: ElementTree.Element) -> tuple[str, str, float] | None:
    """Outline, colour and width of one element of RDKit's SVG; None where it draws nothing."""
    style = dict(part.split(":", 1) for part in element.get("style", "").split(";") if ":" in part)
    fill = element.get("fill") or style.get("fill", "none")
    kind = element.tag.rpartition("}")[2]
    if kind == "ellipse":
        x, y, rx, ry = (float(element.get(name, 0)) for name in ("cx", "cy", "rx", "ry"))
        arc = f"a{rx:g},{ry:g} 0 1,0"
        return f"M{x - rx:.1f},{y:.1f} {arc} {2 * rx:.1f},0 {arc} {-2 * rx:.1f},0", fill, 0.0
    if kind != "path":
        return None
    outline = " ".join(element.get("d", "").split()).replace(", ", " ")
    for command in "MLQC":
        outline = outline.replace(f"{command} ", command).replace(f" {command}", command)
    if fill != "none":
        return outline, fill, 0.0
    return outline, style.get("stroke", "#000000"), float(style.get("stroke-width", "1").removesuffix("px"))


def _rendered(panel: Panel) -> "Image":
    """A panel as a picture."""
    from PIL import Image as PillowImage
    from rdkit.Chem.Draw import rdMolDraw2D

    picture = _draw(panel, rdMolDraw2D.MolDraw2DCairo(*_PANEL))
    return PillowImage.open(io.BytesIO(picture)).convert("RGB")


def _draw(panel: Panel, drawer: Any) -> Any:
    """What a drawer of RDKit makes of a panel: a text, or bytes."""
    from rdkit import rdBase

    options = drawer.drawOptions()
    options.prepareMolsBeforeDrawing = False  # preparing would sanitize
    options.legendFontSize = 16
    options.legendFraction = 0.16
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
    return drawer.GetDrawingText()
