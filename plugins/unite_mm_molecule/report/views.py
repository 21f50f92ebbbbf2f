"""Galleries of molecules for the HTML report. Needs RDKit, imported inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unite_mm.contract import ReportViews
from unite_mm.kit.choice import spread_evenly
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.encode import arrange
from unite_mm_molecule.metrics.validity import ValidityResult, check_validity
from unite_mm_molecule.molecule import Molecule
from unite_mm_molecule.report.content import formula, pair_content, sample_content
from unite_mm_molecule.report.published import published_figures
from unite_mm_schemas.metrics import MetricsReport
from unite_mm_schemas.views import Fact, Gallery, GalleryItem, Published, Tag

ASSETS = Path(__file__).parent / "assets"

MOST_OF_A_KIND = 100
"""Molecules shown of each kind: a drawing takes 4 ms and 3 kB."""

MOST_LOOKED_AT = 2000
"""Molecules that are looked at: those of ten thousand would take ten seconds. The scores have looked at all."""

MOST_PAIRS_LOOKED_AT = 800
"""Reconstructions that are looked at, each of which takes three times as long."""

CRASHED = ValidityResult("does not sanitize", "crashed the chemistry toolkit", None)

LONGEST = 200
"""Characters of a name or SMILES that are shown."""


class MoleculeViews(ReportViews):
    """Galleries of molecules: structural formulas, and 3D views by 3Dmol.js.

    Args:
        config: the modality's configuration.
    """

    renderer = "molecules"
    scripts = (ASSETS / "3Dmol-min.js", ASSETS / "molecules.js")
    styles = (ASSETS / "molecules.css",)
    licences = (ASSETS / "3Dmol.LICENSE.txt",)
    headlines = (
        *("validity", "validity_adit", "uniqueness", "novelty_of_all", "match_graph", "rmsd_mean"),
    )  # the first of these that were measured

    def __init__(self, config: MoleculeConfig) -> None:
        self.config = config

    def samples(
        self, samples: Sequence[Molecule], reference: Any, progress: Progress, workers: int = 0
    ) -> Gallery | None:
        """Valid, novel and invalid molecules, up to `MOST_OF_A_KIND` of each, spread evenly over all."""
        places = spread_evenly(len(samples), MOST_LOOKED_AT)
        some = [samples[place] for place in places]
        found = map_items(
            check_validity, some, title="choosing molecules for the report", progress=progress, workers=workers
        )
        results = [one or CRASHED for one in found]
        known = None if reference is None else set(reference.smiles("train"))
        kinds = [_kinds(result, known) for result in results]
        names = ["invalid", "valid"] if known is None else ["invalid", "novel", "known"]
        chosen = sorted({index for name in names for index in _spread([name in kind for kind in kinds])})
        items = []
        with progress.task("drawing molecules for the report", len(chosen)) as advance:
            for index in chosen:
                items.append(_sample_item(places[index], some[index], results[index], kinds[index]))
                advance(1)
        return Gallery(
            kind="samples",
            title="Generated molecules",
            total=len(samples),
            tags=_tags(kinds, known is not None, counted=len(some) == len(samples)),
            items=tuple(items),
            notes=_notes(len(items), len(some), len(samples)),
        )

    def reconstructions(
        self, inputs: Sequence[Molecule], outputs: Sequence[Molecule], progress: Progress, workers: int = 0
    ) -> Gallery | None:
        """Held-out molecules with their reconstructions: those that differ first, up to `MOST_OF_A_KIND` of each."""
        from unite_mm_molecule.metrics.reconstruction import compare

        places = spread_evenly(len(inputs), MOST_PAIRS_LOOKED_AT)
        arranged = arrange([inputs[place] for place in places], self.config)
        pairs = list(zip(arranged, (outputs[place] for place in places), strict=True))
        found = map_items(
            compare, pairs, title="choosing reconstructions for the report", progress=progress, workers=workers
        )
        matches = [one is not None and one.graph for one in found]
        counted = len(pairs) == len(inputs)
        chosen = sorted({*_spread(matches), *_spread([not match for match in matches])})
        items = []
        with progress.task("drawing reconstructions for the report", len(chosen)) as advance:
            for index in chosen:
                comparison = found[index]
                rmsd = None if comparison is None else comparison.rmsd
                items.append(_pair_item(places[index], *pairs[index], matches[index], rmsd))
                advance(1)
        return Gallery(
            kind="reconstructions",
            title="Reconstructions",
            total=len(inputs),
            tags=(
                Tag(name="match", title="same molecule", total=sum(matches) if counted else None),
                Tag(name="differs", title="differs", total=matches.count(False) if counted else None, alert=True),
            ),
            items=tuple(sorted(items, key=lambda item: "differs" not in item.tags)),
            notes=(
                *_notes(len(items), len(pairs), len(inputs)),
                "In the 3D view the input is grey and its reconstruction is coloured, laid over it by heavy atoms.",
            ),
        )

    def published(self, report: MetricsReport) -> Sequence[Published]:
        return published_figures(report)


def _kinds(result: ValidityResult, known: "set[str] | None") -> tuple[str, ...]:
    if not result.valid:
        return ("invalid",)
    if known is None:
        return ("valid",)
    return ("valid", "known" if result.smiles in known else "novel")


def _spread(wanted: Sequence[bool]) -> list[int]:
    """Indices of at most `MOST_OF_A_KIND` that are wanted, spread evenly."""
    found = [index for index, is_wanted in enumerate(wanted) if is_wanted]
    return [found[place] for place in spread_evenly(len(found), MOST_OF_A_KIND)]


def _tags(kinds: Sequence[tuple[str, ...]], compared: bool, counted: bool) -> tuple[Tag, ...]:
    titles: Mapping[str, str] = {"valid": "valid", "novel": "novel", "known": "in the training data"}
    shown = [name for name in titles if name == "valid" or compared]
    totals = {name: sum(name in kind for kind in kinds) if counted else None for name in (*shown, "invalid")}
    return (
        *(Tag(name=name, title=titles[name], total=totals[name]) for name in shown),
        Tag(name="invalid", title="invalid", total=totals["invalid"], alert=True),
    )


def _notes(shown: int, looked_at: int, total: int) -> tuple[str, ...]:
    if shown == total:
        return ()
    among = "" if looked_at == total else f" among {looked_at:,}"
    return (f"{shown:,} of {total:,} are shown: up to {MOST_OF_A_KIND} of each kind{among}, spread evenly over all.",)


def _sample_item(index: int, sample: Molecule, result: ValidityResult, kinds: tuple[str, ...]) -> GalleryItem:
    facts = [Fact(label="sample", text=f"{index + 1:,}")]
    if sample.name:
        facts.append(Fact(label="name", text=sample.name[:LONGEST]))
    if sample.size:
        facts.append(Fact(label="formula", text=formula(sample)))
    state = "valid" if result.valid else f"{result.problem}: {result.detail}"
    facts.append(Fact(label="validity", text=state[:LONGEST]))
    if "novel" in kinds or "known" in kinds:
        facts.append(Fact(label="training data", text="does not hold it" if "novel" in kinds else "holds it"))
    title = result.smiles if result.valid and result.smiles else result.detail or result.problem
    return GalleryItem(title=title[:LONGEST], tags=kinds, facts=tuple(facts), content=sample_content(sample))


def _pair_item(index: int, original: Molecule, copy: Molecule, match: bool, rmsd: float | None) -> GalleryItem:
    goal, found = check_validity(original), check_validity(copy)
    facts = [
        Fact(label="pair", text=f"{index + 1:,}"),
        *([Fact(label="name", text=original.name[:LONGEST])] if original.name else []),
        Fact(label="input", text=(goal.smiles or formula(original))[:LONGEST]),
    ]
    if not match:
        facts.append(Fact(label="reconstruction", text=(found.smiles or found.detail or "no molecule")[:LONGEST]))
    facts.append(Fact(label="RMSD", text="none" if rmsd is None else f"{rmsd:.3f} Å"))
    title = (goal.smiles or original.name or formula(original) or "input")[:LONGEST]
    if rmsd is not None:
        title = f"{rmsd:.2f} Å · {title}"
    tags = ("match",) if match else ("differs",)
    return GalleryItem(title=title, tags=tags, facts=tuple(facts), content=pair_content(original, copy))
