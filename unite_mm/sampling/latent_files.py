"""Files of latents: safetensors whose header names the model that made them, so that no other one decodes them.

Tensors: `values` (N, L, C) float32, `mask` (N, L) bool, the registers of each sample, and `known`, where there is any,
what is known of the samples in terms of a condition.

Dimensions: N samples, L registers of the longest, K registers of the layout, C latent channels.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from unite_mm.contract import LatentLayout, Registers
from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.sampling.latents import Latents
from unite_mm.utils.files import write_aside
from unite_mm.utils.validation import one_line
from unite_mm_schemas.latents import LatentsHeader

SUFFIX = ".safetensors"
KEY = "unite_mm"
AGAIN = "write it again with `unite-mm encode`"


def encoder_sha256(network: Network, modality: str) -> str:
    """SHA-256 over the weights that make the latents of a modality: its tokenizer, its head, and the trunk.

    A decoder that was trained further decodes the same latents, and a run and its float32 export are the same model.
    """
    encoder = network.encoder
    parts = {
        "trunk": encoder.trunk,
        "head": encoder.heads[modality],
        "tokenizer": network.modules_of(modality).tokenizer,
    }
    if network.features is not None:
        parts["features"] = network.features[modality]
    return _sha256(
        (f"{part}.{name}", tensor)
        for part, module in parts.items()
        for name, tensor in sorted(module.state_dict().items())
    )


def _sha256(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_latents(latents: Latents, network: Network, path: Path, *, seed: int) -> None:
    """Write latents that a network encoded.

    Args:
        latents: N of them.
        network: what encoded them.
        path: the file, `.safetensors`.
        seed: that they were encoded with.

    Raises:
        UsageError: the file has another suffix.
        OSError: it cannot be written; nothing is left behind.
    """
    check_suffix(path)
    tensors = {"values": latents.values, "mask": latents.registers.mask}
    if latents.known is not None:
        tensors["known"] = latents.known
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    layout = network.modules_of(latents.modality).layout
    header = LatentsHeader(
        modality=latents.modality,
        model=encoder_sha256(network, latents.modality),
        registers=layout.registers,
        channels=layout.channels,
        samples=len(latents),
        seed=seed,
        checksum=_sha256(sorted(tensors.items())),
    )

    content = save(tensors, metadata={KEY: header.model_dump_json()})

    def write(aside: Path) -> None:
        aside.write_bytes(content)

    write_aside(path, write)


def check_suffix(path: Path) -> None:
    """Refuse a name that does not end as files of latents do.

    Raises:
        UsageError: it does not.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: latents are written as {SUFFIX}", f"name it {path.stem or 'latents'}{SUFFIX}")


def read_latents(network: Network, path: Path) -> Latents:
    """Latents that this network encoded.

    Args:
        network: what will decode them.
        path: the file.

    Raises:
        UsageError: the file does not exist, is damaged, is no file of latents, or is of another model.
    """
    header, tensors = _read(path)
    if header.modality not in network.names:
        known = ", ".join(network.names)
        raise UsageError(f"{path}: latents of the modality {header.modality!r}, but the model knows {known}")
    if header.model != encoder_sha256(network, header.modality):
        raise UsageError(
            f"{path}: latents of another model (encoder {header.model[:12]})",
            "decode them with the model that encoded them, or one whose decoder alone was trained further",
        )
    problem = _flaw(header, tensors, network.modules_of(header.modality).layout)
    if problem:
        raise UsageError(f"{path} is damaged: {problem}", AGAIN)
    mask = tensors["mask"]
    registers = Registers(mask, padded=not bool(mask.all()))
    return Latents(tensors["values"], registers, header.modality, known=tensors.get("known"))


def _read(path: Path) -> tuple[LatentsHeader, dict[str, Tensor]]:
    if not path.is_file():
        raise UsageError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}", "name a file of latents")
    try:
        with safe_open(path, framework="pt") as stream:
            text = (stream.metadata() or {}).get(KEY)
            if text is None:
                raise UsageError(f"{path} holds no latents", "`unite-mm encode` writes such files")
            header = LatentsHeader.model_validate_json(text)
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
    except ValidationError as error:
        raise UsageError(f"{path} cannot be read: {one_line(error, LatentsHeader)}", AGAIN) from error
    except (OSError, SafetensorError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}", AGAIN) from error
    if header.checksum != _sha256(sorted(tensors.items())):
        raise UsageError(f"{path} is damaged: its checksum differs", AGAIN)
    return header, tensors


def _flaw(header: LatentsHeader, tensors: dict[str, Tensor], layout: LatentLayout) -> str:
    """What is wrong with a file that is whole but does not hold what it says; empty: nothing."""
    values, mask, known = (tensors.get(name) for name in ("values", "mask", "known"))
    if values is None or mask is None or set(tensors) - {"values", "mask", "known"}:
        return f"it holds {', '.join(sorted(tensors)) or 'nothing'}"
    if mask.dtype != torch.bool or values.dtype != torch.float32:
        return f"{values.dtype} values and a mask of {mask.dtype}"
    length = values.shape[1] if values.dim() == 3 else 0
    if values.shape != (header.samples, length, layout.channels) or mask.shape != values.shape[:2]:
        return f"values of shape {tuple(values.shape)} and a mask of {tuple(mask.shape)}"
    if not 1 <= length <= layout.registers or not bool(mask.any(1).all()):
        return "the registers of a sample are none, or more than the model has"
    if not bool(values.isfinite().all()) or bool(values[~mask].any()):
        return "values that are not finite, or of registers that are not used"
    return "" if known is None or len(known) == header.samples else f"conditions of {len(known)} samples"
