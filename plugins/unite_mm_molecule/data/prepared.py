"""A prepared source: checked molecules as whole arrays, their splits and their card, as the cache holds them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.contract import SPLITS
from unite_mm.kit.arrays import ArraySpec, read_npz
from unite_mm_molecule.data.properties import Values
from unite_mm_molecule.data.splits import split_hash
from unite_mm_molecule.flat import ARRAYS, FlatMolecules, pack_lines, unpack_lines
from unite_mm_molecule.properties import NAMES
from unite_mm_schemas.card import DataCard, Exclusion

EXAMPLES = 5
"""Molecules that the card names of each reason to leave some out."""


@dataclass(frozen=True)
class Prepared:
    """A prepared source: N molecules with explicit hydrogens, in the order of the source.

    Attributes:
        molecules: the molecules.
        smiles: (N,) canonical SMILES.
        splits: (N,) index into `SPLITS`.
        card: where they came from and what was left out.
        properties: (N, P) in the order of `properties.NAMES`, nan where a molecule has none; None: the source has none.
    """

    molecules: FlatMolecules
    smiles: tuple[str, ...]
    splits: NDArray[np.uint8]
    card: DataCard
    properties: Values | None = None

    def without(self, reason: str, left_out: NDArray[np.bool_], details: Sequence[str]) -> "Prepared":
        """The same without the given molecules, which the card then counts; the others stay in their splits.

        Args:
            reason: why.
            left_out: (N,) True for those to leave out.
            details: (N,) what the card says of each.
        """
        if not left_out.any():
            return self
        examples = [f"{self.molecules.names[i]}: {details[i]}" for i in np.flatnonzero(left_out)[:EXAMPLES]]
        gone = Exclusion(reason=reason, count=int(left_out.sum()), examples=tuple(examples))
        keep = ~left_out
        smiles = tuple(key for key, kept in zip(self.smiles, keep.tolist(), strict=True) if kept)
        splits = self.splits[keep]
        changed = {
            "kept": int(keep.sum()),
            "excluded": (*self.card.excluded, gone),
            "splits": count_splits(splits),
            "split_hash": split_hash(smiles, splits),
        }
        properties = None if self.properties is None else self.properties[keep]
        card = self.card.model_copy(update=changed)
        return Prepared(self.molecules.select(keep), smiles, splits, card, properties)

    def named(self, modality: str) -> "Prepared":
        """The same with the name of a modality in its card: the cache is shared by all modalities of this plugin."""
        return replace(self, card=self.card.model_copy(update={"modality": modality}))

    def write(self, folder: Path) -> None:
        """Write into an empty folder of the cache.

        Raises:
            OSError: it cannot be written.
        """
        arrays: dict[str, Any] = self.molecules.to_arrays()
        arrays |= {"smiles": pack_lines(self.smiles), "splits": self.splits}
        if self.properties is not None:
            arrays["properties"] = self.properties
        np.savez(folder / "molecules.npz", **arrays)
        (folder / "card.json").write_text(self.card.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Prepared":
        """The inverse of `write`.

        Raises:
            FileNotFoundError: there is none.
            UsageError, ValueError: it is damaged.
        """
        card = DataCard.model_validate_json((folder / "card.json").read_bytes())
        specs = ARRAYS | {
            "smiles": ArraySpec(np.uint8),
            "splits": ArraySpec(np.uint8, (("N",),)),
            "properties": ArraySpec(np.float64, (("N", len(NAMES)),), required=False),
        }
        arrays = read_npz(folder / "molecules.npz", specs)
        molecules, smiles = FlatMolecules.from_arrays(arrays), unpack_lines(arrays["smiles"])
        prepared = cls(molecules, smiles, arrays["splits"], card, arrays.get("properties"))
        if not len(prepared.molecules) == len(prepared.smiles) == card.kept:
            raise ValueError("counts disagree")
        return prepared


def count_splits(splits: NDArray[np.uint8]) -> dict[str, int]:
    """Molecules in each split."""
    return {name: int((splits == index).sum()) for index, name in enumerate(SPLITS)}
