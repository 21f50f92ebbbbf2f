"""The card of an exported model: a page that says what it is, how it came to be, how well it does and how to use it."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from unite_mm.config import RunOptions, resolve, settings_that_differ
from unite_mm.config.layers import flatten
from unite_mm.errors import UniteError
from unite_mm.registry import Registry, discover
from unite_mm.storage.front_matter import front_matter
from unite_mm.utils.durations import duration
from unite_mm.utils.metric_text import metric_groups, shown
from unite_mm_schemas.card import DataCard
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.combinations import FINE_TUNES
from unite_mm_schemas.config import RunConfig
from unite_mm_schemas.metrics import Metric, MetricsReport, Score

Difference = tuple[str, Any, Any]
"""A setting's key, a preset's value and a run's own."""

CARD = "README.md"
METRICS = "metrics.json"

MACHINE = ("train.devices", "train.threads", "train.compile", "train.accelerator")
"""Settings that say how a run used its machine, not what it computed."""

LENGTHS = ("max_steps", "max_time")
"""Settings of `train` that say how long a run is; a preset's are those of a first try."""

RECORDS = ("train.log_every", "train.validate_every", "train.validation_samples", "train.keep_checkpoints")
"""Settings that change what is kept of a run, not its result."""


def model_card(
    name: str,
    record: CheckpointRecord,
    report: MetricsReport | None,
    *,
    parameters: int,
    dtype: str,
    licence: str | None = None,
) -> str:
    """The card, in Markdown, with the metadata of hubs before it.

    Args:
        name: of the model, as commands that use it call it.
        record: of the exported folder.
        report: an evaluation of the model; None: it was not evaluated.
        parameters: of the network.
        dtype: how its weights are written.
        licence: of the model, as SPDX names it; None: not stated.
    """
    sections = [
        [f"# {name}", "", *_what(record, parameters, dtype)],
        ["## Use", "", *_use(name, record)],
        ["## Data", "", *_data(record)],
        ["## Training", "", *_training(record)],
        ["## Results", "", *_results(report)],
    ]
    return front_matter(name, record, report, licence) + "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _what(record: CheckpointRecord, parameters: int, dtype: str) -> list[str]:
    names = " and ".join(f"`{name}`" for name in record.modalities)
    trunk, version = record.config.trunk, record.versions.get("unite-mm", "of an unknown version")
    regime = record.config.regime
    what = f"A model of the regime `{regime.kind}` and the modality {names}"
    if regime.features:
        what += ": a frozen network that describes inputs, one that generates such descriptions"
    elif regime.shared_weights:
        what = f"A UNITE model (arXiv 2603.22283) of the modality {names}: one network that tokenizes and generates"
    else:
        what += ": one network that tokenizes, another that generates"
    return [
        f"{what}, with the decoder. {parameters / 1e6:.1f}M parameters; trunk {trunk.width} wide, {trunk.depth} deep. "
        f"Averaged weights after {record.step:,} steps, written as {dtype}, by unite-mm {version}."
    ]


def _use(name: str, record: CheckpointRecord) -> list[str]:
    registry = discover()
    lines = ["```"]
    for modality in record.modalities:
        suffixes = registry.get(modality).suffixes("write") if modality in registry.plugins else []
        which = f" --modality {modality}" if len(record.modalities) > 1 else ""
        lines.append(f"unite-mm sample {name} -n 1000 -o samples{_suffix(suffixes)}{which}")
        lines.append(f"unite-mm evaluate {name} -o evaluation{which}")
    return [
        "The name is that of this folder, or of the model where it ships with a plugin (`unite-mm models list`); from "
        "a hub it is `hf:ORG/NAME`.",
        "",
        *lines,
        "```",
        "",
        "```python",
        "from unite_mm import UNITE",
        "",
        f'model = UNITE.from_pretrained("{name}")',
        "samples = model.generate(100, seed=0)",
        "```",
    ]


def _suffix(suffixes: Sequence[str]) -> str:
    return next((suffix for suffix in suffixes if suffix != "/"), "")


def _data(record: CheckpointRecord) -> Iterator[str]:
    registry = discover()
    for name, entry in record.modalities.items():
        card = entry.card
        if card is None:
            yield f"- `{name}`: not known; the model was imported from elsewhere, or trained without a data-set card."
            continue
        splits = ", ".join(f"{split} {count:,}" for split, count in card.splits.items())
        yield f"- `{name}`: {card.description}. {card.kept:,} of {card.read:,} samples kept ({splits})."
        licence = data_licence(registry, name, card)
        yield f"  - Licence of the data: {licence or 'not stated; ask whoever made them before you pass the model on'}."
        yield from (f"  - Left out: {one.count:,} because {one.reason}." for one in card.excluded)
        yield from (f"  - {note}" for note in card.notes)


def data_licence(registry: Registry, name: str, card: DataCard) -> str:
    """The licence of the data, where the plugin's manifest states one for their source."""
    if name not in registry.plugins:
        return ""
    sources = registry.get(name).manifest.sources
    return next((source.licence for source in sources if source.name == card.name), "")


def _training(record: CheckpointRecord) -> Iterator[str]:
    config = record.config
    preset, differing = nearest_preset(config)
    seconds = f", {duration(record.seconds)}" if record.seconds else ""
    yield f"{record.step:,} steps{seconds}; {machine(config)}; seed {config.train.seed}."
    if config.recipe.kind in FINE_TUNES:
        yield f"The recipe is `{config.recipe.kind}`: the model was trained further from another one."
    yield ""
    told = _told(differing)
    if preset is None:
        yield "No installed preset is near this configuration, which stands in `record.json`."
    elif not told:
        yield f"The configuration is that of the preset `{preset}`."
    else:
        yield f"Configuration against the preset `{preset}`; everything else is as there:"
        yield ""
        yield from _table(
            ("setting", "preset", "this model"), ((f"`{k}`", setting_text(a), setting_text(b)) for k, a, b in told)
        )
    if record.changes:
        yield ""
        yield "Changed on the way, when the run was resumed:"
        yield ""
        rows = (
            (f"`{one.key}`", f"{one.step:,}", setting_text(one.before), setting_text(one.after))
            for one in record.changes
        )
        yield from _table(("setting", "at step", "before", "after"), rows)
    command = training_command(config, preset, differing)
    if command:
        yield from ("", "Trained by", "", "```", command, "```")


def _told(differing: Iterable[Difference]) -> list[Difference]:
    """Without those of the machine and of metrics, which changed nothing of the model."""
    return [one for one in differing if one[0] not in MACHINE and ".config.metrics." not in one[0]]


def nearest_preset(config: RunConfig) -> tuple[str | None, list[Difference]]:
    """The preset with the fewest settings that differ, and these: key, preset's value, this one's."""
    registry, names = discover(), tuple(config.modalities)
    if not names or any(name not in registry.plugins for name in names):
        return None, []
    length = {key: getattr(config.train, key) for key in LENGTHS}
    config = _complete(config, registry)
    found: list[tuple[str, list[Difference]]] = []
    for preset in registry.get(names[0]).presets():
        options = RunOptions(names, preset=f"{names[0]}={preset}", flags={"train": length})
        with suppress(UniteError):  # a broken preset, or an imported model, which has no length
            found.append((preset, settings_that_differ(resolve(options, registry), config)))
    return min(found, key=lambda entry: len(entry[1]), default=(None, []))


def _complete(config: RunConfig, registry: Registry) -> RunConfig:
    """A configuration with the settings of plugins that have come since it was written, at their defaults."""
    modalities = {
        name: run.model_copy(update={"config": registry.get(name).validate(run.config).model_dump(mode="json")})
        for name, run in config.modalities.items()
    }
    return config.model_copy(update={"modalities": modalities})


def machine(config: RunConfig) -> str:
    """How a run used its machine: processes, threads, compiled blocks, precision."""
    train = config.train
    parts = [
        f"{train.devices or 1} process{'es' * ((train.devices or 1) > 1)} on {train.accelerator}",
        f"{train.threads} thread{'s' * (train.threads > 1)} each" if train.threads else "",
        "compiled blocks" if train.compile else "",
        train.precision,
    ]
    return ", ".join(part for part in parts if part)


def training_command(config: RunConfig, preset: str | None, differing: Iterable[Difference]) -> str:
    """The command that trains a model again; empty where it began with another model or no preset is near.

    Args:
        config: its configuration.
        preset: the nearest one.
        differing: settings that differ from it.
    """
    if preset is None or config.recipe.kind in FINE_TUNES:
        return ""
    name = next(iter(config.modalities))
    several = len(config.modalities) > 1
    parts = ["unite-mm", "train"]
    for modality, run in config.modalities.items():
        parts += ["--modality", modality]
        parts += [] if run.source is None else ["--data", f"{modality}={run.source}" if several else run.source]
    parts += ["--preset", f"{name}={preset}" if several else preset]
    train = config.train
    parts += ["--max-steps", str(train.max_steps)] if train.max_steps else ["--max-time", f"{train.max_time or 0:g}s"]
    own = flatten(config.model_dump(mode="json"))
    for key, _, value in _told(differing):
        if key not in own or key in RECORDS or key.endswith(".source"):  # a section of another kind has other keys
            continue
        short = key.replace("modalities.", "", 1).replace(".config.", ".", 1) if ".config." in key else key
        parts += ["--set", f"{short}={setting_text(value)}"]
    return shlex.join(parts)


def _results(report: MetricsReport | None) -> Iterator[str]:
    if report is None:
        yield "Not evaluated yet: `unite-mm evaluate` does, and `unite-mm export --metrics` puts the table here."
        return
    settings = ", ".join(f"{key} {setting_text(value)}" for key, value in report.settings.items())
    yield f"Measured on {report.data or 'data without a card'} after {report.step or 0:,} steps ({settings}). What each"
    yield f"number means, with the definitions, stands in `{METRICS}`."
    for score in report.scores:
        yield ""
        yield f"### {score.kind.capitalize()}"
        yield ""
        yield from _score(score)


def _score(score: Score) -> Iterator[str]:
    beside = any(metric.reference is not None for metric in score.metrics)
    header = ("metric", "value", "95 % interval", "of", *(["reference"] if beside else []))
    rows = []
    for group, metrics in metric_groups(score).items():
        if group:
            rows.append((f"*{_escaped(group)}*", *[""] * (len(header) - 1)))
        rows += [_row(metric, beside) for metric in metrics]
    yield from _table(header, rows)
    if score.histograms:
        yield ""
        rows = [
            (_escaped(one.title), "" if one.total_variation is None else f"{one.total_variation:.3f}")
            for one in score.histograms
        ]
        yield from _table(("distribution", "total variation"), rows)
    if score.reference:
        yield from ("", f"Reference: {score.reference}")
    if score.notes:
        yield ""
        yield from (f"- {note}" for note in score.notes)


def _row(metric: Metric, beside: bool) -> tuple[str, ...]:
    value = "not measured" if metric.value is None else shown(metric, metric.value)
    interval = "" if metric.interval is None else " to ".join(shown(metric, bound) for bound in metric.interval)
    total = "" if metric.total is None else f"{metric.total:,}"
    reference = "" if metric.reference is None else shown(metric, metric.reference)
    return (_escaped(metric.title), value, interval, total, *([reference] if beside else []))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(row)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def setting_text(value: Any) -> str:
    """A setting as `--set` takes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(setting_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
