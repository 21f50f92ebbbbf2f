"""Which columns of an XYZ frame hold what: the usual ones, or those its comment line names (extended XYZ).

`Properties` is a list of name:type:width, as ASE, OVITO and QUIP write it: `species:S:1:tags:I:1:pos:R:3`.
"""

import re
from dataclasses import dataclass

from unite_mm_molecule.files.records import BadRecord

_PROPERTIES = re.compile(r"""(?:^|\s)["']?properties["']?\s*=\s*["'{]?\s*([^\s"'}]*)""", re.IGNORECASE)
_ELEMENT = {("species", "S"), ("element", "S"), ("elements", "S"), ("symbol", "S"), ("symbols", "S")} | {
    (name, "I") for name in ("z", "numbers", "atomic_number", "atomic_numbers", "species")
}
_POSITION = {("pos", "R"), ("position", "R"), ("positions", "R")}


@dataclass(frozen=True)
class Columns:
    """Where an atom line holds what.

    Attributes:
        element: index of the word that is a symbol or an atomic number.
        position: index of the first of three words that are the position in angstrom.
    """

    element: int = 0
    position: int = 1


def find_columns(comment: str) -> Columns:
    """The columns that a comment line names; the usual ones where it names none.

    Raises:
        BadRecord: `Properties` cannot be understood, or names no elements or no positions.
    """
    match = _PROPERTIES.search(comment)
    if match is None:
        return Columns()
    words = match[1].split(":")
    at = 0
    found: dict[str, int] = {}
    for name, kind, width in zip(words[0::3], words[1::3], words[2::3], strict=False):
        if kind.upper() not in ("S", "R", "I", "L") or not (width.isascii() and width.isdigit() and len(width) < 5):
            raise BadRecord(f"Properties={match[1][:60]!r} is not a list of name:type:width")
        key = (name.lower(), kind.upper())
        if key in _ELEMENT and width == "1":
            found.setdefault("element", at)
        elif key in _POSITION and width == "3":
            found.setdefault("position", at)
        at += int(width)
    if len(words) % 3:
        raise BadRecord(f"Properties={match[1][:60]!r} is not a list of name:type:width")
    if len(found) != 2:
        raise BadRecord(f"Properties={match[1][:60]!r} names no elements (species:S:1) or no positions (pos:R:3)")
    return Columns(**found)
