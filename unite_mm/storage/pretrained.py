"""Loading a network from a run, a checkpoint, an exported folder or by a shipped model's name, and exporting it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unite_mm.contract import Modality, Statistics
from unite_mm.errors import UniteError, UsageError
from unite_mm.model.network import Network
from unite_mm.registry import discover
from unite_mm.registry.build import BYTES, build_network, load_modalities
from unite_mm.registry.models import model_folder
from unite_mm.storage.checkpoint import load_state, read_record, read_tensors, write_folder
from unite_mm.storage.model_card import CARD, METRICS, model_card
from unite_mm.storage.portable import portable_record, portable_report
from unite_mm.storage.runs import TRIES, held_model
from unite_mm.storage.shards import file_name, files_of
from unite_mm_schemas.base import RECORD
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import SamplingConfig
from unite_mm_schemas.metrics import MetricsReport

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""How weights may be written. All are float32 again once they are loaded."""


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


def find_record(folder: str | Path) -> tuple[Path, CheckpointRecord]:
    """The folder that holds the tensors, and its record: `folder` itself, or the newest intact checkpoint of a run.

    Newer ones that are damaged are named in a `UniteWarning`. The name of a shipped model stands for its folder.

    Raises:
        UsageError: there is no model in the folder, or no such folder.
        UniteError: there is one, but it is damaged.
    """
    with held_model(model_folder(folder)) as (where, record, _):
        return where, record


def load_model(folder: str | Path, *, ema: bool = True) -> LoadedModel:
    """The model of a folder, or the shipped one of a name, with averaged (`ema`) or raw weights, on the CPU.

    Raises:
        UsageError: there is no model in the folder, a plugin it needs is missing, or its record is of another model.
        UniteError: files are damaged or do not fit.
    """
    where, record, weights = load_weights(folder, ema=ema)
    check_plugins(record)
    modalities = load_modalities(record.config)
    statistics: dict[str, Statistics] = {name: entry.statistics for name, entry in record.modalities.items()}
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


def load_weights(folder: str | Path, *, ema: bool = True) -> tuple[Path, CheckpointRecord, dict[str, Tensor]]:
    """Where the weights of a folder lie, its record, and the weights, all of one moment though a run may be saving.

    Raises:
        UsageError: there is no model in the folder.
        UniteError: files are damaged.
    """
    folder = model_folder(folder)
    for _ in range(TRIES):
        with held_model(folder) as (where, record, hold):
            try:
                weights = read_weights(where, record, ema=ema)
            except UniteError:
                if hold.is_there:
                    raise
                continue
            if hold.is_there:
                return where, record, weights
    raise UniteError(f"{folder} is written anew again and again", "try again when that is done")


def read_weights(where: Path, record: CheckpointRecord, *, ema: bool = True) -> dict[str, Tensor]:
    """All weights of a folder by their names; averaged ones replace the raw ones where there are any and `ema` is set.

    Raises:
        UniteError: files are damaged.
    """
    weights = read_tensors(where, "weights")
    if ema and files_of(record.files, "ema"):
        weights |= read_tensors(where, "ema")
    return weights


def load_trunk(network: Network, folder: Path) -> None:
    """Give a new network the trunk of another one, averaged weights where there are any; all else stays as it is.

    A network with separate weights takes the other's two trunks, or its only one twice.

    Raises:
        UsageError: there is no model in the folder, or its trunk is of another size.
        UniteError: files are damaged.
    """
    where, record, weights = load_weights(folder)
    theirs, own = record.config.trunk.model_dump(), network.encoder.trunk.config.model_dump()
    other = [f"trunk.{key} is {theirs[key]} there and {own[key]} here" for key in own if own[key] != theirs[key]]
    if other:
        raise UsageError(f"the trunk of {folder} is another: {', '.join(other)}", "leave these settings out")
    encoder = _below("encoder.trunk.", weights)
    load_state(network.encoder.trunk, encoder, str(where))
    if network.separate_denoiser is not None:
        denoiser = _below("separate_denoiser.trunk.", weights) or encoder
        load_state(network.separate_denoiser.trunk, denoiser, str(where))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def with_sampling(record: CheckpointRecord, sampling: SamplingConfig) -> CheckpointRecord:
    """The record of the same weights for a model that samples so unless it is told otherwise."""
    config = record.config.model_copy(update={"sampling": sampling})
    return record.model_copy(update={"config": config})


def export_model(
    network: Network,
    record: CheckpointRecord,
    folder: Path,
    *,
    dtype: str = "float32",
    metrics: MetricsReport | None = None,
    name: str | None = None,
    licence: str | None = None,
) -> None:
    """Write weights, configuration, statistics and a model card: all that `UNITE.from_pretrained` needs.

    Paths of this machine are cut down to the names of their files.

    Args:
        network: what to write.
        record: where it comes from.
        folder: new, empty, or an earlier export, which is replaced.
        dtype: of `PRECISIONS`; how floating-point weights are written.
        metrics: of an evaluation of this model, for the card, and kept beside it.
        name: what the card calls it; None: the folder's.
        licence: of the model, for the card; None: not stated.

    Raises:
        UsageError: the folder holds something else.
        UniteError: the folder cannot be written.
    """
    target = folder.resolve()
    check_export(target)
    record = portable_record(record.model_copy(update={"kind": "export"}))
    weights = {
        key: tensor.to(PRECISIONS[dtype]) if tensor.is_floating_point() else tensor
        for key, tensor in network.state_dict().items()
    }
    report = None if metrics is None else portable_report(metrics, name or target.name)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    card = model_card(name or target.name, record, report, parameters=parameters, dtype=dtype, licence=licence)
    texts = {CARD: card}
    if report is not None:
        texts[METRICS] = report.model_dump_json(indent=2) + "\n"
    write_folder(target, {"weights": weights}, record, texts)


def check_export(folder: Path) -> None:
    """Refuse to write an export where anything but an earlier export would be lost.

    Raises:
        UsageError: the folder is no folder, or holds something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name another folder")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    other = sorted(names - {RECORD, CARD, METRICS, file_name("weights")})
    what = f"it holds {other[0][:100]!r}" if other else "it holds no earlier export"
    if not other:
        try:
            if read_record(folder, verify=False).kind == "export":
                return
        except UniteError as error:
            what = error.message
    raise UsageError(f"{folder} is not empty: {what}", "name another folder, or remove it first")
