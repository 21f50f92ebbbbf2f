"""Molecules written down atom by atom, and ones made from SMILES, for tests of metrics, files and drawings."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from unite_mm_molecule.molecule import SYMBOLS, Molecule

NUMBERS = {symbol: number for number, symbol in SYMBOLS.items()}


def by_hand(
    symbols: str,
    bonds: Sequence[tuple[int, int, int]] = (),
    charges: dict[int, int] | None = None,
    positions: Sequence[Sequence[float]] | None = None,
    explicit: bool = True,
) -> Molecule:
    """A molecule from `C H H H`, bonds (begin, end, order), charges by atom and positions."""
    numbers = [NUMBERS[symbol] for symbol in symbols.split()]
    return Molecule(
        numbers=np.array(numbers, dtype=np.int64),
        charges=np.array([(charges or {}).get(i, 0) for i in range(len(numbers))], dtype=np.int64),
        bonds=np.array(bonds, dtype=np.int64).reshape(-1, 3),
        positions=None if positions is None else np.array(positions, dtype=np.float64),
        explicit_hydrogens=explicit,
    )


def star(centre: str, leaves: str, **options: object) -> Molecule:
    """A central atom with single bonds to all others."""
    count = len(leaves.split())
    return by_hand(f"{centre} {leaves}", [(0, i + 1, 1) for i in range(count)], **options)  # type: ignore[arg-type]


@cache
def from_smiles(smiles: str, explicit: bool = True, seed: int = 7) -> Molecule:
    """A molecule with an ETKDG geometry, hydrogens explicit or taken off again."""
    full = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(full, randomSeed=seed) == 0
    return Molecule.from_rdkit(full if explicit else Chem.RemoveAllHs(full), smiles)


def equal(first: Molecule, second: Molecule, tolerance: float = 0.0) -> bool:
    """Whether two records are the same; positions within a tolerance in angstrom."""
    if (first.positions is None) != (second.positions is None):
        return False
    near = True
    if first.positions is not None and second.positions is not None:
        near = np.allclose(first.positions, second.positions, rtol=0, atol=tolerance)
    parts = ((first.numbers, second.numbers), (first.charges, second.charges), (first.bonds, second.bonds))
    same = all(np.array_equal(one, other) for one, other in parts)
    return bool(near and same and first.explicit_hydrogens == second.explicit_hydrogens and first.name == second.name)


METHYL = star("C", "H H H")
METHANE = star("C", "H H H H")
FIVE_BONDS = star("C", "H H H H H")
AMMONIUM = star("N", "H H H H", charges={0: 1})
HYDROGEN = by_hand("H H", [(0, 1, 1)])
TWO_WATERS = by_hand("O H H O H H", [(0, 1, 1), (0, 2, 1), (3, 4, 1), (3, 5, 1)])
GLYCINE = by_hand(  # the zwitterion: + on N, - on the single-bonded O
    "N C C O O H H H H H",
    [(0, 1, 1), (1, 2, 1), (2, 3, 2), (2, 4, 1), (0, 5, 1), (0, 6, 1), (0, 7, 1), (1, 8, 1), (1, 9, 1)],
    {0: 1, 4: -1},
)
NITROMETHANE = by_hand(
    "C N O O H H H", [(0, 1, 1), (1, 2, 2), (1, 3, 1), (0, 4, 1), (0, 5, 1), (0, 6, 1)], {1: 1, 3: -1}
)
NITRO_FIVE_BONDS = by_hand("C N O O H H H", [(0, 1, 1), (1, 2, 2), (1, 3, 2), (0, 4, 1), (0, 5, 1), (0, 6, 1)])
IMINE = by_hand("C N H H H", [(0, 1, 2), (0, 2, 1), (0, 3, 1), (1, 4, 1)])
