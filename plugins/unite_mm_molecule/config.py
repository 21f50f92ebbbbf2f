"""The plugin's own configuration; the manifest names it."""

from typing import Literal

from pydantic import Field

from unite_mm_schemas.base import Schema


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
    condition: Literal["none", "counts", "formula"] = "counts"
    """What the denoiser is told of a molecule: the number of heavy atoms and of hydrogens, or its formula, the number
    of atoms of every element. Generation draws it from the training histogram. None: it knows only the number of
    registers."""
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
    distance_weight: float = Field(0.0, ge=0, le=1e6)
    """Weight of the loss of the distances between bonded atoms and between second neighbours."""
    refinement_rounds: int = Field(0, ge=0, le=64)
    """Rounds of equivariant message passing over the decoded graph that correct the decoded positions."""
    refinement_width: int = Field(64, ge=8, le=4096)
    """Width of the messages of the refinement."""
    metrics: MoleculeMetrics = MoleculeMetrics()
    """Choices of scoring."""
    sampling: MoleculeSampling = MoleculeSampling()
    """Choices of generation."""
