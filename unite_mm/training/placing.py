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
    from unite_mm.training.sharding import Sharded, mesh_of  # takes its time to load

    machines = machines if settings.strategy == "hybrid" else 1
    return Sharded(network, mesh_of(ranks.device.type, machines, count // machines, settings.timeout))
