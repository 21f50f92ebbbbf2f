"""The chemistry that data preparation, sample files and metrics must agree on. Functions import RDKit inside."""

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.kit.messages import first_line
from unite_mm_molecule.molecule import Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

STANDARD_VALENCES: dict[int, tuple[int, ...]] = {
    1: (1,), 5: (3,), 6: (4,), 7: (3,), 8: (2,), 9: (1,), 14: (4,), 15: (3, 5), 16: (2, 4, 6), 17: (1,), 35: (1,),
    53: (1,),
}  # fmt: skip
"""Valences of the neutral elements, by atomic number, the ordinary one first."""


_EMBEDDING_SEED = 61453
_EMBEDDING_LIMIT = 20
"""Seconds for each of two attempts at a geometry; ordinary molecules take milliseconds."""
_MOST_BOND_ORDERS = 100_000
"""Sets of bond orders that are tried for a geometry of up to `_ORDINARY_ATOMS`, about ten seconds of work; ordinary
molecules take a few. Each takes longer the more atoms there are, so that larger geometries get fewer."""
_ORDINARY_ATOMS = 100


class NoBonds(ValueError):
    """No consistent set of bonds follows from a geometry."""


def rdkit_installed() -> bool:
    """Whether RDKit can be imported; reading and writing most sample files does without."""
    return find_spec("rdkit") is not None


class NoGeometry(ValueError):
    """No 3D geometry could be made."""


def canonical_smiles(molecule: "Mol", bare: bool = False) -> str:
    """Canonical SMILES without stereo or isotopes, all hydrogens removed: two molecules are the same if it is equal.

    The same string results with explicit and with implicit hydrogens. RDKit's plain `RemoveHs` would keep the hydrogen
    of an imine N-H, which carries the stereo of the double bond. The string is read back and written again, because
    that is what happens to every molecule that passes through a SMILES file. A molecule of hydrogens alone keeps them.

    Args:
        molecule: a sanitized molecule.
        bare: whether it is known to have no hydrogens to remove, which saves a third of the time.

    Raises:
        rdkit.Chem.MolSanitizeException: the molecule without its hydrogens is not chemically sound.
    """
    from rdkit import Chem

    heavy = molecule if bare else Chem.RemoveAllHs(molecule)
    smiles: str = Chem.MolToSmiles(heavy if heavy.GetNumAtoms() else molecule, isomericSmiles=False)
    again = Chem.MolFromSmiles(smiles)
    return smiles if again is None else str(Chem.MolToSmiles(again, isomericSmiles=False))


def sanitized(molecule: Molecule) -> "Mol":
    """The RDKit molecule, sanitized as it is.

    Raises:
        rdkit.Chem.MolSanitizeException: the molecule is not chemically sound; a ValueError.
    """
    from rdkit import Chem

    return sanitize_without_cleanup(molecule.to_rdkit(sanitize=False)) if molecule.size else Chem.Mol()


def sanitize_without_cleanup(mol: "Mol") -> "Mol":
    """Sanitize an RDKit molecule in place, and return it.

    RDKit's clean-up step is left out: it would quietly repair five-valent nitrogen (`N(=O)=O` to `[N+](=O)[O-]`).

    Raises:
        rdkit.Chem.MolSanitizeException: it is not chemically sound; a ValueError.
    """
    from rdkit import Chem

    flags = Chem.SanitizeFlags
    clean_up = flags.SANITIZE_CLEANUP | flags.SANITIZE_CLEANUP_ORGANOMETALLICS
    Chem.SanitizeMol(mol, sanitizeOps=int(flags.SANITIZE_ALL) & ~int(clean_up))
    return mol


def add_hydrogens(molecule: Molecule) -> Molecule:
    """The molecule with its implicit hydrogens as atoms, after its own atoms, at standard bond lengths and angles.

    Atoms, charges, bonds (also which of the kekulized forms) and positions of the molecule stay as they are. A molecule
    with explicit hydrogens is returned unchanged.

    Raises:
        rdkit.Chem.MolSanitizeException: the molecule is not chemically sound, so the hydrogens are unknown.
    """
    if molecule.explicit_hydrogens:
        return molecule
    from rdkit import Chem

    full = Chem.AddHs(sanitized(molecule), addCoords=molecule.positions is not None)
    added = full.GetNumAtoms() - molecule.size
    parents = [full.GetAtomWithIdx(molecule.size + k).GetNeighbors()[0].GetIdx() for k in range(added)]
    bonds = [[parent, molecule.size + k, 1] for k, parent in enumerate(parents)]
    return replace(
        molecule,
        numbers=np.concatenate([molecule.numbers, np.ones(added, dtype=np.int64)]),
        charges=np.concatenate([molecule.charges, np.zeros(added, dtype=np.int64)]),
        bonds=np.concatenate([molecule.bonds, np.array(bonds, dtype=np.int64).reshape(-1, 3)]),
        positions=None if molecule.positions is None else np.array(full.GetConformer().GetPositions()),
        explicit_hydrogens=True,
    )


def embed(mol: "Mol") -> tuple["Mol", bool]:
    """A copy with a geometry, by ETKDGv3 with a fixed seed, and whether MMFF94 could relax it fully.

    Args:
        mol: sanitized, with all its hydrogens.

    Raises:
        NoGeometry: there is none, or none was found in time.
    """
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    parameters: Any = rdDistGeom.ETKDGv3()  # its type stubs have no settable fields
    parameters.randomSeed = _EMBEDDING_SEED
    parameters.timeout = _EMBEDDING_LIMIT
    copy = type(mol)(mol)
    if rdDistGeom.EmbedMolecule(copy, parameters) < 0:
        parameters.useRandomCoords = True
        if rdDistGeom.EmbedMolecule(copy, parameters) < 0:
            raise NoGeometry(f"embedding failed, or took over {2 * _EMBEDDING_LIMIT} s")
    known = rdForceFieldHelpers.MMFFHasAllMoleculeParams(copy)
    return copy, bool(known and rdForceFieldHelpers.MMFFOptimizeMolecule(copy, maxIters=1000) == 0)


def bond_orders_tried(atoms: int) -> int:
    """The most sets of bond orders tried for a geometry: a limit in work, so that the result is the same anywhere."""
    return max(1, _MOST_BOND_ORDERS * _ORDINARY_ATOMS // max(atoms, _ORDINARY_ATOMS))


def perceive_bonds(numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> "Mol":
    """The neutral molecule whose bonds follow from its geometry (RDKit's DetermineBonds), sanitized.

    Args:
        numbers: (n,) atomic numbers.
        positions: (n, 3) in angstrom, all finite.

    Raises:
        NoBonds: no consistent set of bonds exists.
    """
    from rdkit.Chem import rdDetermineBonds

    atoms = Molecule(numbers, np.zeros_like(numbers), np.empty((0, 3), dtype=np.int64), positions)
    mol = atoms.to_rdkit(sanitize=False)
    try:
        rdDetermineBonds.DetermineBonds(mol, charge=0, embedChiral=False, maxIterations=bond_orders_tried(len(numbers)))
    except (ValueError, RuntimeError) as error:
        raise NoBonds(first_line(error)) from error
    return mol
