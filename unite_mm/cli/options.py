"""Options that several commands share, and what they are turned into."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unite_mm.cli.types import NUMBER, SEED, WORKERS, PathName, interval
from unite_mm.errors import UsageError

if TYPE_CHECKING:
    from unite_mm.api import UNITE
    from unite_mm.registry import Plugin
    from unite_mm_schemas.config import SamplingConfig

F = TypeVar("F", bound=Callable[..., Any])
SAMPLING_FLAGS = (
    *("steps", "solver", "shift", "guidance", "guidance_interval"),
    *("temperature", "churn", "churn_interval", "hold_until", "precision"),
)


@dataclass
class Settings:
    """What holds for the whole call.

    Attributes:
        debug: whether errors show their traceback.
        own_process: whether the arguments are those of the process, which can thus be started again with the same.
    """

    debug: bool = False
    own_process: bool = False


def _set_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).debug = True


DEBUG = click.Option(
    ["--debug"], is_flag=True, expose_value=False, is_eager=True, callback=_set_debug, help="Show tracebacks of errors."
)


class Command(click.Command):
    """A command that takes `--debug` after its name as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(DEBUG)


def cache_option(function: F) -> F:
    """`--cache`: folder of downloads and prepared data, as a `Path`."""
    return click.option(
        "--cache",
        type=PathName(file_okay=False),
        envvar="UNITE_MM_CACHE",
        show_envvar=True,
        callback=lambda _context, _parameter, value: _cache_folder(value),
        help="Folder of downloads and prepared data.  [default: the platform's cache folder]",
    )(function)


def _cache_folder(named: Path | None) -> Path:
    """The folder named, or the platform's own for this user.

    Raises:
        UsageError: there is no home folder that it could lie in.
    """
    import platformdirs

    try:
        folder = (platformdirs.user_cache_path("unite-mm") if named is None else named).expanduser()
    except (RuntimeError, KeyError) as error:
        raise UsageError(NO_HOME, "name a folder with --cache or UNITE_MM_CACHE") from error
    if named is None and not folder.is_absolute():
        raise UsageError(NO_HOME, "name a folder with --cache or UNITE_MM_CACHE")
    return folder


NO_HOME = "there is no folder for downloads and prepared data: this user has no home folder"


workers_option = click.option(
    "--workers",
    type=WORKERS,
    default=0,
    show_default="all cores",
    help="Processes that prepare and score.",
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:1, mps."
)
seed_option = click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of everything random.")
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting, such as qm9.hydrogens=implicit.",
)


def sampling_options(function: F) -> F:
    """Flags of `SAMPLING_FLAGS`: None where not given."""
    for option in reversed(
        (
            click.option("--steps", type=int, help="Steps of the fixed-step solvers."),
            click.option("--solver", help="euler, midpoint, heun2, rk4 or dopri5."),
            click.option("--shift", type=NUMBER, help="Shift of the time grid; above 1 more steps lie late."),
            click.option("--guidance", type=NUMBER, help="Scale of classifier-free guidance; 1 is none."),
            click.option(
                "--guidance-interval",
                type=interval,
                metavar="LOW:HIGH",
                help="Timesteps between which guidance acts, such as 0.1:1.0.",
            ),
            click.option("--temperature", type=NUMBER, help="Standard deviation of the initial noise."),
            click.option("--churn", type=NUMBER, help="Stochastic sampling: noise renewed at each step; 0 is none."),
            click.option(
                "--churn-interval",
                type=interval,
                metavar="LOW:HIGH",
                help="Timesteps between which churn acts, such as 0.6:0.95.",
            ),
            click.option("--precision", help="32-true or bf16-mixed."),
        )
    ):
        function = option(function)
    return function


def sampling_config(base: "SamplingConfig", flags: Mapping[str, Any]) -> "SamplingConfig":
    """The run's sampling settings with those flags that were given.

    Raises:
        UsageError: a value is refused.
    """
    from pydantic import ValidationError

    from unite_mm.utils.validation import one_line
    from unite_mm_schemas.config import SamplingConfig

    given = {key: flags[key] for key in SAMPLING_FLAGS if flags.get(key) is not None}
    try:
        return SamplingConfig.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise UsageError("--" + one_line(error, SamplingConfig)) from error


labels_option = click.option(
    "--labels",
    type=click.Choice(["balanced", "random"]),
    help="Classes of the samples: each equally often, or at random.  [default: as the prior draws them]",
)


def load_model(run: Path, device: str) -> "UNITE":
    """The model of a run folder on a device.

    Raises:
        UsageError: there is no model, or no such device.
        UniteError: its files are damaged.
    """
    from unite_mm.api import UNITE

    return UNITE.from_pretrained(run, device=chosen_device(device))


def chosen_device(device: str) -> str:
    """The device of `--device`, `auto` resolved.

    Raises:
        UsageError: there is no such device.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"cannot compute on --device {device}: {str(error).splitlines()[0]}") from error
    return device


def check_output(plugin: "Plugin", path: Path) -> None:
    """Refuse a file the plugin cannot write before anything is computed.

    Raises:
        UsageError: the suffix names no format that the plugin writes, or a folder there is not empty.
    """
    suffixes = plugin.suffixes("write")
    folder = "/" in suffixes and not path.suffix
    if not folder and not any(path.name.endswith(suffix) for suffix in suffixes if suffix != "/"):
        known = ", ".join("a folder" if suffix == "/" else suffix for suffix in suffixes)
        raise UsageError(f"{path}: modality {plugin.name!r} cannot write this format", f"formats: {known}")
    if path.is_dir() and (not folder or any(path.iterdir())):
        raise UsageError(f"{path} is a folder that is not empty" if folder else f"{path} is a folder")
