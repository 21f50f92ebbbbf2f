"""Loading a network from a run, a checkpoint or an exported folder, and exporting it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from unite_mm.contract import Modality, Statistics
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.registry import discover
from unite_mm.registry.build import BYTES, build_network, load_modalities
from unite_mm.storage.checkpoint import RECORD, load_state, newest_checkpoint, read_record, read_tensors, write_folder
from unite_mm_schemas.checkpoint import CheckpointRecord


@dataclass(frozen=True)
class LoadedModel:
    """What a folder holds.

    Attributes:
        network: with its weights, on the CPU.
        modalities: the modalities of its plugins.
        statistics: each modality's facts of its training split.
        record: everything else the folder says.
    """

    network: Network
    modalities: dict[str, Modality]
    statistics: dict[str, Statistics]
    record: CheckpointRecord


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


def load_model(folder: Path, *, ema: bool = True) -> LoadedModel:
    """The model of a folder, with averaged (`ema`) or raw weights, on the CPU.

    Raises:
        UsageError: there is no model in the folder, a plugin it needs is missing, or its record is of another model.
        UniteError: files are damaged or do not fit.
    """
    where, record = find_record(folder)
    check_plugins(record)
    modalities = load_modalities(record.config)
    statistics: dict[str, Statistics] = {name: entry.statistics for name, entry in record.modalities.items()}
    weights = read_weights(where, record, ema=ema)
    most = sum(tensor.numel() * BYTES for tensor in weights.values())
    network = build_network(record.config, modalities, statistics, most)
    load_state(network, weights, str(where))
    return LoadedModel(network, modalities, statistics, record)


def check_plugins(record: CheckpointRecord) -> None:
    """Ask for the plugins that a model needs.

    Raises:
        UsageError: one is not installed; the message names the distribution that provided it.
    """
    registry = discover()
    for name in record.config.modalities:
        known = record.modalities.get(name)
        registry.get(name, known.distribution if known else None)


def read_weights(where: Path, record: CheckpointRecord, *, ema: bool = True) -> dict[str, Tensor]:
    """All weights of a folder by their names; averaged ones replace the raw ones where there are any and `ema` is set.

    Raises:
        UniteError: files are damaged.
    """
    weights = read_tensors(where, "weights")
    if ema and "ema.safetensors" in record.files:
        weights |= read_tensors(where, "ema")
    return weights


def load_trunk(network: Network, folder: Path) -> None:
    """Give a new network the trunk of another one, averaged weights where there are any; all else stays as it is.

    A network with separate weights takes the other's two trunks, or its only one twice.

    Raises:
        UsageError: there is no model in the folder, or its trunk is of another size.
        UniteError: files are damaged.
    """
    where, record = find_record(folder)
    theirs, own = record.config.trunk.model_dump(), network.encoder.trunk.config.model_dump()
    other = [f"trunk.{key} is {theirs[key]} there and {own[key]} here" for key in own if own[key] != theirs[key]]
    if other:
        raise UsageError(f"the trunk of {folder} is another: {', '.join(other)}", "leave these settings out")
    weights = read_weights(where, record)
    encoder = _below("encoder.trunk.", weights)
    load_state(network.encoder.trunk, encoder, str(where))
    if network.separate_denoiser is not None:
        denoiser = _below("separate_denoiser.trunk.", weights) or encoder
        load_state(network.separate_denoiser.trunk, denoiser, str(where))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def export_model(network: Network, record: CheckpointRecord, folder: Path) -> None:
    """Write weights, configuration and statistics: all that `UNITE.from_pretrained` needs.

    Raises:
        UniteError: the folder cannot be written.
    """
    write_folder(folder, {"weights": network.state_dict()}, record.model_copy(update={"kind": "export"}))
