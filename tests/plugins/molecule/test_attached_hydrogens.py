"""Hydrogens that ride on their atoms: what can be expressed, in and out, order, matching, refinement."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem

from tests.helpers.molecules_by_hand import (
    AMMONIUM,
    GLYCINE,
    HYDROGEN,
    IMINE,
    METHANE,
    METHYL,
    NITROMETHANE,
    by_hand,
    equal,
    from_smiles,
    star,
)
from unite_mm.contract import Registers
from unite_mm.errors import UsageError
from unite_mm_molecule.chemistry import STANDARD_VALENCES
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.batch import MoleculeBatch, random_rotations
from unite_mm_molecule.data.encode import arrange, encode
from unite_mm_molecule.data.view import view_molecules
from unite_mm_molecule.flat import FlatMolecules
from unite_mm_molecule.hydrogens import SLOTS, hydrogen_count, with_hydrogens
from unite_mm_molecule.metrics.reconstruction import compare
from unite_mm_molecule.metrics.validity import check_validity
from unite_mm_molecule.model.decoder import MoleculeLogits
from unite_mm_molecule.model.losses import match_hydrogens, reconstruction_terms
from unite_mm_molecule.model.modules import MoleculeModules
from unite_mm_molecule.model.refinement import Refinement
from unite_mm_molecule.molecule import Molecule

ATTACHED = MoleculeConfig(hydrogens="attached", refinement_rounds=2, distance_weight=1.0)
WATER = star("O", "H H")
HYDRIDE = by_hand("H", charges={0: -1})
CYANIDE = by_hand("C N H", [(0, 1, 3), (0, 2, 1)])
DIBORANE = by_hand(
    "B B H H H H H H",
    [(0, 2, 1), (1, 2, 1), (0, 3, 1), (1, 3, 1), (0, 4, 1), (0, 5, 1), (1, 6, 1), (1, 7, 1)],
)
BOROHYDRIDE = star("B", "H H H H", charges={0: -1})
SULFURIC = from_smiles("OS(=O)(=O)O")
PHOSPHORANE = star("P", "H H H H H")
EXPRESSED = {
    "methane": (METHANE, 1),
    "water": (WATER, 1),
    "ammonium": (AMMONIUM, 1),
    "hydrogen": (HYDROGEN, 2),
    "hydrogen cyanide": (CYANIDE, 2),
    "a bridged borane": (DIBORANE, 8),
    "borohydride": (BOROHYDRIDE, 1),
    "a lone hydride": (HYDRIDE, 1),
    "a zwitterion": (GLYCINE, 5),
    "an imine": (IMINE, 2),
    "a nitro group": (NITROMETHANE, 4),
    "six bonds of sulfur": (SULFURIC, 5),
    "more hydrogens than places": (PHOSPHORANE, 6),
}


def placed(molecule: Molecule, seed: int = 0) -> Molecule:
    """The molecule with some geometry, if it has none."""
    points = np.random.default_rng(seed).normal(size=(molecule.size, 3))
    given = points - points.mean(0) if molecule.positions is None else molecule.positions.copy()
    return replace(molecule, positions=given)


def modules_for(molecules: list[Molecule], config: MoleculeConfig = ATTACHED) -> tuple[MoleculeModules, dict[str, Any]]:
    registers = view_molecules(FlatMolecules.from_molecules(molecules), config).registers
    statistics: dict[str, Any] = {
        "elements": sorted(set(registers.numbers.tolist())),
        "charges": sorted(set(registers.charges.tolist())),
        "max_atoms": int(registers.atoms.max()),
        "position_scale": 1.3,
        "composition_names": [],
        "composition": [[int(registers.atoms.max()), 1]],
    }
    torch.manual_seed(0)
    return MoleculeModules(config, statistics, 32), statistics


def perfect(batch: MoleculeBatch, modules: MoleculeModules) -> MoleculeLogits:
    """What a decoder without any error puts out."""
    assert batch.hydrogen_offsets is not None and batch.hydrogen_counts is not None
    bonds = torch.nn.functional.one_hot(batch.bonds, 4).permute(0, 3, 1, 2).float() * 50
    types = torch.nn.functional.one_hot(batch.types, len(modules.elements)).float() * 50
    charges = torch.nn.functional.one_hot(batch.charges, len(modules.charges)).float() * 50
    return MoleculeLogits(types, charges, batch.positions, bonds, batch.hydrogen_counts, batch.hydrogen_offsets)


@pytest.mark.parametrize("name", EXPRESSED)
def test_a_molecule_goes_in_and_comes_out(name: str) -> None:
    """Registers as expected; what a perfect decoder puts out is the molecule, and its loss is nothing."""
    molecule, registers = EXPRESSED[name]
    goal = arrange([placed(molecule)], ATTACHED)[0]
    goal = replace(goal, bonds=goal.bonds[np.lexsort((goal.bonds[:, 1], goal.bonds[:, 0]))])
    modules, statistics = modules_for([goal])
    batch = encode([goal], statistics, ATTACHED, "qm9")
    assert batch.registers.mask.sum() == registers
    output = perfect(batch, modules)
    found = modules.samples(output, batch.registers)[0]
    assert goal.positions is not None and found.positions is not None
    shift = found.positions[0] - goal.positions[0]
    assert equal(goal, replace(found, positions=found.positions - shift, name=goal.name), 1e-5)
    assert all(float(term.values) < 1e-3 for term in reconstruction_terms(output, batch, ATTACHED).values())


@pytest.mark.parametrize("molecule", [METHYL, star("C", "H H"), by_hand("O H", [(0, 1, 1)])], ids=["CH3", "CH2", "OH"])
def test_a_radical_is_refused(molecule: Molecule) -> None:
    """Its hydrogens do not follow from its valences."""
    assert view_molecules(FlatMolecules.from_molecules([molecule, METHANE]), ATTACHED).unfit.tolist() == [True, False]
    with pytest.raises(UsageError, match="fewer hydrogens than its valence asks for"):
        encode([placed(molecule)], modules_for([METHANE, WATER])[1], ATTACHED, "qm9")


def test_the_rule_is_that_of_smiles() -> None:
    """For single atoms, bonded ones and charged ones RDKit gives as many hydrogens to an atom outside brackets."""
    for number in STANDARD_VALENCES:
        for orders in range(max(STANDARD_VALENCES[number]) + 1):
            mol = Chem.RWMol()
            mol.AddAtom(Chem.Atom(number))
            for _ in range(orders):
                mol.AddBond(0, mol.AddAtom(Chem.Atom(9)), Chem.BondType.SINGLE)
            Chem.SanitizeMol(mol)
            expected = 0 if number == 1 else mol.GetAtomWithIdx(0).GetTotalNumHs()
            assert hydrogen_count(number, 0, orders) == expected, (number, orders)
    charged = [(7, 1, 0, 4), (8, -1, 0, 1), (6, -1, 3, 0), (6, 1, 0, 3), (8, 1, 3, 0), (5, -1, 0, 4), (9, -1, 0, 0)]
    assert [hydrogen_count(*case[:3]) for case in charged] == [case[3] for case in charged]


def shuffled(molecule: Molecule, order: list[int]) -> Molecule:
    rank = np.argsort(order)
    bonds = np.column_stack([np.sort(rank[molecule.bonds[:, :2]], axis=1), molecule.bonds[:, 2]])
    assert molecule.positions is not None
    return Molecule(molecule.numbers[order], molecule.charges[order], bonds, molecule.positions[order])


def test_tokens_do_not_depend_on_the_order_of_hydrogens_padding_or_batch_mates() -> None:
    ethanol, acid = from_smiles("CCO"), from_smiles("CC(=O)O")
    modules, statistics = modules_for([ethanol, acid])
    with torch.no_grad():
        alone = modules.tokenizer(encode([ethanol], statistics, ATTACHED, "qm9")).values
        heavy, hydrogens = [0, 1, 2], [8, 6, 7, 5, 3, 4]
        turned = modules.tokenizer(encode([shuffled(ethanol, heavy + hydrogens)], statistics, ATTACHED, "qm9")).values
        padded = modules.tokenizer(encode([acid, ethanol], statistics, ATTACHED, "qm9")).values[1:, :3]
    torch.testing.assert_close(turned, alone)
    torch.testing.assert_close(padded, alone)


def test_tokens_tell_numbers_and_places_of_hydrogens_apart() -> None:
    ethanol = from_smiles("CCO")
    modules, statistics = modules_for([ethanol])
    bent = placed(ethanol)
    assert bent.positions is not None
    bent.positions[8] += 0.3
    with torch.no_grad():
        one = modules.tokenizer(encode([ethanol], statistics, ATTACHED, "qm9")).values
        other = modules.tokenizer(encode([bent], statistics, ATTACHED, "qm9")).values
    assert (one[0, 2] - other[0, 2]).abs().max() > 1e-3
    torch.testing.assert_close(one[0, :2], other[0, :2])


def test_the_loss_is_the_least_over_all_matchings() -> None:
    generator = torch.Generator().manual_seed(3)
    found = torch.randn(7, 5, SLOTS, 3, generator=generator)
    true = torch.randn(7, 5, SLOTS, 3, generator=generator)
    counts = torch.randint(0, SLOTS + 1, (7, 5), generator=generator)
    loss, matched = match_hydrogens(found, true, counts, best=True)
    in_turn, same = match_hydrogens(found, true, counts)
    assert same is true
    for row in range(7):
        for atom in range(5):
            count = int(counts[row, atom])
            ways = [
                sum(float((found[row, atom, i] - true[row, atom, j]).abs().mean()) for i, j in enumerate(order))
                for order in permutations(range(count))
            ]
            assert float(loss[row, atom]) == pytest.approx(min(ways), abs=1e-5)
            assert float(in_turn[row, atom]) == pytest.approx(ways[0], abs=1e-5)
            again = (found[row, atom, :count] - matched[row, atom, :count]).abs().mean(-1).sum()
            assert float(again) == pytest.approx(min(ways), abs=1e-5)


def test_losses_do_not_depend_on_padding() -> None:
    ethanol, acid = from_smiles("CCO"), from_smiles("CC(=O)OCC")
    modules, statistics = modules_for([ethanol, acid])

    def losses(molecules: list[Molecule]) -> dict[str, float]:
        batch = encode(molecules, statistics, ATTACHED, "qm9")
        latents = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(1)).expand(len(molecules), 6, 16)
        length = batch.registers.mask.shape[1]
        with torch.no_grad():
            output = modules.decoder(latents[:, :length] * batch.registers.mask[..., None], batch.registers)
            terms = reconstruction_terms(output, batch, ATTACHED)
        return {name: float(term.values[0]) for name, term in terms.items()}

    assert losses([ethanol]) == pytest.approx(losses([ethanol, acid]), rel=1e-4)


def refined(refinement: Refinement, turn: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 6, 32, generator=generator)
    positions, offsets = torch.randn(3, 6, 3, generator=generator), torch.randn(3, 6, SLOTS, 3, generator=generator)
    bonds = torch.randn(3, 4, 6, 6, generator=generator)
    counts = torch.randint(0, SLOTS + 1, (3, 6), generator=generator)
    mask = Registers.from_counts(torch.tensor([6, 4, 1])).mask
    places, relative = refinement(x, positions @ turn.T + shift, offsets @ turn.T, bonds, counts, mask)
    assert relative is not None
    return places, relative


def test_refinement_turns_and_shifts_with_its_input() -> None:
    torch.manual_seed(1)
    refinement = Refinement(32, 16, 3, attached=True)
    for parameter in refinement.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    turn = random_rotations(1, torch.Generator().manual_seed(2))[0]
    shift = torch.tensor([1.0, -2.0, 0.5])
    with torch.no_grad():
        places, offsets = refined(refinement, torch.eye(3), torch.zeros(3))
        turned, relative = refined(refinement, turn, shift)
    torch.testing.assert_close(turned, places @ turn.T + shift, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(relative, offsets @ turn.T, rtol=1e-3, atol=1e-3)


def test_refinement_begins_as_the_identity() -> None:
    refinement = Refinement(32, 16, 3, attached=True)
    generator = torch.Generator().manual_seed(5)
    torch.randn(3, 6, 32, generator=generator)
    positions = torch.randn(3, 6, 3, generator=generator)
    with torch.no_grad():
        places, _ = refined(refinement, torch.eye(3), torch.zeros(3))
    torch.testing.assert_close(places, positions)


def test_a_misplaced_molecule_is_compared_before_refinement_and_without_distances() -> None:
    """So that what decodes learns where a molecule lies before anything has taught it to make one of its own."""
    ethanol = from_smiles("CCO")
    modules, statistics = modules_for([ethanol])
    batch = encode([ethanol, ethanol], statistics, ATTACHED, "qm9")
    assert batch.hydrogen_offsets is not None
    away = torch.tensor([1.5, 0.1])[:, None, None] * torch.ones(2, 3, 3)
    bent = 0.2 * torch.randn(2, 3, SLOTS, 3, generator=torch.Generator().manual_seed(1))
    unrefined = ((batch.positions + away).requires_grad_(True), (batch.hydrogen_offsets + bent).requires_grad_(True))
    refined = (
        (batch.positions + 0.5 * away).requires_grad_(True),
        (batch.hydrogen_offsets - bent).requires_grad_(True),
    )
    output = replace(perfect(batch, modules), positions=refined[0], hydrogen_offsets=refined[1], unrefined=unrefined)
    terms = reconstruction_terms(output, batch, ATTACHED)
    assert terms["positions"].values.tolist() == pytest.approx([1.5, 0.05])
    assert terms["distances"].values[0] == 0
    assert terms["distances"].values[1] > 0.01
    torch.stack([term.values for term in terms.values()]).sum().backward()
    for before, after in zip(unrefined, refined, strict=True):
        assert before.grad is not None and after.grad is not None
        reached = [[bool(grad[row].abs().max() > 0) for row in (0, 1)] for grad in (before.grad, after.grad)]
        assert reached == [[True, False], [False, True]]


def test_the_order_of_hydrogens_is_no_error_of_a_reconstruction() -> None:
    """Swapped on their atom they cost nothing, also after a rotation; on another atom, or mirrored, they do."""
    whole = from_smiles("C[C@H](O)CN")
    assert whole.positions is not None
    turn = random_rotations(1, torch.Generator().manual_seed(4))[0].double().numpy()
    begin, end = whole.bonds[:, 0], whole.bonds[:, 1]
    methyl = end[(begin == 0) & (whole.numbers[end] == 1)]
    order = np.arange(whole.size)
    order[methyl] = np.roll(methyl, 1)
    swapped = whole.positions[order]
    assert compare((whole, replace(whole, positions=swapped))).rmsd == pytest.approx(0, abs=1e-5)
    assert compare((whole, replace(whole, positions=swapped @ turn.T + 3))).rmsd == pytest.approx(0, abs=1e-5)
    other = np.arange(whole.size)
    amine = end[(begin == 4) & (whole.numbers[end] == 1)]
    other[[methyl[0], amine[0]]] = amine[0], methyl[0]
    assert (compare((whole, replace(whole, positions=whole.positions[other]))).rmsd or 0) > 0.5
    assert (compare((whole, replace(whole, positions=whole.positions * [1, 1, -1]))).rmsd or 0) > 0.3


def test_explicit_and_attached_score_the_same_molecule_alike() -> None:
    for smiles in ("CCO", "C[NH2+]CC(=O)[O-]", "N#CC1CC1", "OC=N"):
        whole = from_smiles(smiles)
        config = MoleculeConfig(hydrogens="attached")
        view = view_molecules(FlatMolecules.from_molecules([whole]), config)
        assert view.hydrogens is not None
        heavy = view.registers.molecule(0)
        back = with_hydrogens(heavy, view.hydrogens.counts.astype(np.int64), view.hydrogens.offsets.astype(np.float64))
        assert check_validity(back) == check_validity(whole)
