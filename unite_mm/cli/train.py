"""`unite-mm train`."""

import os
from contextlib import ExitStack, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unite_mm.cli.options import Command, Settings, cache_option, set_option, workers_option
from unite_mm.cli.planning import plan_options, show_plan, take_plan
from unite_mm.cli.start import ask_for_plugins, refuse_export, trained, trunk_of
from unite_mm.cli.terminal import say
from unite_mm.cli.types import CountOrAuto, PathName
from unite_mm.errors import UniteError, UsageError

if TYPE_CHECKING:
    from unite_mm.config import RunOptions
    from unite_mm.progress import Progress
    from unite_mm.training.parallel import Decision
    from unite_mm.training.state import TrainSummary
    from unite_mm_schemas.config import RunConfig

RUN_FOLDER = "UNITE_MM_RUN_FOLDER"
"""Environment variable that tells the processes a run starts for its other devices where the run lies."""

PICTURED = 36
"""Samples drawn at the end of a run."""

UNSHOWN = ("learning_rate", "seconds")
"""Records that say nothing about how a run ended."""


class TrainCommand(Command):
    """Its help ends with the regimes, a line each."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from unite_mm.config.regimes import REGIMES

        with formatter.section("Regimes"):
            formatter.write_dl([(name, one.description) for name, one in REGIMES.items()])


@click.command(cls=TrainCommand)
@click.option("--modality", "modalities", multiple=True, metavar="NAME", help="Modality to train; may be repeated.")
@click.option(
    "--data", "sources", multiple=True, metavar="SOURCE", help="A source the modality knows, or a path; or NAME=SOURCE."
)
@click.option(
    "--preset",
    multiple=True,
    metavar="PRESET",
    help="A preset of the modality, or NAME=PRESET; `unite-mm plugins show NAME` lists them.",
)
@click.option("--regime", metavar="NAME", help="Which system to train: one of the regimes below.")
@click.option("--config", "file", type=PathName(dir_okay=False), help="A YAML configuration file.")
@set_option
@click.option("--out", type=PathName(file_okay=False), help="Run folder.  [default: runs/NAME-TIME]")
@click.option("--resume", is_flag=True, help="Continue the run in --out from its newest checkpoint.")
@click.option(
    "--recipe",
    type=click.Choice(["joint", "decoder", "decoder-gan"]),
    help="What a step trains: all parts, or the decoder of a trained model alone, on request against a discriminator.  "
    "[default: as the regime says]",
)
@click.option("--init", metavar="RUN", type=PathName(), help="With --recipe decoder or decoder-gan: the trained model.")
@click.option(
    "--init-trunk",
    metavar="RUN",
    type=PathName(),
    help="Start from the trunk of another run, of any modality.",
)
@click.option("--freeze-trunk", is_flag=True, default=None, help="Leave that trunk as it is; train the rest.")
@click.option("--max-steps", type=int, help="Length in optimizer steps.")
@click.option("--max-time", metavar="DURATION", help="Length in time: 90s, 30m, 1h30m.")
@click.option(
    "--devices",
    type=CountOrAuto(),
    metavar="INTEGER",
    help="Number of devices, or CPU processes.  [default: auto, what is fastest here]",
)
@click.option("--precision", help="32-true or bf16-mixed.")
@click.option("--dry-run", is_flag=True, help="Show parameters, memory, batches and steps; train nothing.")
@plan_options
@cache_option
@workers_option
def train(out: Path | None, resume: bool, dry_run: bool, cache: Path, workers: int, **options: Any) -> None:
    """Train a model: tokenizer, decoder and generator at once."""
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.config import RunOptions
    from unite_mm.training.distribution import goes_on, is_first_process
    from unite_mm.training.parallel import handed

    plan = take_plan(options, dry_run, resume)
    if plan is not None:
        with TerminalProgress() as progress:
            return show_plan(run_options(options), plan, cache, progress)
    # Where torchrun or SLURM runs the same command again, the run folder has its settings.
    again = out is not None and goes_on() and (out / "config.json").is_file()
    resume = resume or again
    decision, folder = _prepare(RunOptions() if again else run_options(options), out, resume)
    config = decision.config
    with TerminalProgress() as progress, ExitStack() as stack:
        if dry_run:
            return _dry_run(decision, cache, progress)
        if again and is_first_process(config.train.devices or 1):
            progress.say(f"note: {folder} holds a run, which goes on with the settings that it has")
        if not is_first_process(config.train.devices or 1):
            _fit(config, folder, cache, resume, progress, workers)
            return
        folder = _claim(folder, stack, named=out is not None)
        stack.callback(os.environ.pop, RUN_FOLDER, None)
        os.environ[RUN_FOLDER] = str(folder)
        stack.enter_context(handed(config))
        _announce(decision, folder, progress)
        summary = _fit(config, folder, cache, resume, progress, workers)
        picture = None if summary.interrupted else _save_picture(folder, progress)
    _conclude(summary, picture)


def run_options(flags: dict[str, Any]) -> "RunOptions":
    """What the flags of the command ask for.

    Raises:
        UsageError: they exclude each other.
    """
    from unite_mm.config import RunOptions, parse_duration

    if flags["max_steps"] is not None and flags["max_time"] is not None:
        raise UsageError("--max-steps and --max-time exclude each other")
    if flags["max_time"] is not None:
        flags["max_time"] = parse_duration(flags["max_time"])
    recipe, init = flags.pop("recipe"), flags.pop("init")
    trunk, frozen = flags.pop("init_trunk"), flags.pop("freeze_trunk")
    given = {name: flags.pop(name) for name in ("max_steps", "max_time", "devices", "precision")}
    settings = {name: value for name, value in given.items() if value is not None}
    sections = {"train": settings, "recipe": {"freeze_trunk": True} if frozen else {}}
    return RunOptions(
        **{**flags, "preset": flags["preset"] or None},
        flags={name: section for name, section in sections.items() if section},
        base=trunk_of(trunk),
        start=trained(recipe, init),
    )


def _prepare(options: "RunOptions", out: Path | None, resume: bool) -> tuple["Decision", Path]:
    """The resolved configuration with how it uses this machine, and the run folder.

    Raises:
        UsageError: the configuration is wrong, or the folder does not fit what is asked for.
    """
    from unite_mm.config import resolve, resolve_resumed
    from unite_mm.registry import discover

    if resume:
        if out is None:
            raise UsageError("--resume needs the run folder", "name it with --out")
        saved, registry = _saved_config(out), discover()
        if any(name not in registry.plugins for name in saved.modalities) and (out / "checkpoints").is_dir():
            ask_for_plugins(out)
        return _settle(resolve_resumed(saved, options, registry), resumed=True), out
    registry = discover()
    config = resolve(options, registry)
    for name, own in config.modalities.items():
        registry.get(name).source(own.source)  # refuses a run without data before anything is shown or made
    decision = _settle(config, resumed=False)
    folder = _default_folder(decision.config) if out is None else _checked(out, decision.config)
    return decision, folder


def _settle(config: "RunConfig", *, resumed: bool) -> "Decision":
    """How the run uses this machine; the processes that a run has started do as the first one decided.

    Raises:
        UsageError: it cannot run here as it is configured.
    """
    from unite_mm.training.distribution import is_first_process
    from unite_mm.training.parallel import Decision, handed_on, settle

    decided = None if is_first_process(1) else handed_on(config)
    if decided is not None:
        return Decision(decided, "")
    settings = click.get_current_context().find_object(Settings)
    return settle(config, may_start=settings is not None and settings.own_process, resumed=resumed)


def _checked(folder: Path, config: "RunConfig") -> Path:
    """The named folder of a new run.

    Raises:
        UsageError: another process trains in it, or it is not empty.
    """
    from unite_mm.training.distribution import is_first_process
    from unite_mm.training.run_folder import check_new
    from unite_mm.utils.lock import check_free

    if is_first_process(config.train.devices or 1):
        check_free(folder)
        check_new(folder)
    return folder


def _claim(folder: Path, stack: ExitStack, *, named: bool) -> Path:
    """Lock the run folder; of a default name that is taken, which is one of this second, the next free one.

    Raises:
        UsageError: another process trains in the folder that the user named.
    """
    from unite_mm.utils.lock import locked

    if named:
        stack.enter_context(locked(folder))
        return folder
    for number in count(1):
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if path.exists():
            continue
        with suppress(UsageError):
            stack.enter_context(locked(path))
            return path
    raise AssertionError("numbers end")


def _saved_config(folder: Path) -> "RunConfig":
    from pydantic import ValidationError

    from unite_mm.config import read_yaml
    from unite_mm.utils.validation import check_format, one_line
    from unite_mm_schemas.config import RunConfig

    path = folder / "config.json"
    if not path.is_file():
        refuse_export(folder)
        raise UsageError(f"{folder} holds no run: it has no config.json", "leave out --resume to start one")
    content = read_yaml(path)
    check_format(path, content)
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {one_line(error, RunConfig)}") from error


def _default_folder(config: "RunConfig") -> Path:
    from unite_mm.training.distribution import is_first_process, started_elsewhere

    devices = config.train.devices or 1
    if not is_first_process(devices) and RUN_FOLDER in os.environ:
        return Path(os.environ[RUN_FOLDER])
    if started_elsewhere(devices):
        raise UsageError("a run of several processes needs a folder", "name it with --out")
    return Path("runs") / f"{'+'.join(config.modalities)}-{datetime.now():%Y%m%d-%H%M%S}"


def _dry_run(decision: "Decision", cache: Path, progress: "Progress") -> None:
    from unite_mm.cli.tables import print_rows
    from unite_mm.training.dry_run import describe

    forecast = describe(decision.config, cache, progress)
    print_rows([*forecast.rows, ("run as", decision.text)])
    for note in decision.notes:
        progress.say(note)
    forecast.check()


def _fit(
    config: "RunConfig", folder: Path, cache: Path, resume: bool, progress: "Progress", workers: int
) -> "TrainSummary":
    import logging

    from unite_mm.training.trainer import train as fit

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return fit(config, folder, cache=cache, resume=resume, progress=progress, workers=workers)


def _announce(decision: "Decision", folder: Path, progress: "Progress") -> None:
    """The essentials of the resolved configuration, in four lines."""
    from unite_mm.registry import discover
    from unite_mm.utils.durations import duration

    registry, config = discover(), decision.config
    trunk, settings = config.trunk, config.train
    for name, run in config.modalities.items():
        own = ", ".join(f"{key}={value}" for key, value in run.config.items())
        progress.say(f"modality {name}: data {registry.get(name).source(run.source)}; {own}")
    length = f"{settings.max_steps:,} steps" if settings.max_steps else duration(settings.max_time or 0)
    progress.say(
        f"trunk {trunk.width} wide, {trunk.depth} deep, {trunk.heads} heads; batch {settings.batch_size}; {length}; "
        f"{settings.precision}; seed {settings.seed}"
    )
    progress.say(decision.text + ("; the first step compiles them, for a minute or so" if settings.compile else ""))
    for note in decision.notes:
        progress.say(note)
    progress.say(f"run folder {folder}")


def _save_picture(folder: Path, progress: "Progress") -> Path | None:
    """Pictures of generated samples; what cannot be drawn here is no failure of the run."""
    from unite_mm.api import UNITE

    model = UNITE.from_pretrained(folder)
    drawn = None
    for name, modality in model.modalities.items():
        path = folder / (f"samples-{name}.png" if len(model.modalities) > 1 else "samples.png")
        try:
            modality.save_picture(model.generate(PICTURED, modality=name, progress=progress), path)
            drawn = drawn or path
        except (UniteError, ImportError) as error:  # RDKit, say, need not be installed where training runs
            progress.say(f"no picture of samples: {error.message if isinstance(error, UniteError) else error}")
    return drawn


def _queue_again(job: str, folder: Path) -> None:
    """Have SLURM run the job again, which then goes on from the checkpoint."""
    import subprocess

    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, timeout=60)
        say(f"queued      job {job} runs again and goes on")
    except (OSError, subprocess.SubprocessError) as error:
        say(f"job {job} could not be queued again ({error}); continue with unite-mm train --resume --out {folder}")


def _conclude(summary: "TrainSummary", picture: Path | None) -> None:
    from unite_mm.cli.tables import print_rows
    from unite_mm.utils.durations import duration

    rows = [(name, f"{value:.5g}") for name, value in summary.losses.items() if name not in UNSHOWN]
    if rows:
        print_rows(rows, header=("measured", "newest"))
    state = "interrupted" if summary.interrupted else "done"
    say(f"{state}: {summary.step:,} steps, {duration(summary.seconds)} of training")
    if (summary.folder / "checkpoints").exists():
        say(f"model       {summary.folder / 'checkpoints'}")
    say(f"records     {summary.folder / 'metrics.jsonl'}, {summary.folder / 'tensorboard'}")
    if picture is not None:
        say(f"samples     {picture}")
    if summary.interrupted and summary.queue_again and "SLURM_JOB_ID" in os.environ:
        _queue_again(os.environ["SLURM_JOB_ID"], summary.folder)
    elif summary.interrupted:
        say(f"continue    unite-mm train --resume --out {summary.folder}")
    else:
        say(f"score it    unite-mm evaluate {summary.folder}")
