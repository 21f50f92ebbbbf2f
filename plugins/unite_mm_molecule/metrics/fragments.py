"""How many generated molecules are valid and contain the part that they were grown around."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from unite_mm.kit.intervals import share
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress
from unite_mm_molecule.chemistry import rdkit_installed, sanitized
from unite_mm_molecule.metrics.validity import examine
from unite_mm_molecule.molecule import Molecule
from unite_mm_schemas.metrics import Score

_MOST_MATCHES = 1000


@dataclass(frozen=True)
class Grown:
    """One molecule.

    Attributes:
        valid: strictly.
        kept: whether it contains the part.
        smiles: canonical; None if it does not sanitize.
    """

    valid: bool
    kept: bool
    smiles: str | None


def contains(molecule: Molecule, part: Molecule) -> bool:
    """Whether a molecule has the part's heavy atoms with equal elements, charges, bond orders and aromaticity.

    A molecule that does not sanitize contains nothing.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        try:
            whole, query = Chem.RemoveAllHs(sanitized(molecule)), Chem.RemoveAllHs(sanitized(part))
        except (ValueError, RuntimeError):
            return False
    wanted = [atom.GetFormalCharge() for atom in query.GetAtoms()]
    charges = [atom.GetFormalCharge() for atom in whole.GetAtoms()]
    # RDKit lets a neutral atom of a pattern match a charged one.
    found = whole.GetSubstructMatches(query, uniquify=False, maxMatches=_MOST_MATCHES)
    return any([charges[index] for index in match] == wanted for match in found)


def examine_grown(molecule: Molecule, part: Molecule) -> Grown:
    """Validity of a molecule, and whether it contains the part."""
    result, _ = examine(molecule)
    kept = result.smiles is not None and molecule.size > 0 and contains(molecule, part)
    return Grown(result.valid, kept, result.smiles)


def score_fragment(samples: Sequence[Molecule], part: Molecule, progress: Progress, workers: int = 0) -> Score:
    """Shares of all samples, raw: nothing is repaired, filtered or drawn again."""
    if not rdkit_installed():
        return Score(kind="fragment", notes=("not scored, for RDKit is not installed",))
    judge = partial(examine_grown, part=part)
    results = map_items(judge, samples, title="scoring samples", progress=progress, workers=workers)
    found = [one or Grown(False, False, None) for one in results]
    both = [one for one in found if one.valid and one.kept]
    valid, kept, total = sum(one.valid for one in found), sum(one.kept for one in found), len(found)
    metrics = (
        share("validity", "valid (strict)", valid, total, "strictly valid samples over all samples"),
        share(
            "fragment_kept",
            "contain the fragment",
            kept,
            total,
            "samples that sanitize and whose heavy-atom graph contains that of the fragment, with equal elements, "
            "charges, bond orders and aromaticity, over all samples",
        ),
        share("fragment_kept_of_valid", "contain it, of valid", len(both), valid, "over strictly valid samples"),
        share("valid_fragment", "valid and contain it", len(both), total, "both, over all samples"),
        share(
            "fragment_unique",
            "unique of these",
            len({one.smiles for one in both}),
            len(both),
            "distinct canonical SMILES over strictly valid samples that contain the fragment",
        ),
    )
    return Score(kind="fragment", metrics=metrics)
