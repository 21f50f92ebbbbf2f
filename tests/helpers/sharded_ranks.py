"""Processes of a tiny run, with weights whole or in rows; importable by each of them."""

import multiprocessing
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from unite_mm.config import RunOptions, resolve
from unite_mm.errors import UniteError
from unite_mm.progress import Silent
from unite_mm.registry import discover
from unite_mm.registry.build import open_modalities
from unite_mm.training.distribution import Ranks, launch
from unite_mm.training.muon import Rows, StackedMuon
from unite_mm.training.trainer import Trainer
from unite_mm_schemas.config import TrainConfig

TINY = (
    "trunk.width=16", "trunk.depth=2", "trunk.heads=2", "trunk.time_features=8", "flow.draws=2", "flow.chunk=1",
    "train.batch_size=8", "train.augment=false", "train.threads=1", "train.log_every=1", "train.validation_samples=8",
    "train.generate_samples=2", "optim.schedule=constant", "sampling.steps=2", "train.accelerator=cpu",
    "train.compile=false",
)  # fmt: skip
IMAGE = (
    "image.size=16", "image.lpips_weight=0", "image.decoder_width=16", "image.decoder_depth=1", "image.decoder_heads=1",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A part of a run.

    Attributes:
        folder: of the run; gone on with where it is there.
        steps: at its end.
        settings: further ones.
        modalities: of the run.
        regime: a name.
    """

    folder: Path
    steps: int
    settings: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("points",)
    regime: str | None = None

    def train(self, ranks: Ranks | None = None, devices: int = 1) -> dict[str, int]:
        """Do it, in one process or as one of several; returns the bytes that lie on this rank."""
        own = (*TINY, *(IMAGE if "image" in self.modalities else ()), *self.settings)
        flags: dict[str, Any] = {"train": {"max_steps": self.steps, "devices": devices}}
        options = RunOptions(modalities=self.modalities, regime=self.regime, assignments=own, flags=flags)
        config = resolve(options, discover())
        again = self.folder.exists()
        ranks = ranks or launch(config.train)
        ranks.any(False)  # nobody makes the folder before all have looked
        opened = open_modalities(config, self.folder.parent / "cache", Silent())
        trainer = Trainer(config, self.folder, opened, ranks, Silent())
        trainer.restore() if again else trainer.begin()
        trainer.fit()
        return held(trainer)


def held(trainer: Trainer) -> dict[str, int]:
    """Bytes of parameters, optimizer state and average on this rank."""
    state = trainer.state
    parameters = state.optimizers.parameters
    found: dict[str, Sequence[torch.Tensor]] = {"parameters": parameters, "average": list(state.ema.average.values())}
    found["optimizer"] = [value for value in state.optimizers.state().values() if value.dim()]
    whole = sum(4 * parameter.numel() for parameter in trainer.network.parameters())
    return {name: sum(4 * value.numel() for value in values) for name, values in found.items()} | {"whole": whole}


def check_muon(rank: int, ranks: int) -> None:
    """Muon steps rows of matrices bit for bit as it does whole ones, where it is given the same gradients."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(7, 5)] * 3 + [(16, 48)] * 2 + [(2, 9)]
    whole = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    rows = Rows(dist.distributed_c10d._get_default_group(), rank, ranks, {})
    spans = [slice(*rows.span(len(matrix), rank)) for matrix in whole]
    parts = [nn.Parameter(matrix.detach()[span].clone()) for matrix, span in zip(whole, spans, strict=True)]
    rows.heights = {id(part): len(matrix) for part, matrix in zip(parts, whole, strict=True)}
    optimizers = [StackedMuon(whole, lr=0.1), StackedMuon(parts, rows, lr=0.1)]
    for _ in range(3):
        for matrix, part, span in zip(whole, parts, spans, strict=True):
            matrix.grad = torch.randn(matrix.shape, generator=generator)
            part.grad = matrix.grad[span].clone()
        for optimizer in optimizers:
            optimizer.step()
    for matrix, part, span in zip(whole, parts, spans, strict=True):
        assert torch.equal(matrix[span], part), tuple(matrix.shape)


def check_together(ranks: Ranks) -> None:
    """What fails on one rank fails on all, with its reason where it is known."""
    mine = ranks.shard.rank == ranks.shard.ranks - 1

    def action() -> int:
        if mine:
            raise UniteError("the disk is full")
        return 1

    try:
        ranks.together(action)
    except UniteError as error:
        assert error.message == ("the disk is full" if mine else "another process of the run has failed")
    else:
        raise AssertionError("it did not fail")
    assert ranks.together(lambda: 2) == 2
    assert ranks.gathered(bytes([ranks.shard.rank, 7])) == [bytes([rank, 7]) for rank in range(ranks.shard.ranks)]


def one_rank(
    rank: int, ranks: int, nodes: int, port: int, jobs: Sequence[Job], queue: "multiprocessing.Queue[Any]"
) -> None:
    """Do jobs as one of several processes; puts what each holds into the queue."""
    torch.set_num_threads(1)
    each = ranks // nodes
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank % each), "GROUP_RANK": str(rank // each),
        "NODE_RANK": str(rank // each), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(each),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    try:
        launched = launch(TrainConfig(devices=each, batch_size=8, accelerator="cpu", threads=1))
        check_muon(rank, ranks)
        check_together(launched)
        queue.put((rank, [job.train(launched, each) for job in jobs]))
    except BaseException:
        queue.put((rank, traceback.format_exc()))
        raise
    dist.barrier()
    dist.destroy_process_group()
