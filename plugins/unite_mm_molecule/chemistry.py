"""The chemistry that data preparation and metrics must agree on. Every function needs RDKit and imports it inside."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdkit.Chem import Mol


def canonical_smiles(molecule: "Mol") -> str:
    """Canonical SMILES without stereo or isotopes, all hydrogens removed: two molecules are the same if it is equal.

    The same string results with explicit and with implicit hydrogens. RDKit's plain `RemoveHs` would keep the hydrogen
    of an imine N-H, which carries the stereo of the double bond. The string is read back and written again, because
    that is what happens to every molecule that passes through a SMILES file. A molecule of hydrogens alone keeps them.

    Args:
        molecule: a sanitized molecule.

    Raises:
        rdkit.Chem.MolSanitizeException: the molecule without its hydrogens is not chemically sound.
    """
    from rdkit import Chem

    heavy = Chem.RemoveAllHs(molecule)
    smiles = Chem.MolToSmiles(heavy if heavy.GetNumAtoms() else molecule, isomericSmiles=False)
    again = Chem.MolFromSmiles(smiles)
    return smiles if again is None else Chem.MolToSmiles(again, isomericSmiles=False)
