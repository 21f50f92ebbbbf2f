"""`unite-mm sample` and `unite-mm reconstruct`."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unite_mm.cli.options import (
    Command,
    check_output,
    device_option,
    labels_option,
    load_model,
    sampling_config,
    sampling_options,
    seed_option,
    set_option,
)
from unite_mm.cli.terminal import message, say
from unite_mm.cli.types import NUMBER, SOME_SAMPLES, TEXT, PathName
from unite_mm.errors import UsageError

if TYPE_CHECKING:
    from unite_mm.api import UNITE
    from unite_mm.contract import ConditionSpec
    from unite_mm.progress import Progress

MANY = 100
"""Samples that are generated where nobody says how many."""

LONGEST_CLASS = 18
"""Digits of a class's number."""

run_argument = click.argument("run", type=PathName())
output_option = click.option(
    "-o", "--output", required=True, type=PathName(), help="File to write; its suffix names the format."
)
modality_option = click.option("--modality", metavar="NAME", help="Which modality, where the model has several.")
picture_option = click.option("--picture", type=PathName(dir_okay=False), help="Draw a PNG as well.")


@click.command(cls=Command)
@run_argument
@click.option(
    "-n",
    "--number",
    type=SOME_SAMPLES,
    help=f"How many; with --start-from, of each input.  [default: {MANY}, or 1 of each input]",
)
@output_option
@modality_option
@seed_option
@sampling_options
@click.option(
    "--condition",
    metavar="VALUE",
    help="A class, numbers `a,b` or `name=a,name=b`, or both: `class=NAME,name=a`.  [default: the prior's]",
)
@click.option(
    "--size",
    type=click.IntRange(1, 100_000_000),
    metavar="N",
    help="Registers of each sample, such as the number of atoms.  [default: the prior's]",
)
@click.option(
    "--fragment",
    metavar="SAMPLE",
    help="Part that every sample is to contain: a file, whose first sample counts, or what the plugin reads, such as a "
    "SMILES.",
)
@click.option(
    "--added",
    type=click.IntRange(1, 100_000_000),
    metavar="N",
    help="Registers beyond the fragment's, instead of --size.",
)
@click.option(
    "--start-from",
    metavar="INPUT",
    type=TEXT,
    help="Samples to vary: a file, one sample of it as `FILE#3`, or what the plugin reads, such as a SMILES.",
)
@click.option("--time", type=NUMBER, help="Timestep to start from: 0 keeps nothing of the input, 1 all of it.")
@click.option("--hold-until", type=NUMBER, help="Timestep up to which the fragment is held; 1 is to the end.")
@labels_option
@set_option
@picture_option
@click.option("--report", type=PathName(dir_okay=False), help="Show the samples in an HTML file as well.")
@device_option
def sample(
    run: Path, number: int | None, output: Path, picture: Path | None, report: Path | None, **options: Any
) -> None:
    """Generate samples, or variations of given ones."""
    from unite_mm.cli.progress import TerminalProgress, rate
    from unite_mm.cli.tables import print_score
    from unite_mm.config import sampling_settings
    from unite_mm.evaluation.report import check_results
    from unite_mm.registry import discover
    from unite_mm.sampling.inputs import read_samples
    from unite_mm.sampling.labels import spread_labels
    from unite_mm.storage.samples import write_samples
    from unite_mm.utils.durations import duration

    check_start(options)
    model = load_model(run, options["device"])
    name = model.choose(options["modality"])
    check_output(discover().get(name), output)
    settings = sampling_config(model.config.sampling, options)
    spec = model.modules_of(name).condition
    own = sampling_settings(discover().get(name), options["assignments"])
    condition: Any = parse_condition(options["condition"], spec)
    if options["labels"] is not None:
        if condition is not None:
            raise UsageError("--condition and --labels exclude each other", "one class for all, or classes spread")
        condition = spread_labels(options["labels"], number or MANY, spec, seed=options["seed"])
    check_results(None, [] if report is None else [report], "name another file with --report")
    same = {"modality": name, "seed": options["seed"], "condition": condition, "options": own}
    with TerminalProgress() as progress:
        start, source = time.monotonic(), options["start_from"]
        if source is None:
            asked = {key: options[key] for key in ("size", "fragment", "added")}
            samples = model.generate(number or MANY, sampling=settings, progress=progress, **asked, **same)
        else:
            inputs, each = read_samples(model.modalities[name], source, progress), number or 1
            samples = model.variations(inputs, options["time"], each, sampling=settings, progress=progress, **same)
        spent = time.monotonic() - start
        write_samples(model.modalities[name], samples, output, picture)
        if report is not None:
            with progress.task("Writing the report", None):
                _write_page(model, run, name, samples, report, progress)
    say(
        f"{len(samples):,} samples in {duration(spent)} ({rate(len(samples) / spent)}/s, {samples.evaluations} "
        f"evaluations of the network each): {output}"
    )
    if samples.score is not None:
        print_score(samples.score)


def check_start(options: Mapping[str, Any]) -> None:
    """Refuse flags that say nothing where samples start from given ones, or the other way round.

    Raises:
        UsageError: there are such flags.
    """
    if options["start_from"] is None:
        if options["time"] is not None:
            raise UsageError("--time: there is nothing to start from", "name samples with --start-from")
        return
    for flag in ("size", "fragment", "added", "labels", "hold_until"):
        if options[flag] is not None:
            name = flag.replace("_", "-")
            raise UsageError(f"--{name} and --start-from exclude each other", "variations keep the registers of theirs")
    if options["time"] is None:
        raise UsageError("--start-from needs --time", "such as --time 0.5: 0 keeps nothing of the input, 1 all of it")


def _write_page(model: "UNITE", run: Path, name: str, samples: Sequence[Any], path: Path, progress: "Progress") -> None:
    """The samples, and what made them, as an HTML file."""
    from unite_mm.evaluation.views import Galleries
    from unite_mm.registry.models import name_of
    from unite_mm.reporting.page import write_report_page
    from unite_mm.reporting.runs import sampled_run

    galleries = Galleries(model.modalities[name], progress)
    galleries.add_samples(samples, None)
    write_report_page([sampled_run(name_of(run) or run.resolve().name, model.record, galleries.views)], path)


@click.command(cls=Command)
@run_argument
@click.argument("source", metavar="INPUT", type=PathName())
@output_option
@modality_option
@seed_option
@picture_option
@device_option
def reconstruct(run: Path, source: Path, output: Path, picture: Path | None, **options: Any) -> None:
    """Tokenize and decode the samples of a file.

    Samples that the model has no room or no words for are left out, with a note.
    """
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.registry import discover
    from unite_mm.storage.samples import write_samples

    model = load_model(run, options["device"])
    name = model.choose(options["modality"])
    check_output(discover().get(name), output)
    modality = model.modalities[name]
    with TerminalProgress() as progress:
        inputs = modality.read_inputs(source, progress)
        if not inputs:
            raise UsageError(f"{source} holds no sample")
        outputs = model.reconstruct(inputs, name, seed=options["seed"], skip=True, progress=progress)
        kept = [one for index, one in enumerate(inputs) if index not in outputs.skipped]
        write_samples(modality, outputs, output, picture, kept)
    say_skipped(outputs.skipped, len(inputs))
    say(f"{len(outputs):,} reconstructions: {output}")


def say_skipped(skipped: Mapping[int, str], count: int) -> None:
    """Say how many of the samples were left out, and why the first of them."""
    if skipped:
        first = next(iter(skipped.values()))
        what = f"{len(skipped):,} of {count:,} samples do not fit the model and are left out"
        say(message("note", f"{what}; the first: {first}"), error=True)


def parse_condition(text: str | None, spec: "ConditionSpec") -> int | list[float] | None:
    """The condition of `--condition`: a class's name or number, all numbers in their order, or parts by name.

    Raises:
        UsageError: the modality takes no condition, or this one does not fit.
    """
    if text is None:
        return None
    if spec.kind == "none":
        raise UsageError("--condition: this model takes no condition", "leave it out")
    return _class(text, text, spec, spec.names) if spec.kind == "classes" else _parts(text, spec)


def _class(name: str, text: str, spec: "ConditionSpec", names: tuple[str, ...]) -> int:
    if name in names:
        return names.index(name)
    if name.isdecimal() and len(name) <= LONGEST_CLASS and int(name) < spec.class_count:
        return int(name)
    known = f" or one of: {', '.join(names)}" if names else ""
    raise UsageError(f"--condition {text}: no such class", f"give a number from 0 to {spec.class_count - 1}{known}")


def _parts(text: str, spec: "ConditionSpec") -> list[float]:
    """All parts of a condition, NaN for those that are left open."""
    kinds = ["CLASS"] * (spec.kind == "mixed") + ["NUMBER"] * spec.size
    form = ",".join(f"{n}={k}" for n, k in zip(spec.part_names, kinds, strict=False)) or ",".join(kinds)
    some = spec.left_open != "refused"
    needed = f"some of {spec.parts}" if some else str(spec.parts)
    units = ", ".join(f"{n} in {u}" for n, u in zip(spec.part_names, spec.part_units, strict=False) if u)
    hint = f"write {'any of ' * some}{form}" + (f" ({units})" if units else "")
    wrong = UsageError(f"--condition {text}: {needed} number(s) are needed", hint)
    pairs = [part.rpartition("=")[::2] for part in text.split(",")]
    if spec.kind == "mixed" and not pairs[0][0]:  # a class that stands alone at the beginning
        pairs[0] = ("class", pairs[0][1])
    names = [name.strip() for name, _ in pairs]
    if not any(names):
        names = list(spec.part_names or map(str, range(spec.parts)))
        pairs = [*zip(names, (value for _, value in pairs), strict=False)] if len(pairs) == spec.parts else []
    known = list(spec.part_names or map(str, range(spec.parts)))
    given = {name: value.strip() for name, (_, value) in zip(names, pairs, strict=False)}
    if len(given) != len(pairs) or not given or not set(given) <= set(known) or not (some or len(given) == len(known)):
        raise wrong
    values = [math.nan] * len(known)
    for name, value in given.items():
        at = known.index(name)
        try:
            is_class = spec.kind == "mixed" and at == 0
            values[at] = float(_class(value, text, spec, spec.classes) if is_class else value)
        except ValueError as error:
            raise wrong from error
        if not math.isfinite(values[at]):
            raise wrong
    return values
