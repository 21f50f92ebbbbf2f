"""Sources cut into pieces of some hundred molecules, each read and checked by a worker process."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from unite_mm_molecule.files.text import TextKind, record_bounds
from unite_mm_molecule.flat import FlatMolecules

PER_PIECE = 256
"""Molecules in a piece: about a tenth of a second of work."""


@dataclass(frozen=True)
class Piece:
    """Consecutive molecules of a source.

    Attributes:
        kind: format of `records`; `arrays` for molecules that are arrays already, `package` for rows of
            the package qm9pack.
        first: index in the source of the first one.
        count: how many.
        records: the molecules as text, see `unite_mm_molecule.files.text`; empty for `arrays`.
        molecules: the molecules as arrays; None for text.
        skip: indices in the source of molecules to leave out as uncharacterized.
    """

    kind: Literal["sdf", "mol2", "xyz", "smiles", "arrays", "package"]
    first: int
    count: int
    records: tuple[bytes, ...] = ()
    molecules: FlatMolecules | None = None
    skip: frozenset[int] = frozenset()

    def each(self) -> list["Piece"]:
        """The same molecules, each in a piece of its own."""
        flat = self.molecules
        return [
            Piece(
                self.kind,
                self.first + index,
                1,
                self.records[index : index + 1],
                None if flat is None else flat.part(index, index + 1),
                self.skip & {self.first + index},
            )
            for index in range(self.count)
        ]


class TextPieces(Sequence[Piece]):
    """The pieces of a text, cut out only when asked for.

    Args:
        path: for messages.
        kind: format of the text.
        text: the whole text.
        skip: indices of molecules to leave out as uncharacterized.

    Raises:
        UsageError: the text ends within a record, or is not of this kind.
    """

    def __init__(self, path: Path, kind: TextKind, text: bytes | mmap.mmap, skip: frozenset[int] = frozenset()) -> None:
        self._kind: TextKind = kind
        self._text = text
        self._bounds = record_bounds(path, kind, text)
        self._skip = skip
        self.molecules = len(self._bounds) - 1

    def __len__(self) -> int:
        return -(-self.molecules // PER_PIECE)

    @overload
    def __getitem__(self, index: int) -> Piece: ...

    @overload
    def __getitem__(self, index: slice) -> list[Piece]: ...

    def __getitem__(self, index: int | slice) -> Piece | list[Piece]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = index * PER_PIECE
        last = min(first + PER_PIECE, self.molecules)
        skip = frozenset(self._skip.intersection(range(first, last)))
        records = tuple(bytes(self._text[self._bounds[i] : self._bounds[i + 1]]) for i in range(first, last))
        return Piece(self._kind, first, last - first, records, skip=skip)


def array_pieces(molecules: FlatMolecules) -> list[Piece]:
    """The pieces of molecules that are arrays already."""
    pieces = []
    for first in range(0, len(molecules), PER_PIECE):
        last = min(first + PER_PIECE, len(molecules))
        pieces.append(Piece("arrays", first, last - first, molecules=molecules.part(first, last)))
    return pieces
