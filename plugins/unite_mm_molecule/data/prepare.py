"""From a source to prepared molecules: checked once by RDKit on all cores, then kept as whole arrays in the cache.

The cache folder of a source is named by a hash of its content and of everything that decides the result. Opening it
again needs no RDKit.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from unite_mm.contract import DataRequest
from unite_mm.errors import UniteError, UsageError
from unite_mm.kit.cache import PluginCache
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.data.convert import Converted, Rules, convert
from unite_mm_molecule.data.pieces import Piece
from unite_mm_molecule.data.prepared import EXAMPLES, Prepared, count_splits
from unite_mm_molecule.data.properties import Values, in_order_of, with_atomization
from unite_mm_molecule.data.sources import EMBEDDED, QM9, Source, find_source
from unite_mm_molecule.data.splits import assign, split_hash
from unite_mm_molecule.files.text import decode
from unite_mm_molecule.flat import FlatMolecules
from unite_mm_schemas.card import DataCard, Exclusion, SourceFile

FORMAT = {"qm9": 2, "package": 2, "smiles": 2, "sdf": 3, "mol2": 1, "xyz": 3, "arrays": 3}
"""Version of the cache's layout and of the checks, by kind of source; raise it to prepare these again.

The last changes: properties of QM9; a few molecules of many conformers hold out whole ones, and XYZ frames of a wrong
count are flawed.
"""
_EMBEDDED = 1
"""The version of the set that ships with the package."""

CACHE = "molecule"
"""The plugin's folder in the cache, shared by its modalities."""

_TIME_LIMIT = 600.0
"""Seconds for one piece, after which a worker process counts as stalled."""
_MOLECULE_LIMIT = 60.0
"""Seconds for one molecule of a piece that stalled or crashed."""

_CRASHED = "made a worker process crash or hang"


@dataclass(frozen=True)
class Origin:
    """Where molecules come from, for their card.

    Attributes:
        modality: name of the modality that asks for them.
        name: short name.
        description: line that every table of results repeats.
        files: input files.
        notes: anything else a user must know.
    """

    modality: str
    name: str
    description: str
    files: tuple[SourceFile, ...] = ()
    notes: tuple[str, ...] = ()


def open_prepared(request: DataRequest, config: MoleculeConfig, modality: str) -> Prepared:
    """The prepared source, from the cache or made now. Two processes that ask at once prepare it once.

    Args:
        request: names the source.
        config: whether the molecules need a geometry.
        modality: name for the card; the cache is shared by all modalities of this plugin.

    Raises:
        UsageError: the source does not exist, cannot be read, or holds no usable molecule.
        UniteError: QM9 cannot be downloaded, or the cache cannot be written.
    """
    cache = PluginCache(request, CACHE)
    if request.source == QM9:
        return cache.open(_qm9_folder(cache), partial(_prepare_qm9, cache, request, modality), Prepared.read).named(
            modality
        )
    source = find_source(request.source, cache.downloads, request.progress)
    rules = Rules(source.hydrogens_may_be_missing, embed=config.geometry and source.geometry_may_be_missing)
    files = source.files()
    version = _EMBEDDED if source.path == EMBEDDED else FORMAT[source.kind]
    facts = [version, source.name, source.kind, [file.sha256 for file in files], rules.add_hydrogens, rules.embed]

    def prepare(folder: Path) -> None:
        _prepare(source, files, rules, request, modality, version).write(folder)

    return cache.open(cache.folder(source.name, facts), prepare, Prepared.read).named(modality)


def _qm9_folder(cache: PluginCache) -> Path:
    """Where QM9 lies once it is prepared, from whichever source, so that it opens where none of them is at hand."""
    return cache.folder(QM9, [FORMAT["package"], FORMAT["qm9"], QM9])


def _prepare_qm9(cache: PluginCache, request: DataRequest, modality: str, folder: Path) -> None:
    source = find_source(request.source, cache.downloads, request.progress)
    rules = Rules(source.hydrogens_may_be_missing, embed=source.geometry_may_be_missing)
    _prepare(source, source.files(), rules, request, modality, FORMAT[source.kind]).write(folder)


def _prepare(
    source: Source, files: tuple[SourceFile, ...], rules: Rules, request: DataRequest, modality: str, version: int
) -> Prepared:
    pieces = source.pieces()
    first = pieces[0].records[:1]
    head = decode(first[0][:500]) if first else ""
    origin = Origin(modality, source.name, source.description(head, rules.embed), files, source.notes())
    table = source.property_table()
    prepared = check_pieces(pieces, rules, origin, request.progress, request.workers, version=version)
    if table is None:
        return prepared
    values = with_atomization(in_order_of(table, prepared.molecules), prepared.molecules)
    return replace(prepared, properties=values)


def check_pieces(
    pieces: Sequence[Piece],
    rules: Rules,
    origin: Origin,
    progress: Progress,
    workers: int = 0,
    *,
    version: int = FORMAT["arrays"],
    refused: Sequence[tuple[str, str]] = (),
) -> Prepared:
    """Check all molecules, on several cores if there are many, and split them.

    Args:
        pieces: the molecules.
        rules: what may be added to them.
        origin: where they come from.
        progress: where to show it.
        workers: processes; 0: as many as there are cores.
        version: of the checks, for the card.
        refused: (reason, `name: detail`) of molecules that are in no piece because they could not be read.

    Raises:
        UsageError: not one molecule is usable.
        UniteError: RDKit is not installed.
    """
    rdkit = _rdkit_version()
    # A process of its own takes a second to start: a few pieces are done sooner in this one.
    limit = _TIME_LIMIT if len(pieces) > 4 and workers != 1 else None
    title = f"Preparing {origin.name}, pieces of {pieces[0].count} molecules"
    work = partial(convert, rules=rules)
    found = map_items(work, pieces, title=title, progress=progress, workers=workers, chunk=2, limit=limit)
    pieces, results = _again_one_by_one(pieces, found, work, progress, workers)
    done = [result for result in results if result is not None]
    excluded = _count_refused(pieces, results, refused)
    read = sum(piece.count for piece in pieces) + len(refused)
    molecules = FlatMolecules.concatenate([result.molecules for result in done])
    smiles = tuple(key for result in done for key in result.smiles)
    if not smiles:
        first = f": {excluded[0].reason} ({excluded[0].examples[0]})" if excluded else ""
        raise UsageError(f"{origin.name}: none of its {read} molecules is usable{first}")
    splits = assign(smiles)
    card = DataCard(
        modality=origin.modality,
        name=origin.name,
        description=origin.description,
        files=origin.files,
        read=read,
        kept=len(smiles),
        excluded=excluded,
        splits=count_splits(splits),
        split_hash=split_hash(smiles, splits),
        notes=(*origin.notes, *_notes(done)),
        settings={"format": version, "add_hydrogens": rules.add_hydrogens, "embed": rules.embed, "rdkit": rdkit},
    )
    return Prepared(molecules, smiles, splits, card, _properties(done, molecules))


def _properties(done: Sequence[Converted], molecules: FlatMolecules) -> Values | None:
    """(N, P) of all molecules that passed; None unless all pieces have properties."""
    values = [result.properties for result in done if result.properties is not None]
    return with_atomization(np.concatenate(values), molecules) if len(values) == len(done) else None


def _again_one_by_one(
    pieces: Sequence[Piece],
    results: Sequence[Converted | None],
    work: Callable[[Piece], Converted],
    progress: Progress,
    workers: int,
) -> tuple[Sequence[Piece], Sequence[Converted | None]]:
    """What is lost with a piece that crashed or stalled is done again alone, so that one molecule costs no other."""
    lost = [index for index, result in enumerate(results) if result is None]
    if not lost:
        return pieces, results
    single = [part for index in lost for part in pieces[index].each()]
    title = "Preparing again, one by one, what crashed or stalled"
    found = iter(
        map_items(work, single, title=title, progress=progress, workers=workers, chunk=1, limit=_MOLECULE_LIMIT)
    )
    all_pieces: list[Piece] = []
    all_results: list[Converted | None] = []
    for piece, result in zip(pieces, results, strict=True):
        parts = [piece] if result is not None else piece.each()
        all_pieces += parts
        all_results += [result] if result is not None else [next(found) for _ in parts]
    return all_pieces, all_results


def _count_refused(
    pieces: Sequence[Piece], results: Sequence[Converted | None], refused: Sequence[tuple[str, str]]
) -> tuple[Exclusion, ...]:
    counts: dict[str, int] = defaultdict(int)
    examples: dict[str, list[str]] = defaultdict(list)
    for reason, example in refused:
        counts[reason] += 1
        examples[reason].append(example)
    for index, result in enumerate(results):
        if result is None:
            piece = pieces[index]
            counts[_CRASHED] += piece.count
            examples[_CRASHED].append(f"molecule {piece.first + 1}: over {_MOLECULE_LIMIT:.0f} s, or a crash")
            continue
        for reason, example in result.refused:
            counts[reason] += 1
            examples[reason].append(example)
    ranked = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return tuple(Exclusion(reason=r, count=counts[r], examples=tuple(examples[r][:EXAMPLES])) for r in ranked)


def _notes(done: Sequence[Converted]) -> list[str]:
    completed, embedded = sum(r.completed for r in done), sum(r.embedded for r in done)
    unrelaxed = sum(r.unrelaxed for r in done)
    notes = [
        (completed, f"{completed} molecules were given the hydrogens they lacked."),
        (embedded, f"{embedded} molecules were given a geometry by RDKit (ETKDGv3, relaxed with MMFF94)."),
        (unrelaxed, f"{unrelaxed} of these geometries the force field could not relax fully."),
    ]
    return [text for count, text in notes if count]


def _rdkit_version() -> str:
    """The version of RDKit.

    Raises:
        UniteError: it is not installed.
    """
    try:
        from rdkit import rdBase
    except ImportError as error:
        hint = "pip install rdkit, or prepare the data on a machine that has it and copy the cache folder"
        raise UniteError("preparing molecules needs RDKit, which cannot be imported", hint) from error
    return str(rdBase.rdkitVersion)
