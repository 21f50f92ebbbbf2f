"""Entry point of `unite-mm`: the table of commands, and the one place where errors become messages and exit codes.

Exit codes: 0 done, 2 wrong usage or configuration (nothing was started), 1 a failed run, 130 interrupted.
"""

import difflib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from unite_mm.cli.metadata import pass_over_damaged_metadata
from unite_mm.cli.options import DEBUG, Settings
from unite_mm.cli.terminal import message, prepare_streams, trace
from unite_mm.errors import UniteError, UniteWarning

# OpenMP threads that wait for each other should sleep, not spin: with other work on the machine, spinning makes two
# threads many times slower than one. It must be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

COMMANDS = {
    "train": "unite_mm.cli.train:train",
    "evaluate": "unite_mm.cli.evaluate:evaluate",
    "analyse": "unite_mm.cli.analyse:analyse",
    "study": "unite_mm.cli.study:study",
    "sample": "unite_mm.cli.sample:sample",
    "reconstruct": "unite_mm.cli.sample:reconstruct",
    "report": "unite_mm.cli.report:report",
    "encode": "unite_mm.cli.latents:encode",
    "decode": "unite_mm.cli.latents:decode",
    "interpolate": "unite_mm.cli.latents:interpolate",
    "export": "unite_mm.cli.exporting:export",
    "push": "unite_mm.cli.exporting:push",
    "models": "unite_mm.cli.models:models",
    "import-official": "unite_mm.cli.importing:import_official",
    "data": "unite_mm.cli.data:data",
    "plugins": "unite_mm.cli.plugins:plugins",
    "schema": "unite_mm.cli.schema:schema",
}
"""Commands in the order of the help, each `module:object`."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no such command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


EXAMPLE = """\b
A first model in three minutes:
  unite-mm train --modality qm9 --data embedded --max-time 3m --out runs/first
  unite-mm evaluate runs/first
  unite-mm sample runs/first -n 100 -o samples.sdf
"""


@click.group(cls=LazyGroup, params=[DEBUG], epilog=EXAMPLE, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="unite-mm", message="%(prog)s %(version)s")
def cli() -> None:
    """Train a tokenizer and a latent generative model as one network, for any modality that a plugin provides."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    prepare_streams()
    pass_over_damaged_metadata()
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    settings = Settings(own_process=arguments is None)
    arguments = None if arguments is None else list(arguments)
    try:
        with shown_warnings():
            code: Any = cli.main(arguments, prog_name="unite-mm", standalone_mode=False, obj=settings)
    except (Exception, KeyboardInterrupt) as error:
        if settings.debug:
            trace("".join(traceback.format_exception(error)), error=True)
        text, code = explain(error)
        print(text, file=sys.stderr)
    return code if isinstance(code, int) else 0


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Show our own warnings in a line on standard error, as errors are; those of libraries as Python does."""
    with warnings.catch_warnings():
        usual = warnings.showwarning
        told: set[str] = set()
        one_line = message

        def show(message: Any, category: type[Warning], *arguments: Any, **more: Any) -> None:
            if issubclass(category, UniteWarning):
                if str(message) not in told:
                    text = one_line("warning", str(message))
                    print(text, file=sys.stderr)
                told.add(str(message))
            else:
                usual(message, category, *arguments, **more)

        warnings.filterwarnings("default", category=UniteWarning)
        warnings.showwarning = show
        yield


def explain(error: BaseException) -> tuple[str, int]:
    """The message for the user, one or two lines, and the exit code."""
    if isinstance(error, UniteError):
        return message("error", error.message, error.hint), error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "unite-mm"
        return message("error", " ".join(error.format_message().split()), f"see {command} --help"), error.exit_code
    inner: Any = getattr(error, "inner_exception", None)  # of torch.compile, which wraps what happens meanwhile
    if isinstance(inner, OSError | MemoryError) or type(inner).__name__ == "OutOfMemoryError":
        return explain(inner)
    if isinstance(error, OSError) and error.strerror:
        return message("error", f"{error.strerror}: {error.filename}" if error.filename else error.strerror), 1
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # Path.expanduser
        return message("error", "a path begins with ~, but there is no such home folder", "write the path in full"), 2
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        hint = "lower train.batch_size, sampling.batch_size or --workers"
        return message("error", f"out of memory: {text}", hint), 1
    if _while_compiling(error):
        return message("error", f"train.compile: {text}", _compiler_hint(str(error))), 1
    return message("error", text, "unexpected error; run again with --debug for the traceback"), 1


def _while_compiling(error: BaseException) -> bool:
    """Whether torch.compile raised it; asked by name, because most commands never load that part of torch."""
    return any(kind.__module__.startswith(("torch._inductor", "torch._dynamo")) for kind in type(error).__mro__)


def _compiler_hint(text: str) -> str:
    """How to fix a failed compilation."""
    if "No working C++ compiler" in text or "Failed to find C compiler" in text:
        return "install a C++ compiler (g++ or clang++), or --set train.compile=false"
    if "ImportError" in text:
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        return f"if a run was killed while it compiled, delete {cache_dir()}; or --set train.compile=false"
    return "run again with --debug to see more, or --set train.compile=false"


if __name__ == "__main__":
    main()
