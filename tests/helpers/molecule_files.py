"""Small molecule files made up for tests."""

import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from rdkit import Chem
from rdkit.Chem import rdDistGeom

NAMED = {
    "water": "O",
    "methane": "C",
    "ethanol": "CCO",
    "imine": "C=N",
    "benzene": "c1ccccc1",
    "pyrrole": "c1cc[nH]c1",
    "nitrile": "CC#N",
    "zwitterion": "[NH3+]CC(=O)[O-]",
    "nitromethane": "C[N+](=O)[O-]",
    "fluoride": "CF",
    "hydrogen": "[H][H]",
    "acid": "OC=O",
}
"""SMILES by name: rings, charges, triple bonds, a hydrogen that carries stereo, one without any heavy atom."""


@cache
def block(name: str, smiles: str | None = None) -> str:
    """A MOL block (kekulized, 3D, explicit hydrogens) that begins with the name, without the `$$$$` line."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles or NAMED[name]))
    assert rdDistGeom.EmbedMolecule(molecule, randomSeed=7) == 0
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    return name + Chem.MolToMolBlock(molecule, kekulize=False)


def sdf(blocks: Iterable[str]) -> str:
    """SDF text."""
    return "".join(f"{one}$$$$\n" for one in blocks)


def named_sdf() -> str:
    """SDF text of all named molecules."""
    return sdf(block(name) for name in NAMED)


def uncharacterized(indices: Iterable[int]) -> str:
    """A list of uncharacterized molecules (indices from 1) with nine header and two trailing lines, as the original."""
    rows = [f"{index:>7}  C[NH]   C   N" for index in indices]
    return "\n".join([*(f"header {i}" for i in range(9)), *rows, "-----", ""])


def raw_folder(folder: Path, blocks: Iterable[str], listed: Iterable[int] | None = ()) -> Path:
    """QM9's raw files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gdb9.sdf").write_text(sdf(blocks))
    if listed is not None:
        (folder / "uncharacterized.txt").write_text(uncharacterized(listed))
    return folder


def property_table(values: Mapping[str, Mapping[str, float]]) -> str:
    """`gdb9.sdf.csv` of molecules by name; properties that are not given are 1."""
    lines = ["mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv"]
    order = lines[0].split(",")[1:]
    lines += [",".join([name, *(repr(float(own.get(key, 1))) for key in order)]) for name, own in values.items()]
    return "\n".join(lines) + "\n"


def raw_zip(path: Path, blocks: Iterable[str]) -> Path:
    """QM9's raw files in a zip file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gdb9.sdf", sdf(blocks))
        archive.writestr("gdb9.sdf.csv", "mol_id\n")
    return path
