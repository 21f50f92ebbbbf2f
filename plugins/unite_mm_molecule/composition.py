"""Numbers of atoms by the names under which a denoiser is told them."""

from collections.abc import Sequence

from unite_mm_molecule.molecule import ATOMIC_NUMBERS, Molecule

HEAVY_ATOMS, HYDROGENS = "heavy atoms", "hydrogens"
"""Names of the counts that are not those of one element."""


def count_atoms(molecule: Molecule, names: Sequence[str]) -> list[int]:
    """Atoms of each kind, by names of counts; hydrogens are those that are atoms of their own."""
    hydrogens = int((molecule.numbers == 1).sum())
    of_kinds = {HEAVY_ATOMS: molecule.size - hydrogens, HYDROGENS: hydrogens}
    return [of_kinds[name] if name in of_kinds else int((molecule.numbers == _number(name)).sum()) for name in names]


def _number(name: str) -> int:
    """The atomic number of an element's name in a formula; those without a symbol here stand as numbers."""
    return ATOMIC_NUMBERS[name] if name in ATOMIC_NUMBERS else int(name)
