"""PyTorch Geometric in and out: `Data` objects of molecules, and whole data sets of them to train on.

A molecule's `Data` has `z` (n,) atomic numbers and at least one of `pos` (n, 3) in angstrom and bonds: `edge_index`
(2, 2m) with `edge_attr`, either (2m, 4) one-hot over single, double, triple, aromatic as in
`torch_geometric.datasets.QM9`, or the orders (2m,) as numbers. `formal_charge` (n,) and `name` are optional.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.errors import UsageError
from unite_mm.kit.messages import first_line
from unite_mm.progress import Progress, Silent
from unite_mm_molecule.chemistry import NoBonds, add_hydrogens, canonical_smiles, perceive_bonds
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.convert import Rules
from unite_mm_molecule.data.dataset import MoleculeData
from unite_mm_molecule.data.drafts import check_elements
from unite_mm_molecule.data.pieces import array_pieces
from unite_mm_molecule.data.prepare import Origin, check_pieces
from unite_mm_molecule.data.refusals import IMPLAUSIBLE, NO_BONDS, NOT_FINITE, REFUSED, UNREADABLE, Refused
from unite_mm_molecule.flat import FlatMolecules
from unite_mm_molecule.metrics.geometry import odd_distances
from unite_mm_molecule.molecule import Molecule, bond_order_sums

if TYPE_CHECKING:
    from torch_geometric.data import Data

_AROMATIC = 4
_EDGE_ATTR = "`edge_attr`"
_ORDERS_HINT = "use orders (1, 2, 3; 1.5 for aromatic), or one-hot columns for single, double, triple, aromatic"
_CHARGE_BY_VALENCE = {(5, 4): -1, (7, 4): 1, (7, 2): -1, (8, 3): 1, (8, 1): -1}
"""Charge of an atom by atomic number and sum of bond orders, where all hydrogens are atoms: the common ions only."""


def to_pyg(molecule: Molecule) -> "Data":
    """A `Data` with `z`, `pos` (if any), `edge_index`, `edge_attr` (one-hot), `formal_charge`, `name` and `smiles`.

    Each bond is stored in both directions, sorted as in `torch_geometric.datasets.QM9`. `smiles` is left out where
    RDKit refuses the molecule.
    """
    import torch
    from torch_geometric.data import Data

    begin, end, order = molecule.bonds.reshape(-1, 3).T
    edges = np.stack([np.concatenate([begin, end]), np.concatenate([end, begin])])
    sequence = np.lexsort((edges[1], edges[0]))
    types = torch.from_numpy(np.concatenate([order, order])[sequence] - 1)
    try:
        smiles: str | None = canonical_smiles(molecule.to_rdkit())
    except ValueError:
        smiles = None
    return Data(
        z=torch.from_numpy(molecule.numbers),
        pos=None if molecule.positions is None else torch.from_numpy(molecule.positions).float(),
        edge_index=torch.from_numpy(edges[:, sequence]),
        edge_attr=torch.nn.functional.one_hot(types, _AROMATIC).float(),
        formal_charge=torch.from_numpy(molecule.charges),
        name=molecule.name,
        smiles=smiles,
    )


def from_pyg(data: "Data") -> Molecule:
    """A molecule from a `Data`; bonds are found from the geometry where there are none.

    Without `formal_charge`, atoms whose bonds only fit a common ion (N with four bonds, O with one, ...) get its
    charge: `torch_geometric.datasets.QM9` drops the charges. Without any hydrogen atom hydrogens count as implicit.

    Raises:
        UsageError: atomic numbers are missing, so are both geometry and bonds, or bonds make no sense.
    """
    try:
        return _read(data)
    except Refused as refusal:
        hint = _ORDERS_HINT if refusal.reason.startswith(_EDGE_ATTR) else ""
        detail = f": {refusal.detail}" if refusal.detail else ""
        raise UsageError(f"{_label(data)}: {refusal.reason}{detail}", hint) from refusal


def _read(data: "Data") -> Molecule:
    """What `from_pyg` gives.

    Raises:
        Refused: it is no molecule.
    """
    label = _label(data)
    numbers = _array(data, "z", np.int64)
    if numbers is None:
        raise Refused("has no atomic numbers `z`", "")
    positions = _array(data, "pos", np.float64)
    charges = _array(data, "formal_charge", np.int64)
    edges, orders = _array(data, "edge_index", np.int64), _array(data, "edge_attr", np.float64)
    explicit = bool((numbers == 1).any()) or len(numbers) == 1
    if edges is None or orders is None:
        if positions is None:
            raise Refused("has neither positions `pos` nor bonds `edge_index` with `edge_attr`", "")
        if not np.isfinite(positions).all():
            raise Refused(NOT_FINITE, "")
        check_elements(numbers)
        if odd := odd_distances(numbers, positions):
            raise Refused(IMPLAUSIBLE, odd)
        try:
            return Molecule.from_rdkit(perceive_bonds(numbers, positions), name=label)
        except NoBonds as error:
            raise Refused(NO_BONDS, str(error)) from error
    bonds = _bonds(edges, orders)
    plain = np.where(bonds[:, 2:] == _AROMATIC, 1, bonds[:, 2:])
    given = np.zeros_like(numbers) if charges is None else charges
    if problem := Molecule(numbers, given, np.hstack([bonds[:, :2], plain])).nonsense():
        raise Refused(UNREADABLE, problem)
    if (bonds[:, 2] == _AROMATIC).any():
        bonds = _kekulized(numbers, charges, bonds)
    if charges is None:
        charges = _charges(numbers, bonds) if explicit else np.zeros_like(numbers)
    return Molecule(numbers, charges, bonds, positions, explicit, label if _get(data, "name") else "")


def dataset_from_pyg(
    dataset: "Iterable[Data]",
    config: MoleculeConfig,
    *,
    modality: str = "molecule",
    name: str = "pyg",
    description: str = "molecules of a PyTorch Geometric data set",
    progress: Progress | None = None,
    workers: int = 0,
) -> MoleculeData:
    """Any PyG data set, or list of `Data`, of molecules: checked, split and opened like a file. Nothing is cached.

    Args:
        dataset: the molecules.
        config: how the model sees them.
        modality: name of the modality, for the card.
        name: short name for the card.
        description: line for tables of results.
        progress: where to show the work.
        workers: processes; 0: as many as there are cores.

    Raises:
        UsageError: none is usable. Those that `from_pyg` refuses are counted in the card and left out.
    """
    molecules: list[Molecule] = []
    refused: list[tuple[str, str]] = []
    for index, data in enumerate(dataset):
        try:
            molecules.append(_read(data))
        except Refused as refusal:
            if not molecules and not refused:
                first = data
            label = str(_get(data, "name") or f"molecule {index + 1}")[:80]
            refused.append((refusal.reason, f"{label}: {refusal.detail or 'left out'}"))
    if not molecules:
        if refused:
            from_pyg(first)  # says what is wrong with it
        raise UsageError(f"{name}: holds no molecule")
    # A set of heavy atoms alone is completed while it is checked. In a mixed one each molecule is by itself.
    heavy = not any((m.numbers == 1).any() for m in molecules)
    kept = []
    for index, molecule in enumerate(molecules):
        try:
            kept.append(molecule if heavy else add_hydrogens(molecule))
        except ValueError as error:
            refused.append((REFUSED, f"{molecule.name or f'molecule {index + 1}'}: {first_line(error)}"))
    rules = Rules(add_hydrogens=heavy, embed=config.geometry)
    pieces = array_pieces(FlatMolecules.from_molecules(kept))
    origin = Origin(modality, name, description)
    prepared = check_pieces(pieces, rules, origin, progress or Silent(), workers, refused=refused)
    return MoleculeData(prepared, config)


def _label(data: "Data") -> str:
    return str(_get(data, "name") or "PyG data")


def _get(data: "Data", key: str) -> Any:
    return getattr(data, key, None)


def _array(data: "Data", key: str, kind: Any) -> NDArray[Any] | None:
    value = _get(data, key)
    return None if value is None else np.asarray(value.detach().cpu().numpy(), dtype=kind)


def _bonds(edges: NDArray[np.int64], attributes: NDArray[np.float64]) -> NDArray[np.int64]:
    """(m, 3) begin, end, order (4: aromatic); each bond once, whether it is stored in one direction or in both."""
    one_hot = attributes.ndim == 2 and attributes.shape[1] > 1
    if one_hot:
        orders = attributes[:, :_AROMATIC].argmax(axis=1) + 1
    else:
        plain = attributes.reshape(-1)
        orders = np.where(plain == 1.5, _AROMATIC, plain).astype(np.int64)
    if edges.shape != (2, len(orders)) or not np.isin(orders, (1, 2, 3, _AROMATIC)).all():
        raise Refused(
            f"{_EDGE_ATTR} {tuple(attributes.shape)} is not a bond order for each of {edges.shape[-1]} edges", ""
        )
    triples = np.stack([edges.min(axis=0), edges.max(axis=0), orders], axis=1)
    return np.asarray(np.unique(triples, axis=0), dtype=np.int64)


def _kekulized(
    numbers: NDArray[np.int64], charges: NDArray[np.int64] | None, bonds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The bonds with the aromatic ones turned into single and double ones by RDKit."""
    from rdkit import Chem, rdBase

    aromatic = bonds[:, 2] == _AROMATIC
    single = np.where(aromatic[:, None] & (np.arange(3) == 2), 1, bonds)
    plain = Molecule(numbers, np.zeros_like(numbers) if charges is None else charges, single)
    mol = Chem.RWMol(plain.to_rdkit(sanitize=False))
    for begin, end in bonds[aromatic, :2].tolist():
        bond = mol.GetBondBetweenAtoms(begin, end)
        bond.SetBondType(Chem.BondType.AROMATIC)
        bond.SetIsAromatic(True)
        mol.GetAtomWithIdx(begin).SetIsAromatic(True)
        mol.GetAtomWithIdx(end).SetIsAromatic(True)
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
            return Molecule.from_rdkit(mol).bonds
        except ValueError as error:
            raise Refused("its aromatic bonds cannot be kekulized", first_line(error)) from error


def _charges(numbers: NDArray[np.int64], bonds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Formal charges from the sums of bond orders."""
    pairs = zip(numbers.tolist(), bond_order_sums(bonds, len(numbers)).tolist(), strict=True)
    return np.array([_CHARGE_BY_VALENCE.get(pair, 0) for pair in pairs], dtype=np.int64)
