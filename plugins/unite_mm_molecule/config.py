"""The plugin's own configuration; the manifest names it."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from unite_mm_molecule.properties import NAMES
from unite_mm_schemas.base import Schema

COUNTS = ("none", "counts", "formula")
"""What may be counted of a molecule to condition on; one of these beside any properties."""


def _condition(value: Any) -> Any:
    """Names of conditions, a text with commas or a list, as one text or a tuple of several."""
    if not isinstance(value, str | list | tuple):
        return value
    names = [str(one).strip() for one in (value.split(",") if isinstance(value, str) else value)]
    known = (*COUNTS, *NAMES)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{name!r} is no condition; {hint}there are: {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{','.join(names)}: a condition is named twice")
    counted = [name for name in names if name in COUNTS]
    if len(counted) > 1 or ("none" in counted and len(names) > 1):
        raise ValueError(f"{','.join(names)}: {' and '.join(counted)} cannot be asked together with others; "
                         "name one of counts and formula beside properties")  # fmt: skip
    return names[0] if len(names) == 1 else tuple(names)


class MoleculeMetrics(Schema):
    """Choices of scoring; they change reports and no model."""

    adit: bool = True
    """Score by ADiT's convention too (extra `eval`; about 1 ms a molecule)."""
    fcd: bool = True
    """Measure the Frechet ChemNet distance to the held-out molecules (extra `eval`; 3 ms a molecule)."""
    posebusters: bool = False
    """Run PoseBusters on the strictly valid samples (extra `eval`; 0.2 s a molecule, up to 20 s)."""
    mmff94: int = Field(1000, ge=0, le=1_000_000)
    """Strictly valid samples, spread over all, that are relaxed with MMFF94; 0: none."""
    xtb: int = Field(0, ge=0, le=1_000_000)
    """Strictly valid samples, spread over all, that are relaxed with GFN2-xTB (extra `eval`; about a second each);
    0: none."""
    ceiling: int = Field(10_000, ge=0, le=1_000_000)
    """Held-out molecules that are scored as samples are, once for a data set, to stand beside them; 0: none."""
    conditioned: int = Field(1000, ge=0, le=1_000_000)
    """Held-out molecules under whose properties molecules are generated and judged by a regressor, where the denoiser
    is told properties; never more than samples are evaluated; 0: none."""
    conditioned_xtb: int = Field(0, ge=0, le=1_000_000)
    """As many of these molecules are judged by GFN2-xTB, too, where they were told gap or mu (extra `eval`); 0:
    none."""
    reference_split: Literal["validation", "test"] = "test"
    """Held-out split that generated molecules are compared with; `validation` while settings are chosen."""


class MoleculeSampling(Schema):
    """Choices of generation; they change samples and no model."""

    compositions: Literal["training", "uniform"] = "training"
    """How the number of atoms and the composition of a new molecule are drawn where they are not asked for: as often as
    training molecules have them, or each that occurs equally often."""


class MoleculeConfig(Schema):
    """How molecules are represented, encoded, decoded and weighed."""

    hydrogens: Literal["attached", "explicit", "implicit"] = "explicit"
    """Explicit: every hydrogen has a register of its own (published). Attached: it rides on the register of its heavy
    atom, how many do follows from the atom's valence, their positions are generated. Implicit: heavy atoms only; RDKit
    supplies the rest."""
    geometry: bool = True
    """Whether atoms have positions; without, molecules are plain graphs."""
    atom_order: Literal["grouped", "source"] = "grouped"
    """Grouped: each heavy atom is followed by its hydrogens. Source: the order of the file. Attached hydrogens are
    always grouped."""
    max_atoms: int | None = Field(None, ge=1, le=100_000)
    """Registers of the layout; larger molecules are left out. None: the largest molecule of the data."""
    condition: Annotated[str | tuple[str, ...], BeforeValidator(_condition)] = "counts"
    """What the denoiser is told of a molecule. `counts`: the number of heavy atoms and of hydrogens; `formula`: the
    number of atoms of every element; generation draws either from the training histogram. Properties of QM9 by name
    (A, B, C, mu, alpha, homo, lumo, gap, r2, zpve, U0, U, H, G, Cv, and U0_atom, U_atom, H_atom, G_atom), which may be
    left open. Several in a list or with commas: `formula,gap,alpha`. `none`: it knows only the number of registers."""
    translation: float = Field(0.1, ge=0, le=1000)
    """Augmentation: standard deviation of the random shift of a molecule, in scaled units."""
    channels: int = Field(16, ge=1, le=65_536)
    """Latent channels C of each register."""
    decoder_depth: int = Field(2, ge=1, le=1024)
    """Blocks of the decoder."""
    decoder_width: int | None = Field(None, ge=8, le=65_536)
    """Width of the decoder; None: the trunk's."""
    decoder_heads: int | None = Field(None, ge=1, le=4096)
    """Attention heads of the decoder; None: one for every 32 channels of its width."""
    type_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss of the elements."""
    charge_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss of the formal charges."""
    bond_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss of the bond orders."""
    position_weight: float = Field(2.0, ge=0, le=1e6)
    """Weight of the loss of the positions."""
    hydrogen_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss of the positions of attached hydrogens relative to their atoms."""
    hydrogen_matching: Literal["ordered", "best"] = "ordered"
    """How the attached hydrogens of an atom are read and compared with the true ones. Ordered: one after the other, in
    the order in which they lie around the bond to the atom's first heavy neighbour. Best: as a sum, and compared under
    the matching that makes the loss least; positions are several times less exact after the same time, samples better
    (docs/experiments/order-of-hydrogens.md)."""
    distance_weight: float = Field(0.0, ge=0, le=1e6)
    """Weight of the loss of the distances between bonded atoms and between second neighbours."""
    laplace_scale: float = Field(0.05, gt=0, le=1e3)
    """Scale of the Laplace distribution as whose logarithm the regime unified-latents counts errors of positions, in
    scaled units: how large an error of a coordinate costs one nat."""
    refinement_rounds: int = Field(0, ge=0, le=64)
    """Rounds of equivariant message passing over the decoded graph that correct the decoded positions."""
    refinement_width: int = Field(64, ge=8, le=4096)
    """Width of the messages of the refinement."""
    metrics: MoleculeMetrics = MoleculeMetrics()
    """Choices of scoring."""
    sampling: MoleculeSampling = MoleculeSampling()
    """Choices of generation."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of all that the denoiser is told."""
        return (self.condition,) if isinstance(self.condition, str) else self.condition

    @property
    def counted(self) -> str:
        """What is counted of a molecule: `none`, `counts` or `formula`."""
        return next((name for name in self.conditions if name in COUNTS), "none")

    @property
    def conditioned_properties(self) -> tuple[str, ...]:
        """Names of the properties that the denoiser is told, in order."""
        return tuple(name for name in self.conditions if name not in COUNTS)
