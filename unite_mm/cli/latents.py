"""`unite-mm encode`, `unite-mm decode` and `unite-mm interpolate`."""

from pathlib import Path
from typing import Any

import click

from unite_mm.cli.options import (
    Command,
    check_output,
    device_option,
    load_model,
    sampling_config,
    sampling_options,
    seed_option,
    set_option,
)
from unite_mm.cli.sample import (
    modality_option,
    output_option,
    parse_condition,
    picture_option,
    run_argument,
    say_skipped,
)
from unite_mm.cli.terminal import say
from unite_mm.cli.types import TEXT, PathName


@click.command(cls=Command)
@run_argument
@click.argument("source", metavar="INPUT", type=TEXT)
@click.option("-o", "--output", required=True, type=PathName(), help="File of latents to write, .safetensors.")
@modality_option
@seed_option
@device_option
def encode(run: Path, source: str, output: Path, **options: Any) -> None:
    """Encode samples as latents.

    INPUT is a file, one sample of it as `FILE#3`, or what the plugin reads, such as a SMILES.

    Samples that the model has no room or no words for are left out, with a note. The file names the model, and no other
    one decodes it.
    """
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.sampling.inputs import read_samples
    from unite_mm.sampling.latent_files import check_suffix, write_latents

    check_suffix(output)
    model = load_model(run, options["device"])
    name = model.choose(options["modality"])
    with TerminalProgress() as progress:
        inputs = read_samples(model.modalities[name], source, progress)
        latents = model.encode(inputs, name, seed=options["seed"], skip=True, progress=progress)
        write_latents(latents, model.network, output, seed=options["seed"])
    say_skipped(latents.skipped, len(inputs))
    _, length, channels = latents.values.shape
    say(f"latents of {len(latents):,} samples, up to {length:,} x {channels}: {output}")


@click.command(cls=Command)
@run_argument
@click.argument("source", metavar="LATENTS", type=PathName())
@output_option
@picture_option
@device_option
def decode(run: Path, source: Path, output: Path, picture: Path | None, device: str) -> None:
    """Decode latents that this model encoded."""
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.registry import discover
    from unite_mm.sampling.coding import BATCH
    from unite_mm.sampling.latent_files import read_latents
    from unite_mm.storage.samples import write_samples

    model = load_model(run, device)
    latents = read_latents(model.network, source)
    check_output(discover().get(latents.modality), output)
    modality, samples = model.modalities[latents.modality], list[Any]()
    with TerminalProgress() as progress, progress.task("Decoding", len(latents)) as advance:
        for part in latents.parts(BATCH):
            samples += model.decode(part)
            advance(len(part))
        write_samples(modality, samples, output, picture)
    say(f"{len(samples):,} samples: {output}")


@click.command(cls=Command)
@run_argument
@click.argument("first", metavar="A", type=TEXT)
@click.argument("second", metavar="B", type=TEXT)
@click.option(
    "-n", "--number", type=click.IntRange(2, 100_000), default=9, show_default=True, help="Samples, with both ends."
)
@output_option
@click.option(
    "--path",
    type=click.Choice(["latent", "flow"]),
    default="latent",
    show_default=True,
    help="Between the latents, or between the noises that the flow, backwards, makes of them.",
)
@modality_option
@seed_option
@sampling_options
@click.option(
    "--condition",
    metavar="VALUE",
    help="Condition of the flow, as for `sample`.  [default: what both samples share]",
)
@set_option
@picture_option
@device_option
def interpolate(run: Path, first: str, second: str, number: int, output: Path, path: str, **options: Any) -> None:
    """Write samples on a path between two.

    A and B are files of one sample each, samples of files as `FILE#3`, or what the plugin reads, such as a SMILES. Both
    must use the same registers: molecules have as many atoms. The ends are their reconstructions.
    """
    from unite_mm.cli.progress import TerminalProgress
    from unite_mm.config import sampling_settings
    from unite_mm.registry import discover
    from unite_mm.sampling.inputs import read_one
    from unite_mm.storage.samples import write_samples

    model = load_model(run, options["device"])
    name = model.choose(options["modality"])
    check_output(discover().get(name), output)
    settings = sampling_config(model.config.sampling, options)
    own = sampling_settings(discover().get(name), options["assignments"])
    condition = parse_condition(options["condition"], model.modules_of(name).condition)
    modality = model.modalities[name]
    with TerminalProgress() as progress:
        one, other = (read_one(modality, named, progress) for named in (first, second))
        samples = model.interpolate(
            one,
            other,
            number,
            "flow" if path == "flow" else "latent",
            modality=name,
            seed=options["seed"],
            condition=condition,
            options=own,
            sampling=settings,
            progress=progress,
        )
        write_samples(modality, samples, output, options["picture"])
    say(f"{len(samples):,} samples from {first} to {second}: {output}")
