"""What was run: configuration against the preset's, data, machine; as plain rows for the template."""

from collections.abc import Iterator
from dataclasses import dataclass

from unite_mm.config.layers import flatten
from unite_mm.registry import discover
from unite_mm.reporting.runs import Run
from unite_mm.storage.model_card import data_licence, machine, nearest_preset, setting_text, training_command
from unite_mm.utils.durations import duration
from unite_mm_schemas.card import DataCard
from unite_mm_schemas.checkpoint import CheckpointRecord

Row = tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """A data-set card.

    Attributes:
        title: modality and name of the data.
        rows: what is known of them.
        excluded: reason, count and examples of what was left out.
        notes: what a reader must know.
        files: name, bytes and hash of each.
    """

    title: str
    rows: tuple[Row, ...]
    excluded: tuple[Row, ...]
    notes: tuple[str, ...]
    files: tuple[Row, ...]


@dataclass(frozen=True)
class Setup:
    """How one run came to be.

    Attributes:
        name: of the run.
        rows: machine, time, versions.
        preset: the nearest preset; empty where there is none.
        differing: setting, the preset's value, the run's.
        changes: setting, step, value before, value after a resumption.
        settings: all settings with their values.
        command: what trains it again; empty where that is not known.
        cards: of its data.
        evaluations: settings and seconds of each evaluation.
    """

    name: str
    rows: tuple[Row, ...]
    preset: str
    differing: tuple[Row, ...]
    changes: tuple[Row, ...]
    settings: tuple[Row, ...]
    command: str
    cards: tuple[Card, ...]
    evaluations: tuple[tuple[str, tuple[Row, ...]], ...]


def setup_of(run: Run) -> Setup:
    """How a run came to be."""
    record, evaluations = run.record, tuple(_evaluations(run))
    if record is None:
        return Setup(run.name, (), "", (), (), (), "", (), evaluations)
    preset, changed = nearest_preset(record.config)
    return Setup(
        name=run.name,
        rows=tuple(_facts(record)),
        preset=preset or "",
        differing=tuple((key, setting_text(theirs), setting_text(own)) for key, theirs, own in changed),
        changes=tuple(
            (one.key, f"{one.step:,}", setting_text(one.before), setting_text(one.after)) for one in record.changes
        ),
        settings=tuple(
            (key, setting_text(value)) for key, value in flatten(record.config.model_dump(mode="json")).items()
        ),
        command=training_command(record.config, preset, changed),
        cards=tuple(_card(name, entry.card) for name, entry in record.modalities.items() if entry.card is not None),
        evaluations=evaluations,
    )


def _facts(record: CheckpointRecord) -> Iterator[Row]:
    config = record.config
    yield "steps", f"{record.step:,} of {config.train.batch_size:,} samples"
    if record.seconds:
        yield "time of training", duration(record.seconds)
    yield "machine", machine(config)
    yield "seed", str(config.train.seed)
    yield "network", f"trunk {config.trunk.width} wide, {config.trunk.depth} deep; regime {config.regime.kind}"
    yield "recipe", config.recipe.kind
    yield from ((name, version) for name, version in record.versions.items())
    for name, entry in record.modalities.items():
        yield f"plugin of {name}", entry.distribution


def _card(name: str, card: DataCard) -> Card:
    rows = [
        ("description", card.description),
        ("read", f"{card.read:,}"),
        ("kept", f"{card.kept:,}"),
        *((f"{split} split", f"{count:,}") for split, count in card.splits.items()),
        ("licence", data_licence(discover(), name, card) or "not stated"),
        ("hash of the splits", card.split_hash),
        *((key, str(value)) for key, value in card.settings.items()),
    ]
    return Card(
        title=card.name if card.name == name else f"{name}: {card.name}",
        rows=tuple(rows),
        excluded=tuple((one.reason, f"{one.count:,}", "; ".join(one.examples)) for one in card.excluded),
        notes=card.notes,
        files=tuple((file.name, f"{file.bytes:,}", file.sha256) for file in card.files),
    )


def _evaluations(run: Run) -> Iterator[tuple[str, tuple[Row, ...]]]:
    for one in run.evaluations:
        if one.metrics is not None:
            rows = [(key, setting_text(value)) for key, value in one.metrics.settings.items() if value is not None]
            rows += [
                (f"time: {stage.replace('_', ' ')}", duration(spent)) for stage, spent in one.metrics.seconds.items()
            ]
            yield one.modality, (("data", one.metrics.data or "none"), *rows)
