"""Make the embedded set: small molecules of C, N, O and F enumerated from nothing but valences, with 3D geometries.

    python scripts/make_embedded.py                    rewrite the committed set
    python scripts/make_embedded.py --atoms 4 -o x.npz only molecules of up to 4 heavy atoms

Three stages, no data from elsewhere:

1. Skeletons. Connected multigraphs of carbon atoms, one atom larger at each level: a skeleton without one of its
   non-cut atoms is a smaller skeleton, so adding an atom by one bond and then closing rings in every way reaches all.
2. Elements. Every atom of a skeleton becomes C, N, O or F where its bonds allow it. RDKit sanitizes the result and its
   canonical SMILES removes duplicates. `SKELETON_RULES` and `ELEMENT_RULES` state in SMARTS what is left out because
   it would not survive in a bottle, in the spirit of (not copied from) the rules of GDB.
3. Geometries. ETKDGv3 with a seed made from the SMILES, relaxed with MMFF94 to convergence. A molecule that cannot be
   embedded, has no parameters, or comes out with an unnatural bond length is left out.

All molecules of fewer heavy atoms than the largest size are kept; of the largest, those whose hashes are smallest, up
to `--limit`. The result does not depend on the machine, except for the last digit of a coordinate.
"""

import argparse
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from rich.progress import track

from unite_mm_molecule.molecule import Molecule

OUTPUT = Path(__file__).parents[1] / "plugins" / "unite_mm_molecule" / "embedded" / "embedded.npz"
ATOMS = 7
LIMIT = 20_000

ORDERS = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
VALENCES = {6: 4, 7: 3, 8: 2, 9: 1}
MOST_RINGS = 3
MOST_N_AND_O = 3

SKELETON_RULES = {
    "cumulated double bonds": "*=*=*",
    "triple bond in a ring": "*#;@*",
    "double bond in a three-membered ring": "*1=**1",
    "cyclobutadiene": "*1=**=*1",
    "double bond at a bridgehead": "[x3,x4]=*",
    "two three-membered rings that share a bond": "*12~*~*1~*2",
}
"""Patterns that no skeleton may hold; `*` is any heavy atom."""

ELEMENT_RULES = {
    "peroxide": "[#8]~[#8]",
    "fluorine on a heteroatom": "[#9]~[!#6]",
    "nitroso": "[#7]=[#8]",
    "three heteroatoms in a row outside an aromatic ring": "[#7,#8]~[#7,#8;A]~[#7,#8]",
    "heteroatom on an aromatic pair of heteroatoms": "[#7,#8;A]-[#7;a]:[#7,#8]",
    "four heteroatoms in a row": "[#7,#8]~[#7,#8]~[#7,#8]~[#7,#8]",
    "two neighbouring heteroatoms in a three-membered ring": "[#7,#8]1~[#7,#8]~*1",
    "two neighbouring heteroatoms in a four-membered ring": "[#7,#8]1~[#7,#8]~*~*1",
    "carbonyl or imine on a three-membered ring": "[#7,#8]=[r3]",
    "hydrate, hemiacetal or aminal": "[CX4]([#7,#8;!H0])[#7,#8]",
    "fluorine beside oxygen or nitrogen": "[#6;A]([#9])[#7,#8]",
    "three heteroatoms on one saturated carbon": "[CX4]([#7,#8])([#7,#8])[#7,#8]",
    "enol or enamine": "[#7,#8;!H0;A][C;!$(C=[#7,#8])]=[C]",
    "imidic acid": "[OX2H]C=N",
    "heteroatom on an alkyne": "[#7,#8,#9]C#C",
    "carbonic or carbamic acid": "[OX2H]C(=O)[#7,#8]",
    "cyanate": "[#8]C#N",
    "acyl or imidoyl fluoride": "[#9]C=[#7,#8]",
    "diazene with hydrogen": "[#7]=[#7;!H0]",
    "imine of formaldehyde": "[CH2]=[#7]",
    "hydroxylamine with both ends free": "[#7;!H0][OX2H]",
    "single fluorine on a saturated carbon": "[CX4;!$(C(F)(F)F)]F",
}
"""Patterns that no molecule may hold."""

LENGTHS = {
    frozenset({6}): {1: (1.36, 1.65), 2: (1.27, 1.45), 3: (1.17, 1.25)},
    frozenset({6, 7}): {1: (1.28, 1.58), 2: (1.22, 1.42), 3: (1.12, 1.20)},
    frozenset({6, 8}): {1: (1.28, 1.52), 2: (1.15, 1.28)},
    frozenset({6, 9}): {1: (1.28, 1.42)},
    frozenset({7}): {1: (1.25, 1.52), 2: (1.20, 1.38), 3: (1.05, 1.15)},
    frozenset({7, 8}): {1: (1.30, 1.52)},
    frozenset({1, 6}): {1: (1.05, 1.12)},
    frozenset({1, 7}): {1: (0.98, 1.06)},
    frozenset({1, 8}): {1: (0.94, 1.02)},
}
"""Bond lengths in angstrom that MMFF94 gives to reasonable molecules, by the two elements and the kekulized order."""


def digest(smiles: str) -> bytes:
    """The hash that selects molecules, orders them and seeds their geometry."""
    return hashlib.sha256(smiles.encode()).digest()


def free_valence(atom: Chem.Atom) -> int:
    """Bonds that a carbon skeleton atom can still make."""
    return VALENCES[6] - sum(int(bond.GetBondTypeAsDouble()) for bond in atom.GetBonds())


def bonded(skeleton: Chem.Mol, first: int, second: int, order: int) -> Chem.Mol:
    """A copy of a skeleton with one more bond, and one more carbon where `second` is not one of its atoms yet."""
    copy = Chem.RWMol(skeleton)
    if second == copy.GetNumAtoms():
        copy.AddAtom(Chem.Atom(6))
    copy.AddBond(first, second, ORDERS[order])
    molecule = copy.GetMol()
    molecule.UpdatePropertyCache()
    return molecule


def larger_skeletons(skeletons: Iterable[Chem.Mol]) -> list[Chem.Mol]:
    """All connected skeletons with one atom more than the given complete list has."""
    found: dict[str, Chem.Mol] = {}
    for skeleton in skeletons:
        for atom in skeleton.GetAtoms():
            for order in range(1, min(free_valence(atom), 3) + 1):
                new = bonded(skeleton, atom.GetIdx(), skeleton.GetNumAtoms(), order)
                found.setdefault(Chem.MolToSmiles(new), new)
    waiting = list(found.values())
    while waiting:
        skeleton = waiting.pop()
        free = [free_valence(atom) for atom in skeleton.GetAtoms()]
        for first in range(len(free)):
            for second in range(first):
                if skeleton.GetBondBetweenAtoms(first, second):
                    continue
                for order in range(1, min(free[first], free[second], 3) + 1):
                    new = bonded(skeleton, first, second, order)
                    smiles = Chem.MolToSmiles(new)
                    if smiles not in found:
                        found[smiles] = new
                        waiting.append(new)
    return list(found.values())


def patterns(rules: dict[str, str]) -> list[Chem.Mol]:
    """The rules' SMARTS, compiled."""
    return [Chem.MolFromSmarts(smarts) for smarts in rules.values()]


def sound_skeleton(skeleton: Chem.Mol, forbidden: list[Chem.Mol]) -> bool:
    """Whether a skeleton keeps `SKELETON_RULES`, has few rings and is no cage."""
    Chem.GetSymmSSSR(skeleton)
    rings = skeleton.GetRingInfo()
    if skeleton.GetNumBonds() - skeleton.GetNumAtoms() + 1 > MOST_RINGS:
        return False
    if any(rings.NumAtomRings(index) > 2 for index in range(skeleton.GetNumAtoms())):
        return False
    return not any(skeleton.HasSubstructMatch(pattern) for pattern in forbidden)


def decorations(skeleton: Chem.Mol) -> Iterator[list[int]]:
    """Atomic numbers for the atoms of a skeleton, in every way that valences and cheap rules on neighbours allow."""
    used = [VALENCES[6] - free_valence(atom) for atom in skeleton.GetAtoms()]
    before = [[n.GetIdx() for n in atom.GetNeighbors() if n.GetIdx() < atom.GetIdx()] for atom in skeleton.GetAtoms()]

    def allowed(numbers: list[int], number: int) -> bool:
        index = len(numbers)
        if used[index] > VALENCES[number] or (number in (7, 8) and sum(n in (7, 8) for n in numbers) == MOST_N_AND_O):
            return False
        around = {numbers[n] for n in before[index]}
        if number == 9:
            return around <= {6}
        return number == 6 or (9 not in around and not (number == 8 and 8 in around))

    def extend(numbers: list[int]) -> Iterator[list[int]]:
        if len(numbers) == len(used):
            yield numbers
            return
        for number in VALENCES:
            if allowed(numbers, number):
                yield from extend([*numbers, number])

    return extend([])


def molecules_of(skeleton: Chem.Mol, forbidden: list[Chem.Mol]) -> set[str]:
    """Canonical SMILES of the molecules that have this skeleton and keep `ELEMENT_RULES`."""
    found: set[str] = set()
    for numbers in decorations(skeleton):
        molecule = Chem.Mol(skeleton)
        for atom, number in zip(molecule.GetAtoms(), numbers, strict=True):
            atom.SetAtomicNum(number)
        Chem.SanitizeMol(molecule)
        smiles = Chem.MolToSmiles(molecule)
        if smiles not in found and not any(molecule.HasSubstructMatch(pattern) for pattern in forbidden):
            found.add(smiles)
    return found


def enumerate_smiles(atoms: int, show: bool = False) -> list[list[str]]:
    """Canonical SMILES of all molecules of 1, 2, ... `atoms` heavy atoms, each size sorted by `digest`."""
    topology, chemistry = patterns(SKELETON_RULES), patterns(ELEMENT_RULES)
    skeletons = [Chem.MolFromSmiles("C")]
    sizes: list[list[str]] = []
    for size in range(1, atoms + 1):
        if size > 1:
            skeletons = larger_skeletons(skeletons)
        sound = [skeleton for skeleton in skeletons if sound_skeleton(skeleton, topology)]
        found: set[str] = set()
        for skeleton in track(sound, f"{size} heavy atoms", disable=not show):
            found |= molecules_of(skeleton, chemistry)
        sizes.append(sorted(found, key=digest))
    return sizes


def natural(molecule: Molecule) -> bool:
    """Whether every bond has a length that `LENGTHS` knows for its elements and order."""
    assert molecule.positions is not None
    for begin, end, order in molecule.bonds.tolist():
        elements = frozenset(molecule.numbers[[begin, end]].tolist())
        shortest, longest = LENGTHS[elements][order]
        if not shortest < np.linalg.norm(molecule.positions[begin] - molecule.positions[end]) < longest:
            return False
    return True


def geometry(smiles: str) -> Molecule | None:
    """The molecule with all hydrogens and a relaxed, centred geometry; None if there is no natural one."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = int.from_bytes(digest(smiles)[:4], "big") & 0x7FFFFFFF
    if rdDistGeom.EmbedMolecule(molecule, settings) != 0:
        return None
    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        return None
    if rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, mmffVariant="MMFF94", maxIters=5000) != 0:
        return None
    result = Molecule.from_rdkit(molecule, name=smiles)
    assert result.positions is not None
    result.positions[:] -= result.positions.mean(0)
    return result if natural(result) else None


def pack(molecules: list[Molecule]) -> dict[str, NDArray[np.generic]]:
    """Flat arrays: `atoms` and `bonds` per molecule, the rest for all atoms or bonds; names as joined SMILES bytes."""
    bonds = np.concatenate([molecule.bonds for molecule in molecules])
    positions = np.concatenate([molecule.positions for molecule in molecules if molecule.positions is not None])
    names = "\n".join(molecule.name for molecule in molecules)
    return {
        "atoms": np.array([molecule.size for molecule in molecules], dtype=np.uint8),
        "bonds": np.array([len(molecule.bonds) for molecule in molecules], dtype=np.uint8),
        "atomic_number": np.concatenate([molecule.numbers for molecule in molecules]).astype(np.uint8),
        "formal_charge": np.concatenate([molecule.charges for molecule in molecules]).astype(np.int8),
        "position_milliangstrom": np.rint(positions * 1000).astype(np.int16),
        "bond_begin": bonds[:, 0].astype(np.uint8),
        "bond_end": bonds[:, 1].astype(np.uint8),
        "bond_order": bonds[:, 2].astype(np.uint8),
        "smiles": np.frombuffer(names.encode(), dtype=np.uint8),
    }


def main() -> None:
    """Enumerate, relax, write, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=ATOMS, help="most heavy atoms (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=LIMIT, help="most molecules (default: %(default)s)")
    parser.add_argument("-o", "--out", type=Path, default=OUTPUT, help="file to write (default: the committed one)")
    arguments = parser.parse_args()

    rdBase.DisableLog("rdApp.*")
    sizes = enumerate_smiles(arguments.atoms, show=True)
    molecules: list[Molecule] = []
    refused = 0
    for smiles in track([s for size in sizes for s in size], "geometries"):
        if len(molecules) == arguments.limit:
            break
        molecule = geometry(smiles)
        refused += molecule is None
        if molecule is not None:
            molecules.append(molecule)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out, **pack(molecules))
    print(f"enumerated, by heavy atoms: {[len(size) for size in sizes]}")
    print(f"{len(molecules)} molecules written, {refused} without a natural geometry left out")
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
