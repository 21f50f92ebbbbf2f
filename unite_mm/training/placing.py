"""Putting a network where the ranks of a run compute it, by `train.strategy`."""

from unite_mm.model.network import Network
from unite_mm.training.distribution import Ranks, nodes
from unite_mm.training.layout import Whole
from unite_mm_schemas.config import TrainConfig


def place(network: Network, settings: TrainConfig, ranks: Ranks) -> Whole:
    """Move a network to its device, whole or cut into rows; every rank calls this with the same weights.

    Args:
        network: on the CPU.
        settings: of the run.
        ranks: that train it.

    Raises:
        UsageError: the network cannot be cut.
    """
    count, machines = ranks.shard.ranks, nodes(settings.devices or 1)
    if settings.strategy not in ("fsdp", "hybrid") or count == 1:
        network.to(ranks.device)
        return Whole()
    from torch.distributed.device_mesh import init_device_mesh  # takes its time to load

    from unite_mm.training.sharding import REPLICATE, SHARD, Sharded

    hybrid = settings.strategy == "hybrid" and machines > 1
    shape = (machines, count // machines) if hybrid else (count,)
    names = (REPLICATE, SHARD) if hybrid else (SHARD,)
    return Sharded(network, init_device_mesh(ranks.device.type, shape, mesh_dim_names=names))
