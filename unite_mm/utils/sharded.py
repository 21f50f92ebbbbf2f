"""Modules of which this rank has rows: giving them whole tensors, or their rows."""

from collections.abc import Mapping

import torch.distributed as dist
from torch import Tensor, nn


def as_in(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, or this rank's rows, cut as the parameters of a module are that bear their names.

    For its `load_state_dict`. What does not fit stays as it is, for that to refuse.
    """
    found = dict(state)
    if not _several():
        return found
    from torch.distributed.tensor import DTensor, distribute_tensor

    for name, parameter in module.named_parameters():
        if not isinstance(parameter, DTensor) or name not in found:
            continue
        mesh, placements, whole = parameter.device_mesh, parameter.placements, found[name].to(parameter.device)
        if whole.shape == parameter.to_local().shape:
            found[name] = DTensor.from_local(
                whole, mesh, placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
            )
        elif whole.shape == parameter.shape:
            # Every rank has the whole tensor, so that none has to be sent.
            found[name] = distribute_tensor(whole, mesh, placements, src_data_rank=None)
    return found


def on_this_rank(tensor: Tensor) -> Tensor:
    """What of a tensor lies here: its rows, or all of it; it shares their memory."""
    if not _several():
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def _several() -> bool:
    """Whether there can be rows: the library behind them takes its time to load."""
    return dist.is_available() and dist.is_initialized()
