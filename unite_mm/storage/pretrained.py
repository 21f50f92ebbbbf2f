"""Loading a model from a run, a checkpoint or an exported folder, and exporting it."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.errors import UsageError
from unite_mm.registry.build import build_model, load_modalities
from unite_mm.storage.checkpoint import RECORD, load_state, newest_checkpoint, read_record, read_tensors, write_folder
from unite_mm_schemas.checkpoint import CheckpointRecord


def find_record(folder: Path) -> tuple[Path, CheckpointRecord]:
    """The folder that holds the tensors, and its record: `folder` itself, or the newest intact checkpoint of a run.

    Raises:
        UsageError: there is no model in the folder.
        UniteError: there is one, but it is damaged.
    """
    if (folder / RECORD).is_file():
        return folder, read_record(folder)
    if (folder / "checkpoints").is_dir():
        found, record, _ = newest_checkpoint(folder)
        return found, record
    what = "does not exist" if not folder.exists() else "holds neither a checkpoint nor an exported model"
    raise UsageError(f"{folder} {what}", "give a run folder (it holds `checkpoints/`) or an exported folder")


def load_model(folder: Path, *, ema: bool = True) -> UNITE:
    """The model of a folder, with averaged (`ema`) or raw weights, on the CPU.

    Raises:
        UsageError: there is no model in the folder, or a plugin it needs is missing.
        UniteError: files are damaged or do not fit.
    """
    where, record = find_record(folder)
    modalities = load_modalities(record.config)
    statistics = {name: entry.statistics for name, entry in record.modalities.items()}
    model = build_model(record.config, modalities, statistics)
    load_state(model, read_tensors(where, "weights"), str(where))
    if ema and "ema.safetensors" in record.files:
        state = {**model.state_dict(), **read_tensors(where, "ema")}
        load_state(model, state, str(where))
    model.record = record
    return model


def load_trunk(model: UNITE, folder: Path) -> None:
    """Give a new model the trunk of another one, averaged weights where there are any; ends and heads stay as they are.

    A model with separate weights takes the other's two trunks, or its only one twice.

    Raises:
        UsageError: there is no model in the folder, or its trunk is of another size.
        UniteError: files are damaged.
    """
    where, record = find_record(folder)
    theirs, own = record.config.trunk.model_dump(), model.config.trunk.model_dump()
    other = [f"trunk.{key} is {theirs[key]} there and {own[key]} here" for key in own if own[key] != theirs[key]]
    if other:
        raise UsageError(f"the trunk of {folder} is another: {', '.join(other)}", "leave these settings out")
    tensors = read_tensors(where, "weights")
    if "ema.safetensors" in record.files:
        tensors |= read_tensors(where, "ema")
    encoder = _below("encoder.trunk.", tensors)
    load_state(model.encoder.trunk, encoder, str(where))
    if model.separate_denoiser is not None:
        load_state(model.separate_denoiser.trunk, _below("separate_denoiser.trunk.", tensors) or encoder, str(where))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def export_model(model: UNITE, folder: Path) -> None:
    """Write weights, configuration and statistics: all that `UNITE.from_pretrained` needs.

    Raises:
        UsageError: the model was not loaded from a checkpoint.
        UniteError: the folder cannot be written.
    """
    if model.record is None:
        raise UsageError("only a loaded model can be exported", "load it with UNITE.from_pretrained")
    record = model.record.model_copy(update={"kind": "export"})
    write_folder(folder, {"weights": model.state_dict()}, record)
