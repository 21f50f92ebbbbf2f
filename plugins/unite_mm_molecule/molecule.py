"""The plugin's native sample: a molecule as plain arrays, light to make and to send to worker processes.

Dimensions: n atoms, m bonds.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rdkit.Chem import Mol

_TABLE = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts "
    "Og"
)

SYMBOLS: dict[int, str] = dict(enumerate(_TABLE.split(), start=1))
"""All elements by atomic number: what files may hold and what can be scored."""

ATOMIC_NUMBERS: dict[str, int] = {symbol: number for number, symbol in SYMBOLS.items()} | {"D": 1, "T": 1}
"""The inverse of `SYMBOLS`; deuterium and tritium are hydrogen."""

MODELLED = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53)
"""Atomic numbers of the elements that molecules to train on may have."""

MOST_ATOMS = 1000
"""Atoms of the largest molecule that is read. With thousands RDKit takes minutes, or its recursion ends the process."""

MOST_CHARGE = 15
"""The largest formal charge of an atom, as in the CTfile format."""


def too_many(atoms: int) -> str:
    """What is wrong with a molecule of more than `MOST_ATOMS` atoms."""
    return f"{atoms:,} atoms; molecules have at most {MOST_ATOMS:,}"


@dataclass(frozen=True)
class Molecule:
    """A molecule of n atoms and m bonds.

    Attributes:
        numbers: (n,) atomic numbers.
        charges: (n,) formal charges.
        bonds: (m, 3) begin, end, order (1, 2 or 3: kekulized), begin < end.
        positions: (n, 3) in angstrom; None for a plain graph.
        explicit_hydrogens: whether every hydrogen is an atom of its own. False: chemistry supplies the missing ones.
        name: identifier in the source, for messages.
        radicals: unpaired electrons that a file declares; those that follow from missing bonds are not among them.
        flaw: why a record of a file cannot be understood; empty for a molecule. A flawed one has no atoms.
        perceived: whether the bonds follow from the geometry, because the file names none.
    """

    numbers: NDArray[np.int64]
    charges: NDArray[np.int64]
    bonds: NDArray[np.int64]
    positions: NDArray[np.float64] | None = None
    explicit_hydrogens: bool = True
    name: str = field(default="", compare=False)
    radicals: int = 0
    flaw: str = ""
    perceived: bool = field(default=False, compare=False)

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def valences(self) -> NDArray[np.int64]:
        """(n,) sum of the bond orders of each atom; hydrogens that are no atoms are not counted."""
        return bond_order_sums(self.bonds, self.size)

    @classmethod
    def flawed(cls, flaw: str, name: str = "") -> "Molecule":
        """What stands for a record of a file that cannot be understood."""
        none = np.empty(0, dtype=np.int64)
        return cls(none, none, np.empty((0, 3), dtype=np.int64), name=name, flaw=flaw)

    def nonsense(self) -> str:
        """What of the arrays is no molecule at all, sound or not; empty where they are one."""
        if self.size > MOST_ATOMS:
            return too_many(self.size)
        for index, number in enumerate(self.numbers.tolist()):
            if number not in SYMBOLS:
                return f"atom {index + 1} has an atomic number that no element has"
        for index, charge in enumerate(self.charges.tolist()):
            if abs(charge) > MOST_CHARGE:
                return f"atom {index + 1} has a charge beyond {MOST_CHARGE}"
        for index, (begin, end, order) in enumerate(self.bonds.tolist()):
            if not (0 <= begin < self.size and 0 <= end < self.size and begin != end):
                return f"bond {index + 1} joins atoms {begin + 1} and {end + 1} of {self.size}"
            if order not in (1, 2, 3):
                return f"bond {index + 1} has an order that is not 1, 2 or 3"
        if len({(min(pair), max(pair)) for pair in self.bonds[:, :2].tolist()}) != len(self.bonds):
            return "two bonds join the same atoms"
        return ""

    @property
    def finite(self) -> bool:
        """Whether all coordinates, if there are any, are finite numbers."""
        return self.positions is None or bool(np.isfinite(self.positions).all())

    def to_rdkit(self, sanitize: bool = True) -> "Mol":
        """The RDKit molecule, with a conformer if there are positions.

        Where hydrogens are explicit, RDKit may add none: an atom short of a bond stays a radical.

        Raises:
            rdkit.Chem.MolSanitizeException: `sanitize` and the molecule is not chemically sound.
        """
        from rdkit import Chem
        from rdkit.Geometry import Point3D

        editable = Chem.RWMol()
        for number, charge in zip(self.numbers.tolist(), self.charges.tolist(), strict=True):
            atom = Chem.Atom(number)
            atom.SetFormalCharge(charge)
            atom.SetNoImplicit(self.explicit_hydrogens)
            editable.AddAtom(atom)
        orders = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
        for begin, end, order in self.bonds.tolist():
            editable.AddBond(begin, end, orders[order])
        molecule = editable.GetMol()
        if self.positions is not None:
            conformer = Chem.Conformer(self.size)
            for index, point in enumerate(self.positions.tolist()):
                conformer.SetAtomPosition(index, Point3D(*point))
            molecule.AddConformer(conformer, assignId=True)
        if self.name:
            molecule.SetProp("_Name", self.name)
        if sanitize:
            Chem.SanitizeMol(molecule)
        return molecule

    @classmethod
    def from_rdkit(cls, molecule: "Mol", name: str = "") -> "Molecule":
        """From an RDKit molecule; bonds are kekulized on a copy; positions from its first conformer, if 3D.

        Raises:
            rdkit.Chem.KekulizeException: aromatic bonds that cannot be kekulized.
        """
        from rdkit import Chem

        copy = Chem.Mol(molecule)
        Chem.Kekulize(copy, clearAromaticFlags=True)
        bonds = sorted(
            (*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), int(b.GetBondTypeAsDouble())) for b in copy.GetBonds()
        )
        three_d = copy.GetNumConformers() > 0 and copy.GetConformer().Is3D()
        return cls(
            numbers=np.array([a.GetAtomicNum() for a in copy.GetAtoms()], dtype=np.int64),
            charges=np.array([a.GetFormalCharge() for a in copy.GetAtoms()], dtype=np.int64),
            bonds=np.array(bonds, dtype=np.int64).reshape(-1, 3),
            positions=np.array(copy.GetConformer().GetPositions()) if three_d else None,
            explicit_hydrogens=all(a.GetTotalNumHs() == 0 for a in copy.GetAtoms()),
            name=name,
        )


def bond_order_sums(bonds: NDArray[np.int64], atoms: int) -> NDArray[np.int64]:
    """(n,) sum of the bond orders of each of n atoms; bonds (m, 3) begin, end, order."""
    sums = np.bincount(bonds[:, 0], bonds[:, 2], atoms) + np.bincount(bonds[:, 1], bonds[:, 2], atoms)
    return sums.astype(np.int64)


def hydrogen_parents(
    numbers: NDArray[Any], charges: NDArray[Any], begin: NDArray[Any], end: NDArray[Any], orders: NDArray[Any]
) -> NDArray[np.int64]:
    """For each atom the heavy atom that it can be left out with, as its hydrogen; itself where it is no such hydrogen.

    These are uncharged hydrogens with exactly one bond, a single one to a heavy atom. Hydrogens of H2, bridging
    hydrogens and hydride ions are atoms in their own right.

    Args:
        numbers: (n,) atomic numbers.
        charges: (n,) formal charges.
        begin: (m,) one atom of each bond.
        end: (m,) the other atom.
        orders: (m,) bond orders.

    Returns:
        (n,) indices of atoms.
    """
    degree = np.bincount(begin, minlength=len(numbers)) + np.bincount(end, minlength=len(numbers))
    leaf = (numbers == 1) & (charges == 0) & (degree == 1)
    parents = np.arange(len(numbers))
    for one, other in ((begin, end), (end, begin)):
        removable = leaf[one] & (numbers[other] != 1) & (orders == 1)
        parents[one[removable]] = other[removable]
    return parents
