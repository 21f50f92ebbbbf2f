"""Turns a checkpoint of the official UNITE image code into a model of ours; see docs/official-checkpoints.md."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from unite_mm.contract import Imported
from unite_mm.errors import UsageError
from unite_mm_image.config import SMALLEST_FOR_LPIPS, ImageConfig
from unite_mm_image.official.file import OfficialFile, read_official
from unite_mm_image.official.names import UNUSED, Sizes, check_names, check_values, entries, read_sizes
from unite_mm_schemas.config import ModalityRun, RunConfig

MODALITY = "image"
PRESET = "imagenet256-base"
"""Says what no file tells and no output depends on: optimizer, schedule, batch."""

ENCODERS = {(768, 12): 12, (1024, 12): 16, (1024, 24): 16, (1152, 28): 16}
"""Heads of the published encoders by width and depth."""

DECODERS = {(384, 12): 6, (768, 12): 12, (1024, 24): 16}
"""Heads of the published decoders by width and depth."""

CONTEXT_STARTS = {(768, 12): 4}
"""Block before which the in-context tokens enter, for published encoders that say so."""

TIME_SHIFT = 0.5
"""Of all published models."""


def import_official(path: Path, options: Mapping[str, Any]) -> Imported:
    """Read an official checkpoint.

    Args:
        path: the file.
        options: what the file may not tell, where given: `weights`, `heads`, `in_context_start`, `decoder_heads`,
            `time_shift`.

    Raises:
        UsageError: the file is no official checkpoint, or does not tell something that then has to be given.
    """
    given = {name: value for name, value in options.items() if value is not None}
    file = read_official(path, given.get("weights", "ema"))
    sizes = read_sizes(file.tensors)
    check_names(file.tensors, {entry.official: entry for entry in entries(sizes, sizes.heads or 1, MODALITY)})
    answers, assumed = _answers(sizes, given)
    heads = answers["heads"]
    expected = {entry.official: entry for entry in entries(sizes, heads, MODALITY)}
    check_values(file.tensors, expected, sizes, heads)
    classes = [str(number) for number in range(sizes.classes)]
    return Imported(
        config=_configuration(sizes, answers),
        statistics={MODALITY: {"classes": classes, "class_counts": [1] * sizes.classes}},
        state={
            entry.ours: entry.translate(file.tensors[name].float()).clone().contiguous()
            for name, entry in expected.items()
        },
        step=file.step,
        notes=_notes(file, sizes, assumed),
    )


def _answers(sizes: Sizes, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What shapes alone do not tell: from the file, from what is published for models of its size, or as given.

    Returns:
        The answers by option, and what was taken from the published models.

    Raises:
        UsageError: something is not told, or what is given does not fit; the message names the flags.
    """
    encoder, decoder = (sizes.width, sizes.depth), (sizes.decoder_width, sizes.decoder_depth)
    told = sizes.heads
    if told is not None and given.get("heads", told) != told:
        raise UsageError(f"--heads {given['heads']}: the file says {told}", "leave it out")
    known = {
        "heads": ENCODERS.get(encoder) if told is None else None,
        "in_context_start": CONTEXT_STARTS.get(encoder),
        "decoder_heads": DECODERS.get(decoder),
        "time_shift": TIME_SHIFT if encoder in ENCODERS else None,
    }
    wanted = {
        "heads": "N: attention heads of the encoder",
        "in_context_start": "N: block, counted from 0, before which the in-context tokens enter",
        "decoder_heads": "N: attention heads of the decoder",
        "time_shift": "A: shift of the timesteps, 0.5 in the published models",
    }
    answers = dict(given) if told is None else {**given, "heads": told}
    if not sizes.context:
        if "in_context_start" in given:
            raise UsageError("--in-context-start: the file holds no in-context tokens", "leave it out")
        answers["in_context_start"] = 0
    assumed = []
    for name, value in known.items():
        if name not in answers and value is not None:
            answers[name] = value
            assumed.append(f"--{name.replace('_', '-')} {value}")
    missing = [f"--{name.replace('_', '-')} {text}" for name, text in wanted.items() if name not in answers]
    if missing:
        raise UsageError("the file does not tell everything", f"add {'; '.join(missing)}")
    _check_answers(sizes, answers)
    return answers, assumed


def _check_answers(sizes: Sizes, answers: Mapping[str, Any]) -> None:
    heads, decoder_heads, start = answers["heads"], answers["decoder_heads"], answers["in_context_start"]
    if heads < 1 or sizes.width % heads or (sizes.width // heads) % 2:
        raise UsageError(f"--heads {heads} does not divide the encoder's width {sizes.width} into even parts")
    if decoder_heads < 1 or sizes.decoder_width % decoder_heads:
        raise UsageError(f"--decoder-heads {decoder_heads} does not divide the decoder's width {sizes.decoder_width}")
    if sizes.context and not 0 <= start < sizes.depth:
        raise UsageError(
            f"--in-context-start {start}: the encoder has the blocks 0 to {sizes.depth - 1}",
            "a model trained with a later start lost latents instead, which nothing here reproduces",
        )
    if not answers["time_shift"] > 0:
        raise UsageError(f"--time-shift {answers['time_shift']} must be above 0", "1 is no shift")


def _configuration(sizes: Sizes, answers: Mapping[str, Any]) -> RunConfig:
    """The published preset, with what the file and the answers say of the model in its place.

    Raises:
        UsageError: the sizes do not fit together.
    """
    preset = yaml.safe_load((files("unite_mm_image") / "presets" / f"{PRESET}.yaml").read_text(encoding="utf-8"))
    shift = answers["time_shift"]
    changed = {"trunk": _trunk(sizes, answers), "flow": {"shift": shift}, "sampling": {"shift": shift}}
    for section, values in changed.items():
        preset[section] = {**preset[section], **values}
    own = {**preset.pop("modality"), **_own(sizes, answers)}
    try:
        image = ImageConfig.model_validate(own).model_dump(mode="json")
        return RunConfig.model_validate({**preset, "modalities": {MODALITY: ModalityRun(config=image)}})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"the sizes in the file do not fit together: {reason}") from error


def _trunk(sizes: Sizes, answers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "width": sizes.width,
        "depth": sizes.depth,
        "heads": answers["heads"],
        "qk_norm": sizes.qk_norm,
        "in_context_tokens": sizes.context,
        "in_context_start": answers["in_context_start"],
        "time_features": sizes.time_features,
    }


def _own(sizes: Sizes, answers: Mapping[str, Any]) -> dict[str, Any]:
    size = sizes.side * sizes.patch
    return {
        "size": size,
        "patch": sizes.patch,
        "colours": "rgb" if sizes.colours == 3 else "grey",
        "condition": "class" if sizes.classes else "none",
        "channels": sizes.channels,
        "decoder_width": sizes.decoder_width,
        "decoder_depth": sizes.decoder_depth,
        "decoder_heads": answers["decoder_heads"],
        "decoder_hidden": sizes.decoder_hidden,
        "decoder_input_width": sizes.input_width,
        "lpips_weight": 1.0 if size >= SMALLEST_FOR_LPIPS else 0.0,
        "lpips_range": "unit",
    }


def _notes(file: OfficialFile, sizes: Sizes, assumed: list[str]) -> tuple[str, ...]:
    notes = [
        f"{'weights' if file.weights == 'plain' else repr(file.weights) + ' weights'} of an encoder {sizes.width} wide "
        f"and {sizes.depth} deep, a decoder {sizes.decoder_width} wide and {sizes.decoder_depth} deep, "
        f"{sizes.channels} latent channels, {sizes.classes} classes"
    ]
    unused = [name for name in file.tensors if UNUSED.fullmatch(name)]
    if unused:
        notes.append(f"left out, as nothing reads them: {', '.join(unused)}")
    if assumed:
        notes.append(f"taken from the published model of this size: {', '.join(assumed)}")
    return tuple(notes)
