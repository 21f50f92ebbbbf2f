"""Any molecules into the batch that a trained model expects, or a clear message on why they do not fit."""

from collections.abc import Sequence
from typing import Any

import torch

from unite_mm.contract import Statistics
from unite_mm.errors import UsageError
from unite_mm.kit.messages import first_line
from unite_mm_molecule.chemistry import add_hydrogens, embed, rdkit_installed
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch, MoleculeTensors
from unite_mm_molecule.data.known import known_conditions
from unite_mm_molecule.data.view import MoleculeView, view_molecules
from unite_mm_molecule.flat import FlatMolecules
from unite_mm_molecule.molecule import SYMBOLS, Molecule


def arrange(samples: Sequence[Molecule], config: MoleculeConfig) -> list[Molecule]:
    """The molecules as a model of this configuration sees them: its hydrogens, its order of atoms.

    Reconstructions have their atoms in this order, so compare them with these. Arranging twice changes nothing.

    Raises:
        UsageError: the model wants all hydrogens and RDKit cannot supply those that a molecule lacks.
    """
    explicit = config.hydrogens != "implicit"
    complete = [_with_hydrogens(molecule, index) for index, molecule in enumerate(samples)] if explicit else samples
    flat = view_molecules(FlatMolecules.from_molecules(complete), config).native
    return [flat.molecule(index, explicit, config.geometry) for index in range(len(flat))]


def native(sample: Any, index: int, geometry: bool) -> Molecule:
    """A sample as a molecule: it may also be a SMILES or an RDKit molecule, which get hydrogens and a geometry.

    Args:
        sample: a molecule, a SMILES, or an RDKit molecule.
        index: its place, for messages.
        geometry: whether it needs positions.

    Raises:
        UsageError: it is none of these, or no sound molecule.
    """
    if isinstance(sample, Molecule):
        return sample
    label = f"molecule {index + 1}"
    if not rdkit_installed():
        raise UsageError(
            f"{label}: a {type(sample).__name__}; SMILES and RDKit molecules need RDKit", "pip install rdkit"
        )
    from rdkit import Chem, rdBase

    from unite_mm_molecule.files.smiles import parse_smiles

    if not isinstance(sample, (str, Chem.Mol)):
        raise UsageError(f"{label}: a {type(sample).__name__}, not a molecule, a SMILES or an RDKit molecule")
    with rdBase.BlockLogs():
        try:
            mol = parse_smiles(sample.strip()) if isinstance(sample, str) else Chem.Mol(sample)
            Chem.SanitizeMol(mol)
            spatial = mol.GetNumConformers() > 0 and mol.GetConformer().Is3D()
            mol = Chem.AddHs(mol, addCoords=spatial)
            if geometry and not spatial:
                mol, _ = embed(mol)
            name = sample if isinstance(sample, str) else mol.GetProp("_Name") if mol.HasProp("_Name") else ""
            return Molecule.from_rdkit(mol, name[:60])
        except (ValueError, RuntimeError) as error:  # BadRecord and NoGeometry are ValueErrors
            raise UsageError(f"{label}: {first_line(error)}") from error


def smiles_sample(text: str, geometry: bool) -> Molecule:
    """The molecule of a SMILES that a user writes down where a file may be named too.

    Raises:
        UsageError: it is none, or has no geometry.
    """
    try:
        return native(text, 0, geometry)
    except UsageError as error:
        raise UsageError(f"{text[:60]} is neither a file nor a SMILES: {error.message}", error.hint) from error


def encode(samples: Sequence[Any], statistics: Statistics, config: MoleculeConfig, modality: str) -> MoleculeBatch:
    """A batch of any molecules, not augmented, with what they are conditioned on as far as it is known.

    Args:
        samples: the molecules, SMILES or RDKit molecules; hydrogens are added or removed as the configuration wants
            them, and what has no geometry gets one from RDKit unless it is a molecule of ours.
        statistics: what the model was trained on.
        config: the model's configuration.
        modality: name of the modality, for messages.

    Raises:
        UsageError: there are none, or one does not fit: too large, an element or a charge the model has not seen, no
            geometry; the message names the molecule and the value.
    """
    samples = [samples] if isinstance(samples, str) else samples
    if not samples:
        raise UsageError("no molecules to encode")
    samples = [native(sample, index, config.geometry) for index, sample in enumerate(samples)]
    for index, sample in enumerate(samples):
        if problem := sample.flaw or sample.nonsense():
            raise UsageError(f"{_label(sample, index)}: {problem}")
    molecules = arrange(samples, config)
    view = view_molecules(FlatMolecules.from_molecules(molecules), config)
    for index in range(len(molecules)):
        _check(view, index, _label(samples[index], index), statistics, config, modality)
    positions = view.registers.centred_positions() if config.geometry else None
    tensors = MoleculeTensors(view, statistics, positions, known_conditions(samples, statistics))
    return tensors.batch(torch.arange(len(molecules)), None)


def _check(
    view: MoleculeView, index: int, label: str, statistics: Statistics, config: MoleculeConfig, modality: str
) -> None:
    molecule = view.registers.molecule(index)
    if molecule.size == 0:
        raise UsageError(f"{label}: holds no atom")
    if view.unfit[index]:
        raise UsageError(
            f"{label}: an atom has fewer hydrogens than its valence asks for, which attached hydrogens cannot express",
            f"use a model with {modality}.hydrogens=explicit",
        )
    if molecule.size > statistics["max_atoms"]:
        raise UsageError(
            f"{label}: {molecule.size} atoms, but the model has room for {statistics['max_atoms']}",
            f"train on larger molecules, with {modality}.max_atoms at least {molecule.size}",
        )
    for number in molecule.numbers.tolist():
        if number not in statistics["elements"]:
            known = ", ".join(SYMBOLS.get(element, str(element)) for element in statistics["elements"])
            raise UsageError(f"{label}: element {SYMBOLS.get(number, number)}, but the model knows {known}")
    for charge in molecule.charges.tolist():
        if charge not in statistics["charges"]:
            known = ", ".join(f"{value:+d}" if value else "0" for value in statistics["charges"])
            raise UsageError(f"{label}: an atom of charge {charge:+d}, but the model knows {known}")
    whole = view.native.molecule(index)
    if config.geometry and (whole.positions is None or not whole.finite):
        raise UsageError(
            f"{label}: no 3D coordinates, or some that are not finite; the model needs them",
            f"use a file with coordinates, or train a model with {modality}.geometry=false",
        )


def _with_hydrogens(molecule: Molecule, index: int) -> Molecule:
    try:
        return add_hydrogens(molecule)
    except ValueError as error:  # the base of every chemistry error of RDKit
        label = _label(molecule, index)
        raise UsageError(f"{label}: its missing hydrogens cannot be added: {first_line(error)}") from error


def _label(molecule: Molecule, index: int) -> str:
    return molecule.name or f"molecule {index + 1}"
