"""`unite-mm train --dry-run --nodes N`: what a run would need of a cluster that is not at hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unite_mm.cli.types import NUMBER
from unite_mm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from unite_mm.config import RunOptions
    from unite_mm.progress import Progress

F = TypeVar("F", bound="Callable[..., Any]")

FLAGS = ("nodes", "tflops", "share")
"""Of the plan alone."""

MOST = {"tflops": 1e6, "share": 1.0}
"""What numbers of a plan may be at most; they are above 0."""


def plan_options(function: F) -> F:
    """The flags of a plan."""
    function = click.option(
        "--share",
        type=NUMBER,
        help="With --nodes: share of that rate that training reaches.  [default: 0.3 with compiled blocks, else 0.11]",
    )(function)
    function = click.option(
        "--tflops",
        type=NUMBER,
        help="With --nodes: rate of a GPU, in 10^12 operations per second.  [default: 989 for bf16-mixed, else 67]",
    )(function)
    return click.option(
        "--nodes",
        type=click.IntRange(1, 100_000),
        help="With --dry-run: what the run would need of so many machines, of --devices GPUs each.",
    )(function)


def take_plan(options: dict[str, Any], dry_run: bool, resume: bool) -> dict[str, Any] | None:
    """The flags of a plan, taken out of all others; None where no plan is asked for.

    Raises:
        UsageError: they are given without each other, or for what is no plan.
    """
    flags = {name: options.pop(name) for name in FLAGS}
    given = [f"--{name}" for name, value in flags.items() if value is not None]
    if not given:
        return None
    if not dry_run or resume:
        raise UsageError(
            f"{given[0]} plans a new run and trains nothing",
            "add --dry-run and leave out --resume; how many machines take part in a run, torchrun or SLURM says",
        )
    if flags["nodes"] is None:
        raise UsageError(f"{given[0]} belongs to a plan", "add --nodes N")
    for name, most in MOST.items():
        if flags[name] is not None and not 0 < flags[name] <= most:
            raise UsageError(f"--{name} is {flags[name]:g}", f"give a number above 0, at most {most:,.0f}")
    return flags


def show_plan(options: "RunOptions", flags: dict[str, Any], cache: Path, progress: "Progress") -> None:
    """Print what the run would need.

    Raises:
        UsageError: the configuration or data cannot be used, or the GPUs cannot share the batch.
    """
    from unite_mm.cli.tables import print_rows
    from unite_mm.config import resolve
    from unite_mm.registry import discover
    from unite_mm.training.cluster import Cluster
    from unite_mm.training.dry_run import describe

    config = resolve(options, discover())
    cluster = Cluster(flags["nodes"], config.train.devices or 1, flags["tflops"], flags["share"])
    print_rows(describe(config, cache, progress, cluster).rows)
