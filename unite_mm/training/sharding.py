"""Rows of weights, gradients and optimizer state over several ranks, by torch's FSDP2.

Torch gathers the rows of a transformer block (`unite_mm.model.layers`) before it computes and drops them after; what
lies outside of blocks is gathered for the whole step. Gradients of the several backward passes of a step add up whole
and are reduced and cut into rows once, at its end.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from unite_mm.errors import UsageError
from unite_mm.model.network import Network
from unite_mm.training.layout import Whole
from unite_mm.training.muon import Rows
from unite_mm.training.optim import Named, Optimizers, ParameterGroups
from unite_mm.utils.sharded import on_this_rank

SHARD, REPLICATE = "shard", "replicate"
"""Names of the dimensions of the mesh of ranks."""


def mesh_of(device: str, copies: int, parts: int, timeout: float) -> DeviceMesh:
    """The ranks by (`replicate`,) `shard`, with groups of their own; all ranks call this together.

    Args:
        device: kind of device that they compute on.
        copies: groups of ranks that each have all rows; 1: there is no such dimension.
        parts: ranks of each.
        timeout: seconds that an exchange of rows waits for a rank.
    """
    patience, numbers = timedelta(seconds=timeout), torch.arange(copies * parts).view(copies, parts)
    if copies == 1:
        return DeviceMesh.from_group(dist.new_group(timeout=patience), device, mesh_dim_names=(SHARD,))
    replicate, _ = dist.new_subgroups_by_enumeration(numbers.T.tolist(), timeout=patience)
    shard, _ = dist.new_subgroups_by_enumeration(numbers.tolist(), timeout=patience)
    return DeviceMesh.from_group([replicate, shard], device, numbers, mesh_dim_names=(REPLICATE, SHARD))


class Sharded(Whole):
    """Rows of every parameter on each of several ranks: `fsdp`, and `hybrid`.

    Args:
        network: what is trained, on any device; its parameters become rows on the device of the mesh.
        mesh: the ranks, by (`replicate`,) `shard`.

    Raises:
        UsageError: the network cannot be cut.
    """

    def __init__(self, network: Network, mesh: DeviceMesh) -> None:
        self.network = network
        self.heights = heights(network)
        self.parts, rank = mesh[SHARD].size(), mesh.get_local_rank(SHARD)
        self._group, self._rank = mesh.get_group(SHARD), rank
        self._anchor = torch.zeros((), device=mesh.device_type, requires_grad=True)
        self._blocks = network.blocks()
        for block in self._blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        self._root = _Root(network)
        fully_shard(self._root, mesh=mesh, reshard_after_forward=False)
        _fsdp(self._root).set_reshard_after_backward(False, recurse=False)
        with torch.no_grad():
            self._root(self._anchor)  # the first that is called becomes the root of all
        _fsdp(self._root).reshard()
        self._local = {name: nn.Parameter(on_this_rank(parameter)) for name, parameter in network.named_parameters()}
        of_matrices = {id(parameter): self.heights[name] for name, parameter in self._local.items()}
        self.rows: Rows = Rows(self._group, rank, self.parts, of_matrices)

    def local(self, groups: ParameterGroups) -> ParameterGroups:
        def own(named: Named) -> Named:
            return [(name, self._local[name]) for name, _ in named]

        return ParameterGroups(own(groups.muon), own(groups.adamw))

    def begin_step(self, optimizers: Optimizers) -> None:
        for parameter in (*self.network.parameters(), *optimizers.parameters):
            parameter.grad = None
        _fsdp(self._root).set_requires_gradient_sync(False)
        with torch.no_grad():
            self._root(self._anchor)

    def reduce(self, optimizers: Optimizers) -> None:
        root = _fsdp(self._root)
        root.set_requires_gradient_sync(True)
        self._root(self._anchor).backward()  # torch reduces what has added up at the end of a backward pass
        root.reshard()
        self._anchor.grad = None
        reduced = {name: parameter.grad for name, parameter in self.network.named_parameters()}
        for name, local in (*optimizers.muon_named, *optimizers.adamw_named):
            gradient = reduced[name]
            local.grad = torch.zeros_like(local) if gradient is None else on_this_rank(gradient)

    def clip(self, parameters: list[nn.Parameter], limit: float) -> Tensor:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        square = torch.nn.utils.get_total_norm(gradients).square()
        dist.all_reduce(square, group=self._group)
        norm = square.sqrt()
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm

    @contextmanager
    def gathered(self) -> Iterator[None]:
        for module in (self._root, *self._blocks):
            _fsdp(module).unshard()
            _fsdp(module).set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for block in self._blocks:
                _fsdp(block).set_reshard_after_forward(True, recurse=False)
            for module in (self._root, *self._blocks):
                _fsdp(module).reshard()

    def span(self, key: str) -> tuple[int, int] | None:
        name = key if key in self.heights else key.rpartition("/")[0]
        return self.rows.span(self.heights[name], self._rank) if name in self.heights else None

    def own(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Mapping[str, Tensor]]:
        """Rows by the rank that has them; all else, such as buffers and counts, by the first."""
        return {stem: dict(self._owned(content)) for stem, content in tensors.items()}

    def _owned(self, content: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for key, tensor in content.items():
            if isinstance(tensor, DTensor):
                yield key, on_this_rank(tensor)
            elif self._rank == 0 or (tensor.dim() and (key in self._local or key.rpartition("/")[0] in self._local)):
                yield key, tensor


def heights(network: nn.Module) -> dict[str, int]:
    """Rows of every parameter.

    Raises:
        UsageError: one has none.
    """
    for name, parameter in network.named_parameters():
        if not parameter.dim():
            raise UsageError(
                f"train.strategy: {name} is a number without dimension, which cannot be cut into rows",
                "use train.strategy=ddp, or give it the shape (1,)",
            )
    return {name: len(parameter) for name, parameter in network.named_parameters()}


class _Root(nn.Module):
    """What torch takes for the root of all blocks: it holds the parameters that lie in none of them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, anchor: Tensor) -> Tensor:
        """The anchor (), with a zero gradient for every parameter that is gathered: no rank may lack one."""
        there = [parameter for parameter in self.network.parameters() if not isinstance(parameter, DTensor)]
        touched = [parameter.flatten()[0] for parameter in there if parameter.requires_grad]
        return anchor + 0 * torch.stack(touched).sum() if touched else anchor.clone()


def _fsdp(module: nn.Module) -> FSDPModule:
    """A module that `fully_shard` has changed."""
    assert isinstance(module, FSDPModule)
    return module
