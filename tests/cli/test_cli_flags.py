"""The names of commands and flags are a promise to scripts: they change on purpose or not at all."""

import click
import pytest

from unite_mm.cli.main import COMMANDS, cli

SAMPLING = "--steps --solver --shift --guidance --guidance-interval --temperature --churn --churn-interval --precision"
DATA = "--modality --data --preset --set --cache --workers"

FLAGS = {
    "": "--debug --version",
    "train": "--modality --data --preset --regime --config --set --out --resume --recipe --init --init-trunk "
    "--freeze-trunk --max-steps --max-time --devices --precision --dry-run --nodes --tflops --share --cache --workers "
    "--debug",
    "evaluate": "RUN --split --samples --reconstructions --modality --data --reference --reconstructions-of --features "
    f"--set --seed --labels {SAMPLING} --sweep --device -o/--output --report --definitions --pictures/--no-pictures "
    "--cache --workers --debug",
    "analyse": "RUNS -o/--output --only --modality --data --split --samples --fit-samples --times "
    "--pictures/--no-pictures --seed --device --cache --workers --debug",
    "study": "STUDY -o/--output --modality --data --preset --set --seeds --max-steps --max-time --jobs --dry-run "
    "--cache --debug",
    "sample": "RUN -n/--number -o/--output --modality --seed "
    f"{SAMPLING} --condition --size --fragment --added --start-from --time --hold-until --labels "
    "--set --picture --report --device --debug",
    "report": "RUNS -o/--output --debug",
    "reconstruct": "RUN SOURCE -o/--output --modality --seed --picture --device --debug",
    "encode": "RUN SOURCE -o/--output --modality --seed --device --debug",
    "decode": "RUN SOURCE -o/--output --picture --device --debug",
    "interpolate": "RUN FIRST SECOND -n/--number -o/--output --path --modality --seed "
    f"{SAMPLING} --condition --set --picture --device --debug",
    "export": f"RUN -o/--output --dtype --step --metrics --name --licence {SAMPLING} --debug",
    "push": "FOLDER NAME --private --revision --debug",
    "models list": "--debug",
    "models show": "NAME --debug",
    "import-official": "FILE -o/--output --modality --debug",  # and what the importers ask for
    "data fetch": f"{DATA} --refresh --debug",
    "data info": f"{DATA} --debug",
    "data verify": f"{DATA} --debug",
    "data shard": f"{DATA} -o/--output --megabytes --debug",
    "plugins list": "--debug",
    "plugins show": "NAME --debug",
    "plugins check": "NAME --imports --preset --data --set --cache --debug",
    "plugins new": "NAME --out --free-tokens --debug",
    "schema": "NAME --modality --markdown --export --debug",
}


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    context = click.Context(group)
    found: dict[str, click.Command] = {prefix: group} if not prefix else {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        path = f"{prefix} {name}".strip()
        found |= commands(command, path) if isinstance(command, click.Group) else {path: command}
    return found


def flags(command: click.Command) -> str:
    names = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            names.append((parameter.name or "").upper())
        else:
            names.append("/".join([*parameter.opts, *parameter.secondary_opts]))
    return " ".join(names)


def test_flag_names_are_as_promised() -> None:
    assert {path: flags(command) for path, command in commands(cli).items()} == FLAGS


@pytest.mark.parametrize("path", FLAGS)
def test_every_command_and_option_has_a_help_text(path: str) -> None:
    command = commands(cli)[path]
    assert command.get_short_help_str(limit=200)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.opts


def test_short_help_texts_fit_their_line() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert not command.get_short_help_str(limit=60).endswith("..."), name
