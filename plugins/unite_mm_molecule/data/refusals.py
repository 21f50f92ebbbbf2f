"""Why a molecule of a source is left out; the data-set card counts them by reason."""

UNCHARACTERIZED = "listed as uncharacterized (geometry and bonds disagree)"
UNREADABLE = "cannot be read"
NO_ATOMS = "holds no atom"
UNKNOWN_ELEMENT = "holds an element that the plugin does not know"
REFUSED = "refused by RDKit (valence, charge or aromaticity)"
FRAGMENTS = "more than one fragment"
RADICAL = "an atom is short of bonds (radical or missing hydrogen)"
NOT_FINITE = "coordinates that are not finite numbers"
IMPLAUSIBLE = "its atoms are no plausible distances apart (are the coordinates in angstrom?)"
NO_BONDS = "no consistent bonds found from the geometry (total charge 0 assumed)"
NO_GEOMETRY = "no 3D geometry could be made"
CHARGED = "not neutral"
OTHER_ATOMS = "its SMILES and its geometry do not have the same atoms"
OTHER_HYDROGENS = "its hydrogens are not where its SMILES says"
LONG_BOND = "a bond of its SMILES is too long in its geometry"


class Refused(Exception):
    """A molecule that is left out.

    Args:
        reason: one of the constants of this module: molecules are counted by it.
        detail: what exactly, for the examples in the card.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = " ".join(detail.split())[:120]
